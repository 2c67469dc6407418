"""The demo: 2,000 training steps of a 1-1000-1 ReLU network, and its 10,000 draws at 300 rows.

Training is full-batch Adam on MSE + kl_weight·KL/P from one start; the quality is that of each contender's own
posterior, by the closed form. The predictive is the mean and the standard deviation of f at each test row, and
every contender uses the same posterior, so that the widths must agree. The third table asks for an error and not for a
number of draws: a Monte Carlo error of the mean of f of 1 % of its standard deviation, at every row, for which draws of
all weights must be 10,000, those of the first layer are fewer with the last one integrated out, and none are needed
where the moments are known in closed form. NumPyro trains on its own ELBO, whose minimum is
the same with noise of std √(kl_weight·N/(2P)).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import networks, program, race
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.measure import Job
from benchmarks.report import MEMORY, Section, comparison, race_table, records, times

PROGRAM = "benchmarks.regression"
TITLE = "The demo's regression"
OWN, LOOP = "bbb", "torchbnn"
QUICK: dict[str, Any] = {"hidden": 20, "steps": 20, "draws": 100, "rows": 50, "test_rows": 20}


# Training: prepare(arrays, settings) -> run() -> the posterior's arrays


def train_torchbnn(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Run the plain loop, one Python iteration per step."""
    return _torch_training(arrays, settings, threads, compiled=False)


def train_torch_compile(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Run the same loop, with the cost and its gradient compiled, and Adam in one fused kernel."""
    return _torch_training(arrays, settings, threads, compiled=True)


def _torch_training(arrays: Arrays, settings: Settings, threads: int, *, compiled: bool) -> Run:
    import torch
    import torchbnn

    torch.set_num_threads(threads)
    torch.manual_seed(settings["seed"])
    model = networks.torchbnn_network(arrays, settings)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    mean_squared_error, kl_per_weight = torch.nn.MSELoss(), torchbnn.BKLLoss(reduction="mean")

    def cost() -> torch.Tensor:
        return mean_squared_error(model(x), y) + settings["kl_weight"] * kl_per_weight(model)

    if compiled:
        cost = torch.compile(cost)

    def run() -> dict[str, np.ndarray]:
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"], fused=compiled)
        for _ in range(settings["steps"]):
            loss = cost()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return networks.torchbnn_posterior(model)

    return run


def train_numpyro(arrays: Arrays, settings: Settings) -> Run:
    """Use SVI with AutoNormal and TraceMeanField_ELBO, all steps in one compiled program."""
    import jax

    svi = networks.numpyro_svi(arrays, settings, _numpyro_model(arrays, settings))
    train = jax.jit(lambda key, x, y: svi.run(key, settings["steps"], x, y, progress_bar=False).params)

    def run() -> dict[str, np.ndarray]:
        params = train(jax.random.key(settings["seed"]), arrays["x"], arrays["y"])
        means, stds = (networks.numpyro_layers(params, 2, f"_auto_{part}") for part in ("loc", "scale"))
        return networks.jax_posterior(means, stds)

    return run


def _numpyro_model(arrays: Arrays, settings: Settings) -> Callable[..., None]:
    import numpyro
    from numpyro.distributions import Normal

    noise = math.sqrt(settings["kl_weight"] * len(arrays["x"]) / (2 * networks.count_weights(arrays)))

    def observe(f: Any, y: Any) -> None:
        numpyro.sample("y", Normal(f, noise), obs=y)

    return networks.numpyro_model(arrays, settings["prior_std"], observe)


def train_jax_loop(arrays: Arrays, settings: Settings) -> Run:
    """Run a jitted step in a Python loop, as a JAX user would write it."""
    import jax
    import jax.numpy as jnp
    import optax

    x, y = jnp.asarray(arrays["x"]), jnp.asarray(arrays["y"])
    prior_std, count = settings["prior_std"], networks.count_weights(arrays)
    optimizer = optax.adam(settings["learning_rate"])

    def cost(posterior: Any, key: jax.Array) -> jax.Array:
        means, log_stds = posterior
        layers = _sample(key, means, log_stds)
        ratios = jax.tree.map(lambda m, s: _kl(m, jnp.exp(s), prior_std), means, log_stds)
        error = jnp.mean(jnp.square(networks.jax_apply(layers, x) - y))
        return error + settings["kl_weight"] * sum(jax.tree.leaves(ratios)) / count

    @jax.jit
    def step(posterior: Any, state: Any, key: jax.Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(cost)(posterior, key), state)
        return optax.apply_updates(posterior, updates), state

    def run() -> dict[str, np.ndarray]:
        stds = jax.tree.map(jnp.log, networks.jax_layers(arrays, "std"))
        posterior = networks.jax_layers(arrays, "mean"), stds
        state = optimizer.init(posterior)
        for key in jax.random.split(jax.random.key(settings["seed"]), settings["steps"]):
            posterior, state = step(posterior, state, key)
        return networks.jax_posterior(posterior[0], jax.tree.map(jnp.exp, posterior[1]))

    return run


def _kl(mean: Any, std: Any, prior_std: float) -> Any:
    import jax.numpy as jnp

    ratio = std / prior_std
    return jnp.sum(0.5 * (jnp.square(ratio) + jnp.square(mean / prior_std) - 1.0) - jnp.log(ratio))


def _sample(key: Any, means: Any, log_stds: Any) -> Any:
    import jax
    import jax.numpy as jnp

    leaves, structure = jax.tree.flatten(means)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))
    return jax.tree.map(lambda k, m, s: m + jnp.exp(s) * jax.random.normal(k, m.shape), keys, means, log_stds)


def train_bbb(arrays: Arrays, settings: Settings, *, library: str = "bbb") -> Run:
    """Use `bbb.fit` with the network of a library."""
    import jax
    import optax

    import bbb

    model = networks.bbb_model(arrays, settings, library=library)
    optimizer = optax.adam(settings["learning_rate"])

    def run() -> dict[str, np.ndarray]:
        trained, _ = bbb.fit(
            jax.random.key(settings["seed"]),
            model,
            arrays["x"],
            arrays["y"],
            steps=settings["steps"],
            optimizer=optimizer,
            objective=bbb.train.Objective(bbb.torchbnn.mse_cost, kl_weight=settings["kl_weight"]),
            progress=False,
        )
        return networks.bbb_posterior(trained, library)

    return run


# The predictive: prepare(arrays, settings) -> run() -> mean and std of f, each (test rows, 1)


def predict_torchbnn(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Call the network once for each draw, in a Python loop."""
    return networks.torchbnn_draws(arrays, settings, threads)


def predict_torch_compile(arrays: Arrays, settings: Settings, *, threads: int, chunk: int) -> Run:
    """Compile the network vectorised over a chunk of draws, whose normals are made outside of it."""
    import torch

    chunk = min(chunk, settings["draws"])
    torch.set_num_threads(threads)
    torch.manual_seed(settings["seed"])
    x = torch.from_numpy(arrays["x_test"])
    layers = [
        [(torch.from_numpy(m), torch.from_numpy(s)) for m, s in zip(mean, std, strict=True)]
        for mean, std in zip(networks.unpack(arrays, "mean"), networks.unpack(arrays, "std"), strict=True)
    ]

    def draw(noise: Any) -> torch.Tensor:
        parts = [[m + s * e for (m, s), e in zip(*layer, strict=True)] for layer in zip(layers, noise, strict=True)]
        return networks.torch_apply(parts, x)

    some = torch.compile(torch.func.vmap(draw))
    shapes = [[m.shape for m, _ in layer] for layer in layers]
    return networks.torch_chunks(
        lambda: some([[torch.randn(chunk, *shape) for shape in layer] for layer in shapes]), settings, chunk
    )


def predict_numpyro(arrays: Arrays, settings: Settings, *, parallel: bool, batch: int) -> Run:
    """Use `Predictive`, jitted, `batch` draws per call: all at once by `parallel` would take 12 GB."""
    import jax.numpy as jnp

    batch = min(batch, settings["draws"])
    model, x = _numpyro_model(arrays, settings), jnp.asarray(arrays["x_test"])
    return networks.jax_chunks(networks.numpyro_draws(arrays, model, x, batch, parallel=parallel), settings, batch)


def predict_jax_loop(arrays: Arrays, settings: Settings, *, chunk: int) -> Run:
    """Run `jit(vmap(...))` of the network over chunks of draws, rows first, as a JAX user would write it."""
    import jax
    import jax.numpy as jnp

    chunk = min(chunk, settings["draws"])
    means = networks.jax_layers(arrays, "mean")
    log_stds = jax.tree.map(jnp.log, networks.jax_layers(arrays, "std"))
    x = jnp.asarray(arrays["x_test"])

    @jax.jit
    def draw(key: jax.Array) -> jax.Array:
        return jax.vmap(lambda k: networks.jax_apply(_sample(k, means, log_stds), x))(jax.random.split(key, chunk))

    return networks.jax_chunks(draw, settings, chunk)


def predict_bbb(arrays: Arrays, settings: Settings, *, library: str = "bbb") -> Run:
    """Use `bbb.predict` with the network of a library."""
    return networks.bbb_predictive(arrays, settings, library)


def predict_bbb_in_closed_form(arrays: Arrays, settings: Settings) -> Run:
    """Use the moments of f, which are exact for one hidden layer."""
    return networks.bbb_predictive(arrays, settings, method="moments")


def predict_bbb_last_layer(arrays: Arrays, settings: Settings) -> Run:
    """Draw the first layer and integrate the last one out, with as many draws as a pilot run says are needed."""
    import jax

    import bbb

    model, key = networks.bbb_model(arrays, settings), jax.random.key(settings["seed"] + 2)
    pilot = bbb.predict(key, model, arrays["x_test"], method="last_layer", draws=PILOT).f
    share = float(np.max(np.asarray(pilot.mcse_mean) / np.asarray(pilot.std)))
    draws = math.ceil(PILOT * share**2 * settings["draws"])  # of which the error is that of so many draws of all
    return networks.bbb_predictive(arrays, settings, method="last_layer", draws=max(2, draws))


PILOT = 200
"""Draws from which it is told how many are needed."""

TORCH, JAX = ("torch", "torchbnn"), ("jax", "jax.numpy", "optax")
NUMPYRO = ("jax", "numpyro", "numpyro.infer.autoguide")
THREADS = ({"threads": 1}, {"threads": 2})
NUMPYRO_BATCHES = ({"parallel": True, "batch": 500}, {"parallel": False, "batch": 10_000})


def _bbb_with(prepare: Any) -> dict[str, Contender]:
    """Race `bbb` with the same network written by other libraries, rows first."""
    modules = {"flax": "flax.linen", "equinox": "equinox"}
    return {
        f"bbb with {name}": Contender(prepare, (*JAX, "bbb", module), ({"library": name},))
        for name, module in modules.items()
    }


WHY_LOOP = "tensors are made before, no number is read within the loop, and draws go into one tensor; 1 or 2 threads"
WHY_COMPILED = "cost and gradient in one compiled function, Adam in one fused kernel; 1 or 2 threads"
WHY_DRAWS = (
    "vectorised over draws and compiled, the normals of 50 draws made outside by torch's own generator; with those "
    "made by the code that torch compiles, on two threads of an AMD EPYC, it took 2.6 times as long"
)
WHY_NUMPYRO = "all steps in one compiled program; TraceMeanField_ELBO has the KL in closed form"
WHY_PREDICTIVE = "one compiled program for many draws; the faster of a vectorised one and a loop"
WHY_JAX = "one compiled program a step, or for 10 or 100 draws, as a user without bbb writes it"
COMPILED = tuple(t | {"chunk": 50} for t in THREADS)
WORKS = {
    "training": {
        "torchbnn": Contender(train_torchbnn, TORCH, THREADS, why=WHY_LOOP),
        "torch-compile": Contender(train_torch_compile, TORCH, THREADS, why=WHY_COMPILED),
        "numpyro": Contender(train_numpyro, NUMPYRO, why=WHY_NUMPYRO),
        "jax-loop": Contender(train_jax_loop, JAX, why=WHY_JAX),
        "bbb": Contender(train_bbb, (*JAX, "bbb")),
        **_bbb_with(train_bbb),
    },
    "predictive": {
        "torchbnn": Contender(predict_torchbnn, TORCH, THREADS, why=WHY_LOOP),
        "torch-compile": Contender(predict_torch_compile, TORCH, COMPILED, why=WHY_DRAWS),
        "numpyro": Contender(predict_numpyro, NUMPYRO, NUMPYRO_BATCHES, why=WHY_PREDICTIVE),
        "jax-loop": Contender(predict_jax_loop, JAX, ({"chunk": 10}, {"chunk": 100}), why=WHY_JAX),
        "bbb": Contender(predict_bbb, (*JAX, "bbb")),
        **_bbb_with(predict_bbb),
    },
    "precision": {
        "torchbnn": Contender(predict_torchbnn, TORCH, THREADS, why=WHY_LOOP),
        "torch-compile": Contender(predict_torch_compile, TORCH, COMPILED, why=WHY_DRAWS),
        "numpyro": Contender(predict_numpyro, NUMPYRO, NUMPYRO_BATCHES, why=WHY_PREDICTIVE),
        "bbb, draws": Contender(predict_bbb, (*JAX, "bbb")),
        "bbb, last layer integrated out": Contender(predict_bbb_last_layer, (*JAX, "bbb")),
        "bbb": Contender(predict_bbb_in_closed_form, (*JAX, "bbb")),
    },
}


# The run


def problem(*, quick: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the data, the initial parameters and the settings, as in `bbb.tasks`."""
    import dataclasses

    from bbb import tasks

    published = dataclasses.asdict(tasks.Settings())
    settings = published | {"rows": 500, "test_rows": 300, "seed": 0} | (QUICK if quick else {})
    data = tasks.regression(settings["seed"], settings["rows"], settings["test_rows"])
    arrays = {"x": data.x, "y": data.y, "x_test": data.x_test, "clean": data.clean_test}
    start = networks.start((1, settings["hidden"], 1), settings["prior_std"])
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()} | start, settings


def trained(arrays: Arrays, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays with a posterior that `bbb` has trained in another process."""
    result = race.run(Job(PROGRAM, "training", OWN, {}, settings, repeats=0), arrays)
    if result.answer is None:
        raise RuntimeError(result.note)
    return {**arrays, **result.answer}


def exact(posterior: Arrays, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and std of f at each row in closed form, for one hidden ReLU layer of independent Gaussian weights.

    With a pre-activation N(m, s²), a = m/s:  E h = m·Φ(a) + s·φ(a),  E h² = (m² + s²)·Φ(a) + m·s·φ(a).
    """
    from scipy.special import ndtr

    (w, b), (v, c) = ([part.astype(np.float64) for part in layer] for layer in networks.unpack(posterior, "mean"))
    (ws, bs), (vs, cs) = ([part.astype(np.float64) for part in layer] for layer in networks.unpack(posterior, "std"))
    m, s = x @ w.T + b, np.sqrt(x**2 @ (ws**2).T + bs**2)  # (rows, hidden)
    a = m / s
    cdf, density = ndtr(a), np.exp(-0.5 * a**2) / math.sqrt(2 * math.pi)
    h, h_squared = m * cdf + s * density, (m**2 + s**2) * cdf + m * s * density
    variance = h_squared @ (v**2 + vs**2).T - h**2 @ (v**2).T + cs**2
    return (h @ v.T + c)[:, 0], np.sqrt(variance[:, 0])


def training_quality(answer: Arrays, arrays: Arrays, settings: Settings) -> dict[str, float]:
    """Compute the RMSE against the target without noise, and the mean width of mean ± 3·std, of a posterior."""
    mean, std = exact(answer, arrays["x_test"])
    return _quality(mean, std, arrays, settings)


def predictive_quality(answer: Arrays, arrays: Arrays, settings: Settings) -> dict[str, float]:
    """Compute the same for a mean and a std, and their largest distances from the exact ones, in standard errors.

    The standard errors are those of Gaussian draws, std/√S and std/√(2S).
    """
    mean, std = exact(arrays, arrays["x_test"])
    off_mean = np.max(np.abs(answer["mean"][:, 0] - mean) / std) * math.sqrt(settings["draws"])
    off_std = np.max(np.abs(answer["std"][:, 0] / std - 1)) * math.sqrt(2 * settings["draws"])
    reached = _quality(answer["mean"][:, 0], answer["std"][:, 0], arrays, settings)
    return reached | {"worst z of mean": float(off_mean), "of std": float(off_std)}


def _quality(mean: np.ndarray, std: np.ndarray, arrays: Arrays, settings: Settings) -> dict[str, float]:
    rmse = math.sqrt(float(np.mean(np.square(mean - arrays["clean"][:, 0]))))
    return {"RMSE": rmse, "width": float(np.mean(2 * settings["sigmas"] * std))}


def sections(options: program.Options) -> Iterator[Section]:
    """Race the contenders of all works."""
    arrays, settings = problem(quick=options.quick)
    sizes = "1-{hidden}-1, {steps:,} steps on {rows} rows".format(**settings)
    yield _section("training", f"Training: {sizes}", arrays, settings, training_quality, options)
    title = "Predictive: {draws:,} draws × {test_rows} rows".format(**settings)
    posterior = trained(arrays, settings)
    yield _section("predictive", title, posterior, settings, predictive_quality, options)
    title = "Until the Monte Carlo error of the mean is {:.2g} % of the std at each of {test_rows} rows"
    title = title.format(100 / math.sqrt(settings["draws"]), **settings)
    yield _section("precision", title, posterior, settings, predictive_quality, options)


def _section(
    work: str, title: str, arrays: Arrays, settings: dict[str, Any], quality: Any, options: program.Options
) -> Section:
    results = race.race(PROGRAM, work, arrays, settings, **options.race)
    judged = [race.judged(result, quality, arrays, settings) for result in results]
    text = "\n\n".join([race_table(judged, [*times(judged, OWN), *MEMORY]), comparison(judged, OWN, LOOP)])
    return Section(title, text, records(judged, OWN))


if __name__ == "__main__":
    program.main(TITLE, sections, __doc__, works=WORKS)
