"""The gradient of each forward: its variance against batch size, and the effect on training, on handwritten digits.

The network is 64-100-100-10 on scikit-learn's digits. The variance is that of the data term's gradient over the noise,
for a fixed batch, summed over all means and log_stds, at a posterior after a short training. Its unit is (nats per
row)²: the data term is divided by the number of rows of the batch.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import bbb
from bbb.forwards.linearization import linearized
from bbb.forwards.rowwise import flipout, local_reparam
from bbb.forwards.sampling import weight_sampling
from benchmarks import program
from benchmarks.report import Section, table

TITLE = "Gradients: weight sampling, local reparameterisation, Flipout"
FORWARDS = (weight_sampling, local_reparam, flipout, linearized)
FULL: dict[str, Any] = {
    "sizes": (64, 100, 100, 10),
    "batches": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    "warm_up": 500,
    "draws": 400,
    "steps": (100, 300, 1_000, 3_000),
    "batch": 128,
    "seeds": 3,
}
QUICK: dict[str, Any] = {"sizes": (64, 8, 10), "batches": (1, 8), "warm_up": 5, "draws": 8, "steps": (4, 8), "seeds": 1}
POSTERIOR_STD, PRIOR_STD, LEARNING_RATE = 0.05, 0.1, 1e-3


class Digits(NamedTuple):
    """All the images, (1797, 64), from 0 to 1, and their digits."""

    x: jax.Array
    y: jax.Array


def digits() -> Digits:
    """Return scikit-learn's digits, in a fixed random order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return Digits(jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order], jnp.int32))


def network(sizes: tuple[int, ...]) -> Any:
    """Return the network: linear layers with ReLU between them."""
    layers = [layer for pair in itertools.pairwise(sizes) for layer in (bbb.nn.linear(*pair), bbb.nn.relu)]
    return bbb.nn.sequential(*layers[:-1])


def data_term(q: bbb.MeanField, noise: Any, data: Digits, forward: Any) -> jax.Array:
    """Compute the mean negative log-likelihood, in nats per row."""
    log_probs = jax.nn.log_softmax(forward.evaluate(noise, q, data.x))
    return -jnp.mean(jnp.take_along_axis(log_probs, data.y[:, None], axis=1))


@partial(jax.jit, static_argnames=("forward", "steps", "batch"))
def train(key: jax.Array, q: bbb.MeanField, data: Digits, *, forward: Any, steps: int, batch: int) -> Any:
    """Minimise the negative ELBO by Adam; return the posterior."""
    optimizer, prior = optax.adam(LEARNING_RATE), bbb.priors.Normal(0.0, PRIOR_STD)
    rows = data.x.shape[0]

    def step(state: Any, key: jax.Array) -> tuple[Any, None]:
        q, moments = state
        for_rows, for_noise = jax.random.split(key)
        chosen = jax.random.choice(for_rows, rows, (batch,), replace=False)
        part = Digits(data.x[chosen], data.y[chosen])
        noise = forward.noise(for_noise, q, part.x)
        slope = jax.grad(lambda q: rows * data_term(q, noise, part, forward) + bbb.priors.kl(q, prior))(q)
        updates, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(q, updates), moments), None

    return jax.lax.scan(step, (q, optimizer.init(q)), jax.random.split(key, steps))[0][0]


@partial(jax.jit, static_argnames=("forward", "draws"))
def gradient_variance(key: jax.Array, q: bbb.MeanField, data: Digits, *, forward: Any, draws: int) -> jax.Array:
    """Compute the variance over the noise of the data term's gradient, summed over all parameters."""

    def gradient(key: jax.Array) -> Any:
        return jax.grad(data_term)(q, forward.noise(key, q, data.x), data, forward)

    grads = jax.lax.map(gradient, jax.random.split(key, draws))
    return sum((jnp.sum(jnp.var(leaf, axis=0, ddof=1)) for leaf in jax.tree.leaves(grads)), jnp.zeros(()))


@partial(jax.jit, static_argnames=("apply", "draws"))
def negative_elbo(key: jax.Array, q: bbb.MeanField, data: Digits, *, apply: Callable[..., Any], draws: int) -> Any:
    """Estimate the negative ELBO of all the data, in nats, from so many draws by weight sampling, for every forward."""
    forward = weight_sampling(apply)
    terms = jax.lax.map(
        lambda key: data_term(q, forward.noise(key, q, data.x), data, forward), jax.random.split(key, draws)
    )
    return data.x.shape[0] * jnp.mean(terms) + bbb.priors.kl(q, bbb.priors.Normal(0.0, PRIOR_STD))


def sections(options: program.Options) -> Iterator[Section]:
    """Measure the variance, then the training."""
    settings = FULL | (QUICK if options.quick else {})
    made, data = network(settings["sizes"]), digits()
    start = bbb.MeanField.around(made.init(jax.random.key(0)), POSTERIOR_STD)
    forwards = [make for make in FORWARDS if options.contenders is None or make.__name__ in options.contenders]
    yield variances(made, start, data, forwards, settings, options.folder)
    same = [make for make in forwards if make is not linearized]  # which has a bound of its own
    yield convergence(made, start, data, same, settings)


def variances(
    made: Any, start: Any, data: Digits, forwards: list[Any], settings: dict[str, Any], folder: Path | None
) -> Section:
    """Tabulate the variance of the gradient against batch size."""
    warm_up = {"steps": settings["warm_up"], "batch": settings["batch"]}
    q = train(jax.random.key(1), start, data, forward=local_reparam(made.apply), **warm_up)
    found = {
        make.__name__: [
            float(
                gradient_variance(
                    jax.random.key(2),
                    q,
                    Digits(data.x[:batch], data.y[:batch]),
                    forward=make(made.apply),
                    draws=settings["draws"],
                )
            )
            for batch in settings["batches"]
        ]
        for make in forwards
    }
    first, *others = found
    rows = [
        [
            f"{batch:,}",
            *(f"{v[i]:.3g}" for v in found.values()),
            *(f"{found[first][i] / found[name][i]:.1f}" for name in others),
        ]
        for i, batch in enumerate(settings["batches"])
    ]
    text = table(["rows", *found, *(f"{first} ÷ {name}" for name in others)], rows)
    if folder is not None:
        picture(folder / "gradients.png", settings["batches"], found)
        text += "\n\n![variance of the gradient](gradients.png)"
    records = [{"rows": b, **{name: v[i] for name, v in found.items()}} for i, b in enumerate(settings["batches"])]
    return Section(f"Variance of the gradient over the noise, (nats a row)², {settings['draws']} draws", text, records)


def convergence(made: Any, start: Any, data: Digits, forwards: list[Any], settings: dict[str, Any]) -> Section:
    """Tabulate the negative ELBO after several numbers of steps: the mean over seeds, and its standard error."""
    rows, records = [], []
    for steps in settings["steps"]:
        record: dict[str, Any] = {"steps": steps}
        for make in forwards:
            keys = jax.random.split(jax.random.key(3), settings["seeds"])
            plan = {"forward": make(made.apply), "steps": steps, "batch": settings["batch"]}
            trained = [train(key, start, data, **plan) for key in keys]
            judge = partial(negative_elbo, jax.random.key(4), data=data, apply=made.apply, draws=settings["draws"])
            record[make.__name__] = [float(judge(q)) for q in trained]
        rows.append([f"{steps:,}", *(_mean(values) for name, values in record.items() if name != "steps")])
        records.append(record)
    text = table(["steps", *(make.__name__ for make in forwards)], rows)
    return Section(f"Negative ELBO, nats, after training with batches of {settings['batch']}", text, records)


def _mean(values: list[float]) -> str:
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.0f}" if len(values) > 1 else ""
    return f"{np.mean(values):,.0f}{error}"


def picture(path: Path, batches: tuple[int, ...], found: dict[str, list[float]]) -> None:
    """Plot the variances against batch size, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, values in found.items():
        axes.loglog(batches, values, "o-", label=name)
    axes.set(xlabel="rows of the batch", ylabel="variance of the gradient, (nats a row)²")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    program.main(TITLE, sections, __doc__)
