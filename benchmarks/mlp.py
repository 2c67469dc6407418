"""A classifier of MNIST's shape, 784-400-400-10: a training step of 128 rows, and 200 draws × 1,000 rows.

The data are random images with the labels of a random linear teacher; nothing is downloaded. A step is the gradient
of cross-entropy + kl_weight·KL/P and Adam's update. The same network without Bayes and square matrix products, which
give the machine's peak rate, run for comparison.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import networks, program, race, steps
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.report import MEMORY, Column, Section, against, comparison, memory_against, race_table, records, table

PROGRAM = "benchmarks.mlp"
TITLE = "A classifier, 784-400-400-10"
OWN, LOOP, PLAIN, PLAIN_TORCH = "bbb weight_sampling", "torchbnn", "plain JAX", "plain torch"
FULL: dict[str, Any] = {
    "sizes": (784, 400, 400, 10),
    "batch": 128,
    "rows": 6_400,
    "steps": 100,
    "test_rows": 1_000,
    "draws": 200,
    "prior_std": 0.1,
    "kl_weight": 0.1,
    "learning_rate": 1e-3,
    "seed": 0,
    "square": 2048,
    "products": 10,
}
QUICK: dict[str, Any] = {
    "sizes": (20, 16, 16, 10),
    "batch": 16,
    "rows": 64,
    "steps": 6,
    "test_rows": 20,
    "draws": 10,
    "square": 64,
    "products": 2,
}


# Training: prepare(arrays, settings) -> run() -> the cross-entropy of each step, in nats a row


def train_torchbnn(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Run the plain loop, one Python iteration per step."""
    model = networks.torchbnn_network(arrays, settings)
    return steps.torch_training(arrays, settings, threads, model, steps.torchbnn_penalty(settings, model))


def train_bayesian_torch(arrays: Arrays, settings: Settings, *, threads: int, estimator: str) -> Run:
    """Run the same loop with the layers of Bayesian-Torch."""
    model = networks.bayesian_torch_network(arrays, settings, estimator)
    penalty = steps.bayesian_torch_penalty(settings, model, networks.count_weights(arrays))
    return steps.torch_training(arrays, settings, threads, model, penalty)


def train_plain_torch(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Train the same network without Bayes."""
    return steps.torch_training(arrays, settings, threads, networks.torch_network(arrays), lambda: 0.0)


def train_plain_jax(arrays: Arrays, settings: Settings, *, loop: str) -> Run:
    """Train the same network without Bayes, by a jitted step."""
    return steps.jax_training(arrays, settings, networks.jax_apply, loop)


def train_numpyro(arrays: Arrays, settings: Settings, *, loop: str) -> Run:
    """Use SVI with AutoNormal and TraceMeanField_ELBO."""
    return steps.numpyro_training(arrays, settings, networks.jax_apply, loop)


def train_bbb(arrays: Arrays, settings: Settings, *, forward: str) -> Run:
    """Use `bbb.fit`."""
    return steps.bbb_training(arrays, settings, networks.bbb_model(arrays, settings), forward)


# The predictive: prepare(arrays, settings) -> run() -> mean and std of the logits, each (test rows, 10)


def predict_torchbnn(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Call the network once for each draw, in a Python loop."""
    return networks.torchbnn_draws(arrays, settings, threads)


def predict_plain_torch(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Run the network without Bayes, as many times as there are draws."""
    import torch

    torch.set_num_threads(threads)
    layers = [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in networks.unpack(arrays, "mean")]
    x = torch.from_numpy(arrays["x_test"])
    return networks.torch_chunks(lambda: networks.torch_apply(layers, x)[None], settings, 1)


def predict_plain_jax(arrays: Arrays, settings: Settings) -> Run:
    """Run the network without Bayes, as many times as there are draws."""
    import jax
    import jax.numpy as jnp

    layers, x = networks.jax_layers(arrays, "mean"), jnp.asarray(arrays["x_test"])
    apply = jax.jit(lambda layers, x: networks.jax_apply(layers, x)[None])
    return networks.jax_chunks(lambda _: apply(layers, x), settings, 1)


def predict_numpyro(arrays: Arrays, settings: Settings, *, parallel: bool, batch: int) -> Run:
    """Use `Predictive`, jitted, `batch` draws per call."""
    import jax.numpy as jnp

    batch = min(batch, settings["draws"])
    model, x = steps.numpyro_model(arrays, settings, networks.jax_apply), jnp.asarray(arrays["x_test"])
    return networks.jax_chunks(networks.numpyro_draws(arrays, model, x, batch, parallel=parallel), settings, batch)


def predict_bbb(arrays: Arrays, settings: Settings) -> Run:
    """Use `bbb.predict`."""
    return networks.bbb_predictive(arrays, settings)


# Square matrix products, one after the other: prepare(arrays, settings) -> run() -> the last product's first row


def multiply_jax(arrays: Arrays, settings: Settings) -> Run:
    """Multiply in JAX."""
    import jax
    import jax.numpy as jnp

    left, right = jnp.asarray(arrays["left"]), jnp.asarray(arrays["right"])
    multiply = jax.jit(jnp.matmul)

    def run() -> dict[str, np.ndarray]:
        for _ in range(settings["products"]):
            product = multiply(left, right).block_until_ready()
        return {"row": np.asarray(product[0])}

    return run


def multiply_torch(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Multiply in torch."""
    import torch

    torch.set_num_threads(threads)
    left, right = torch.from_numpy(arrays["left"]), torch.from_numpy(arrays["right"])

    def run() -> dict[str, np.ndarray]:
        for _ in range(settings["products"]):
            product = left @ right
        return {"row": product[0].numpy()}

    return run


TORCH, JAX = ("torch", "torchbnn"), ("jax", "jax.numpy", "optax")
NUMPYRO = ("jax", "numpyro", "numpyro.infer.autoguide")
THREADS = ({"threads": 1}, {"threads": 2})
LOOPS = ({"loop": "python"}, {"loop": "scan"})
FORWARDS = ("weight_sampling", "local_reparam", "flipout")
WHY_TORCH = "batches are tensors before, Adam is fused, and no number is read within the loop; 1 or 2 threads"
WHY_JAX = "one compiled program of a step, or of all steps; nothing is read within the loop"
WHY_CONVOLUTIONS = "a step in one compiled program; in a scan, XLA's convolutions on a CPU took 24 times as long"
WHY_NUMPYRO = "the same, of its own compiled update; TraceMeanField_ELBO has the KL in closed form"
WHY_DRAWS = "one compiled program for many draws; the faster of a vectorised one and a loop"
WORKS = {
    "products": {"JAX": Contender(multiply_jax, JAX), "torch": Contender(multiply_torch, ("torch",), THREADS)},
    "training": {
        PLAIN_TORCH: Contender(train_plain_torch, ("torch",), THREADS, why=WHY_TORCH),
        PLAIN: Contender(train_plain_jax, JAX, LOOPS, why=WHY_JAX),
        "torchbnn": Contender(train_torchbnn, TORCH, THREADS, why=WHY_TORCH),
        **{
            f"Bayesian-Torch {e}": Contender(
                train_bayesian_torch,
                ("torch", "bayesian_torch"),
                tuple(threads | {"estimator": e} for threads in THREADS),
                why=WHY_TORCH,
            )
            for e in ("Flipout", "Reparameterization")
        },
        "numpyro": Contender(train_numpyro, NUMPYRO, LOOPS, why=WHY_NUMPYRO),
        **{f"bbb {f}": Contender(train_bbb, (*JAX, "bbb"), ({"forward": f},)) for f in FORWARDS},
    },
    "predictive": {
        PLAIN_TORCH: Contender(predict_plain_torch, ("torch",), THREADS, why="no gradients, one call a draw"),
        PLAIN: Contender(predict_plain_jax, JAX, why="one compiled program, called without waiting for the last"),
        "torchbnn": Contender(predict_torchbnn, TORCH, THREADS, why="no gradients, and draws into one tensor"),
        "numpyro": Contender(
            predict_numpyro,
            NUMPYRO,
            ({"parallel": True, "batch": 20}, {"parallel": False, "batch": 200}),
            why=WHY_DRAWS,
        ),
        OWN: Contender(predict_bbb, (*JAX, "bbb")),
    },
}


# The run


def problem(*, quick: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the data, the initial parameters and the settings."""
    settings = FULL | (QUICK if quick else {})
    rng = np.random.default_rng(settings["seed"])
    first, last = settings["sizes"][0], settings["sizes"][-1]
    x, x_test = (rng.uniform(0, 1, (settings[rows], first)).astype(np.float32) for rows in ("rows", "test_rows"))
    labels = np.argmax((x - 0.5) @ rng.normal(size=(first, last)), axis=1)
    arrays = {"x": x, "x_test": x_test, "labels": labels, "y": np.eye(last, dtype=np.float32)[labels]}
    return arrays | networks.start(settings["sizes"], settings["prior_std"]), settings


def training_quality(answer: Arrays, arrays: Arrays, settings: Settings) -> dict[str, float]:
    """Compute the mean over the last tenth of the steps; NumPyro reports only the whole cost, with the KL."""
    del arrays
    last = math.ceil(settings["steps"] / 10)
    return {
        {"data_term": "cross-entropy", "cost": "with KL"}[name]: float(np.mean(v[-last:])) for name, v in answer.items()
    }


def predictive_quality(answer: Arrays, arrays: Arrays, settings: Settings) -> dict[str, float]:
    """Compute the root mean square of the mean logits, and their mean standard deviation."""
    del arrays, settings
    rms = math.sqrt(float(np.mean(np.square(answer["mean"]))))
    return {"RMS logit": rms, "mean std": float(np.mean(answer["std"]))}


def operations(settings: Settings) -> float:
    """Compute the number of floating-point operations of the predictive's matrix products."""
    sizes = settings["sizes"]
    per_row = sum(2 * fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes))
    return float(settings["draws"] * settings["test_rows"] * per_row)


def sections(options: program.Options) -> Iterator[Section]:
    """Measure the machine, then race the contenders of both works."""
    arrays, settings = problem(quick=options.quick)
    section, rate = products(settings, options)
    yield section
    yield training(arrays, settings, options)
    yield predictive(arrays, settings, options, rate)


def products(settings: dict[str, Any], options: program.Options) -> tuple[Section, float]:
    """Measure the machine's best rate of square matrix products, in operations per second."""
    n, count = settings["square"], settings["products"]
    rng = np.random.default_rng(settings["seed"])
    arrays = {name: rng.normal(size=(n, n)).astype(np.float32) for name in ("left", "right")}
    results = race.race(PROGRAM, "products", arrays, settings, **{**options.race, "only": None})
    rates = {result.name: count * 2 * n**3 / result.warm for result in results}
    rows = [[result.name, f"{rates[result.name] / 1e9:.0f}", result.note] for result in results]
    title = f"{count} square products of {n}, float32"
    text = table(["library", "GFLOP/s", "note"], rows)
    return Section(title, text, [result.record() for result in results]), max(rates.values())


def training(arrays: Arrays, settings: dict[str, Any], options: program.Options) -> Section:
    """Race the training."""
    results = race.race(PROGRAM, "training", arrays, settings, **options.race)
    judged = [race.judged(result, training_quality, arrays, settings) for result in results]
    return training_section("Training: {steps:,} steps of {batch} rows".format(**settings), judged, settings)


def training_section(title: str, judged: list[race.Result], settings: Settings) -> Section:
    """Return the table of a training: the time and the memory of a step beside those of the step without Bayes."""
    columns: list[Column] = [
        ("cold s", lambda r: f"{r.cold:.2f}"),
        ("ms a step", lambda r: f"{r.warm / settings['steps'] * 1e3:.2f}"),
        *(against(judged, name) for name in (PLAIN, LOOP, OWN)),
        *MEMORY,
        *memory_against(judged, PLAIN),
    ]
    return _section(title, judged, columns)


def predictive(arrays: Arrays, settings: dict[str, Any], options: program.Options, rate: float) -> Section:
    """Race the predictive, and compare its rate with that of square matrix products."""
    results = race.race(PROGRAM, "predictive", arrays, settings, **options.race)
    judged = [race.judged(result, predictive_quality, arrays, settings) for result in results]
    work = operations(settings)
    rates: list[Column] = [
        ("cold s", lambda r: f"{r.cold:.2f}"),
        ("warm s", lambda r: f"{r.warm:.3f}"),
        ("GFLOP/s", lambda r: f"{work / r.warm / 1e9:.0f}"),
        ("of products' rate", lambda r: f"{work / r.warm / rate:.0%}"),
    ]
    columns = [*rates, against(judged, PLAIN), against(judged, LOOP), against(judged, OWN), *MEMORY]
    title = "Predictive: {draws:,} draws × {test_rows:,} rows".format(**settings)
    return _section(title, judged, columns)


def _section(title: str, judged: list[race.Result], columns: list[Column]) -> Section:
    peers = [result for result in judged if result.name == OWN or not result.name.startswith(("plain", "bbb"))]
    text = "\n\n".join([race_table(judged, columns), comparison(peers, OWN, LOOP)])
    return Section(title, text, records(judged, PLAIN, LOOP, OWN))


if __name__ == "__main__":
    program.main(TITLE, sections, __doc__, works=WORKS)
