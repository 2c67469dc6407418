"""Bands between two clusters of data, against NUTS: `python -m benchmarks.gap [--units N] [--seeds N] [--json FILE]`.

The rows lie in two clusters, the noise is known, and the prior's variance falls with the fan-in. For each network (tanh
and ReLU, one and two hidden layers) and each seed of the data, NUTS (NumPyro's; Hoffman and Gelman 2014, arXiv
1111.4246) gives the standard deviation of f on a grid; the table lists the median over seeds of the ratios of the
others' to it, averaged over the gap and over the clusters, and how far their means are off in the gap, in NUTS's
standard deviations. The maximum a posteriori, which Laplace's posteriors and the ensemble start from, is trained by
`bbb.fit` at the posterior's mean. Anchored modes start at their anchors, which are draws from the prior and so far from
the data: they are trained for longer, at a higher rate, lest some stay there.

Foong et al. 2020, arXiv 1909.00719, show why independent Gaussians are too sure between the clusters.
"""

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import bbb
from benchmarks import program
from benchmarks.report import Section, table

TITLE = "The band between two clusters of data"
NOISE = 0.1
ACTIVATIONS = {"tanh": bbb.nn.tanh, "ReLU": bbb.nn.relu}
CLUSTERS = ((-1.6, -0.7), (0.7, 1.6))
GRID = np.concatenate([np.linspace(-1.55, -0.75, 20), np.linspace(-0.5, 0.5, 21), np.linspace(0.75, 1.55, 20)])[:, None]
GAP = np.abs(GRID[:, 0]) <= 0.5

RATE, FARTHER = 1e-2, (3, 3e-2)
"""Adam's rate at the start; and for anchored modes, how many times the steps, and their rate."""


Bands = dict[str, tuple[np.ndarray, np.ndarray, float]]
"""For each method the mean and the standard deviation of f on the grid, (points,), and the seconds it took."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How large a run is: NUTS takes `samples` draws after as many to warm up, in two chains; steps are Adam's."""

    units: int = 30
    rows: int = 40
    samples: int = 800
    steps: int = 6_000
    members: int = 5
    anchored: int = 8
    layers: tuple[int, ...] = (1, 2)


QUICK = Settings(units=3, rows=8, samples=20, steps=50, members=2, anchored=2, layers=(1,))


def data(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, (2 · rows, 1) each: a sine with a slope, seen in two clusters."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.uniform(low, high, rows) for low, high in CLUSTERS])[:, None]
    y = 0.7 * np.sin(4 * x) + 0.4 * x + NOISE * rng.normal(size=x.shape)
    return x, y


def network(activation: str, layers: int, units: int) -> Any:
    """Return a network of some hidden layers of one size."""
    sizes = [1] + [units] * layers
    hidden = [
        part
        for inputs, outputs in itertools.pairwise(sizes)
        for part in (bbb.nn.linear(inputs, outputs), ACTIVATIONS[activation])
    ]
    return bbb.nn.sequential(*hidden, bbb.nn.linear(units, 1))


def prior(params: Any) -> Any:
    """Return N(0, std²) with a std of 2 in the first layer, 1.5/√inputs in the others, and 1 for their biases."""

    def std(layer: int, leaf: jax.Array) -> float:
        if layer == 0:
            return 2.0
        return 1.5 / leaf.shape[1] ** 0.5 if leaf.ndim == 2 else 1.0  # weights are (outputs, inputs)

    layers = [jax.tree.map(functools.partial(std, i), layer) for i, layer in enumerate(params)]
    return bbb.priors.Normal(0.0, type(params)(layers))


def from_prior(key: jax.Array, params: Any) -> Any:
    """Return half a draw from the prior, where training starts."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    stds = jax.tree.leaves(prior(params).std)
    drawn = [0.5 * std * jax.random.normal(k, leaf.shape) for k, std, leaf in zip(keys, stds, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


# The methods


def nuts(model: bbb.BNN, x: np.ndarray, y: np.ndarray, settings: Settings, seed: int) -> np.ndarray:
    """Return f on the grid of NUTS's draws, (draws, points), from two starts at the prior."""
    import numpyro
    from numpyro import distributions as dist
    from numpyro.infer import MCMC, NUTS

    means, structure = jax.tree.flatten(model.posterior.params)
    stds = [jnp.broadcast_to(std, mean.shape) for std, mean in zip(prior_leaves(model), means, strict=True)]

    def params(units: list[jax.Array]) -> Any:
        return jax.tree.unflatten(structure, [std * unit for std, unit in zip(stds, units, strict=True)])

    def target() -> None:
        units = [numpyro.sample(str(i), dist.Normal().expand(mean.shape).to_event()) for i, mean in enumerate(means)]
        numpyro.sample("y", dist.Normal(model.apply(params(units), x), NOISE).to_event(), obs=y)

    chains = MCMC(
        NUTS(target, max_tree_depth=8),
        num_warmup=settings.samples,
        num_samples=settings.samples,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    chains.run(jax.random.key(seed))
    drawn = chains.get_samples()
    units = [drawn[str(i)] for i in range(len(means))]
    return np.asarray(jax.jit(jax.vmap(lambda units: model.apply(params(units), GRID)))(units))[..., 0]


def prior_leaves(model: bbb.BNN) -> list[Any]:
    """Return the prior's std of each leaf of the parameters."""
    return jax.tree.leaves(model.prior.std)


def trained(
    key: jax.Array,
    model: bbb.BNN,
    x: np.ndarray,
    y: np.ndarray,
    steps: int,
    *,
    at_mean: bool,
    rate: float = RATE,
    **options: Any,
) -> bbb.BNN:
    """Train by the negative ELBO; or only the means, at which the network is then evaluated: to the mode."""
    forward = bbb.forwards.at_mean(model.apply) if at_mean else bbb.forwards.local_reparam(model.apply)
    objective = bbb.train.Objective(forward=forward)
    return bbb.fit(key, model, x, y, steps=steps, optimizer=_adam(steps, rate), objective=objective, **options)[0]


@functools.cache  # one object for all runs, so that they share a compiled program
def _adam(steps: int, rate: float) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def bands(activation: str, layers: int, seed: int, settings: Settings) -> Bands:
    """Return what each method gives for one network and one seed, NUTS first."""
    x, y = data(seed, settings.rows)
    made = network(activation, layers, settings.units)
    keys = jax.random.split(jax.random.key(seed), settings.members)

    def init(key: jax.Array) -> Any:
        return from_prior(key, made.init(key))

    def start(key: jax.Array) -> bbb.BNN:
        params = init(key)
        return bbb.bayesianize(made.apply, params, prior=prior(params), likelihood=bbb.likelihoods.Gaussian(NOISE))

    def f(model: bbb.BNN) -> tuple[np.ndarray, np.ndarray]:
        found = bbb.predict(keys[0], model, GRID).f
        return np.asarray(found.mean)[:, 0], np.asarray(found.std)[:, 0]

    found: Bands = {}

    def record(name: str, method: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
        started = time.perf_counter()
        mean, std = method()
        found[name] = mean, std, time.perf_counter() - started

    def sampled() -> tuple[np.ndarray, np.ndarray]:
        draws = nuts(start(keys[0]), x, y, settings, seed)
        return draws.mean(0), draws.std(0)

    record("NUTS", sampled)
    record("mean-field", lambda: f(trained(keys[0], start(keys[0]), x, y, settings.steps, at_mean=False)))
    modes: list[bbb.BNN] = []

    def ensemble() -> tuple[np.ndarray, np.ndarray]:
        restarts = bbb.train.Restarts(settings.members, init)
        modes.append(trained(keys[0], start(keys[0]), x, y, settings.steps, at_mean=True, restarts=restarts))
        alone = (modes[0].member(k).posterior for k in range(settings.members))
        each = np.stack([made.apply(posterior.params, GRID)[:, 0] for posterior in alone])
        return each.mean(0), each.std(0)

    record(f"{settings.members} modes", ensemble)
    for structure in ("full", "last_layer", "diag"):
        alone = modes[0].member(0)
        record(f"Laplace, {structure}", lambda s=structure, m=alone: f(bbb.laplace(keys[0], m, x, y, structure=s)))
    record(f"{settings.members} Laplaces, full", lambda: f(bbb.laplace(keys[0], modes[0], x, y)))
    anchored = bbb.train.Restarts(settings.anchored, anchored=True)
    name = f"{settings.anchored} anchored modes"
    far = {"steps": FARTHER[0] * settings.steps, "rate": FARTHER[1], "restarts": anchored}
    record(name, lambda: f(trained(keys[0], start(keys[0]), x, y, at_mean=True, **far)))
    return found


# The table


def ratios(found: Bands) -> list[dict[str, Any]]:
    """Compare each method with NUTS."""
    (exact_mean, exact_std, _), *_ = found.values()
    return [
        {
            "method": name,
            "gap": float(np.mean(std[GAP]) / np.mean(exact_std[GAP])),
            "data": float(np.mean(std[~GAP]) / np.mean(exact_std[~GAP])),
            "off": float(np.mean(np.abs(mean - exact_mean)[GAP]) / np.mean(exact_std[GAP])),
            "seconds": seconds,
        }
        for name, (mean, std, seconds) in found.items()
    ]


def sections(options: program.Options, settings: Settings | None = None, seeds: int = 5) -> Iterator[Section]:
    """Compare all methods for each network: the median over seeds, and the least and the most ratio in the gap."""
    settings = settings or (QUICK if options.quick else Settings())
    for layers in settings.layers:
        for activation in ACTIVATIONS:
            runs = [ratios(bands(activation, layers, seed, settings)) for seed in range(1 if options.quick else seeds)]
            records = [_over_seeds(list(of)) for of in zip(*runs, strict=True)]
            title = f"{layers} hidden layer{'s' * (layers > 1)} of {settings.units}, {activation}; {len(runs)} seeds"
            yield Section(title, table(list(HEAD), [_cells(record) for record in records]), records)


HEAD = ("posterior", "sd in the gap ÷ NUTS", "least", "most", "sd at the data ÷ NUTS", "mean off, sd", "seconds")


def _over_seeds(of: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one method's medians."""
    middle = {name: statistics.median(one[name] for one in of) for name in ("gap", "data", "off", "seconds")}
    gaps = [one["gap"] for one in of]
    return {"method": of[0]["method"], **middle, "least": min(gaps), "most": max(gaps)}


def _cells(record: dict[str, Any]) -> list[str]:
    numbers = [f"{record[name]:.2f}" for name in ("gap", "least", "most", "data", "off")]
    return [record["method"], *numbers, f"{record['seconds']:.1f}"]


def main(argv: list[str] | None = None) -> None:
    """Run all networks, print their tables, and write the numbers as JSON."""
    parser = program.parser(__doc__)
    parser.add_argument("--units", type=int, default=Settings.units, metavar="N", help="default: 30")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="default: 5")
    arguments = parser.parse_args(argv)
    settings = None if arguments.quick else dataclasses.replace(Settings(), units=arguments.units)
    program.run(TITLE, lambda options: sections(options, settings, arguments.seeds), arguments)


if __name__ == "__main__":
    main()
