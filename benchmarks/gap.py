"""Bands between two clusters of data, against NUTS: `python -m benchmarks.gap [--units N] [--seeds N] [--json FILE]`.

`--contenders hmc` compares that alone with NUTS; `--contenders mean-field,full` these two. The others are modes,
last_layer, diag, mixture (of Laplace posteriors at the modes) and anchored.

The rows lie in two clusters, the noise is known, and the prior's variance falls with the fan-in. For each network (tanh
and ReLU, one and two hidden layers) and each seed of the data, NUTS (NumPyro's; Hoffman and Gelman 2014, arXiv
1111.4246) gives the standard deviation of f on a grid; the table lists the median over seeds of the ratios of the
others' to it, averaged over the gap and over the clusters, and how far their means are off in the gap, in NUTS's
standard deviations. The maximum a posteriori, which Laplace's posteriors and the ensemble start from, is trained by
`bbb.fit` at the posterior's mean; HMC (`bbb.mcmc.hmc`) starts its chains there, and its seconds are without training.
The last table lists the medians of HMC, the posterior that is recommended for small networks, and whether they lie
within ACCEPTED.

Foong et al. 2020, arXiv 1909.00719, show why independent Gaussians are too sure between the clusters.
"""

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
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

ACCEPTED = {"gap": (0.8, 1.25), "data": (0.75, 1.35)}
"""Ratios of standard deviations to NUTS, in the gap and at the data, between which a band is called right."""

Bands = dict[str, tuple[np.ndarray, np.ndarray, float]]
"""For each method the mean and the standard deviation of f on the grid, (points,), and the seconds it took."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How large a run is.

    NUTS takes `samples` draws after as many to warm up, in two chains; steps are Adam's; HMC from the modes takes
    `draws` of each after `warmup`.
    """

    units: int = 30
    rows: int = 40
    samples: int = 800
    steps: int = 6_000
    members: int = 5
    anchored: int = 8
    draws: int = 300
    warmup: int = 300
    layers: tuple[int, ...] = (1, 2)


QUICK = Settings(units=3, rows=8, samples=20, steps=50, members=2, anchored=2, draws=4, warmup=4, layers=(1,))


def data(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, (2 · rows, 1) each: a sine with a slope, seen in two clusters."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.uniform(low, high, rows) for low, high in CLUSTERS])[:, None]
    return x, function(x) + NOISE * rng.normal(size=x.shape)


def function(x: np.ndarray) -> np.ndarray:
    """Return the function that the rows show with noise."""
    return 0.7 * np.sin(4 * x) + 0.4 * x


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


def nuts(
    model: bbb.BNN, x: np.ndarray, y: np.ndarray, settings: Settings, seed: int, grid: np.ndarray = GRID
) -> np.ndarray:
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
    return np.asarray(jax.jit(jax.vmap(lambda units: model.apply(params(units), grid)))(units))[..., 0]


def prior_leaves(model: bbb.BNN) -> list[Any]:
    """Return the prior's std of each leaf of the parameters."""
    return jax.tree.leaves(model.prior.std)


def trained(
    key: jax.Array, model: bbb.BNN, x: np.ndarray, y: np.ndarray, steps: int, *, at_mean: bool, **options: Any
) -> bbb.BNN:
    """Train by the negative ELBO; or only the means, at which the network is then evaluated: to the mode."""
    forward = bbb.forwards.at_mean(model.apply) if at_mean else bbb.forwards.local_reparam(model.apply)
    objective = bbb.train.Objective(forward=forward)
    return bbb.fit(key, model, x, y, steps=steps, optimizer=_adam(steps), objective=objective, **options)[0]


@functools.cache  # one object for all runs, so that they share a compiled program
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))


@dataclasses.dataclass(frozen=True)
class Run:
    """One network, and the rows of one seed."""

    activation: str
    layers: int
    seed: int
    settings: Settings

    @functools.cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The inputs and the observations."""
        return data(self.seed, self.settings.rows)

    @functools.cached_property
    def network(self) -> Any:
        """The network, one object for all methods, so that they share compiled programs."""
        return network(self.activation, self.layers, self.settings.units)

    @property
    def key(self) -> jax.Array:
        """The key of every method."""
        return jax.random.split(jax.random.key(self.seed), self.settings.members)[0]

    def init(self, key: jax.Array) -> Any:
        """Return parameters where training starts."""
        return from_prior(key, self.network.init(key))

    @functools.cached_property
    def start(self) -> bbb.BNN:
        """The model before training."""
        params = self.init(self.key)
        likelihood = bbb.likelihoods.Gaussian(NOISE)
        return bbb.bayesianize(self.network.apply, params, prior=prior(params), likelihood=likelihood)

    @functools.cached_property
    def modes(self) -> bbb.BNN:
        """An ensemble of modes, each from its own start."""
        return self.trained(at_mean=True, restarts=bbb.train.Restarts(self.settings.members, self.init))

    def trained(self, *, at_mean: bool, **options: Any) -> bbb.BNN:
        """Train as `trained` does."""
        return trained(self.key, self.start, *self.rows, self.settings.steps, at_mean=at_mean, **options)

    def sampled(self, grid: np.ndarray = GRID) -> np.ndarray:
        """Return f on the grid of NUTS's draws, (draws, points)."""
        return nuts(self.start, *self.rows, self.settings, self.seed, grid)

    def f(self, model: bbb.BNN) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation of f on the grid, (points,)."""
        found = bbb.predict(self.key, model, GRID).f
        return np.asarray(found.mean)[:, 0], np.asarray(found.std)[:, 0]


def mean_field(run: Run) -> bbb.BNN:
    """Return independent Gaussians, trained by the negative ELBO."""
    return run.trained(at_mean=False)


def laplace(run: Run, structure: str = "full") -> bbb.BNN:
    """Return a Laplace posterior at the first mode."""
    return bbb.laplace(run.key, run.modes.member(0), *run.rows, structure=structure)


def anchored(run: Run) -> bbb.BNN:
    """Return an ensemble of anchored modes."""
    return run.trained(at_mean=True, restarts=bbb.train.Restarts(run.settings.anchored, anchored=True))


def hmc(run: Run) -> bbb.BNN:
    """Return the draws of chains from the modes."""
    drawn = {"draws": run.settings.draws, "warmup": run.settings.warmup}
    return bbb.mcmc.hmc(run.key, run.modes, *run.rows, **drawn)[0]


def of_modes(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation over the modes, each a network without spread."""
    alone = (run.modes.member(k).posterior for k in range(run.settings.members))
    each = np.stack([run.network.apply(posterior.params, GRID)[:, 0] for posterior in alone])
    return each.mean(0), each.std(0)


METHODS: dict[str, tuple[str, Callable[[Run], tuple[np.ndarray, np.ndarray]]]] = {
    "mean-field": ("mean-field", lambda run: run.f(mean_field(run))),
    "modes": ("{members} modes", of_modes),
    "full": ("Laplace, full", lambda run: run.f(laplace(run))),
    "last_layer": ("Laplace, last_layer", lambda run: run.f(laplace(run, "last_layer"))),
    "diag": ("Laplace, diag", lambda run: run.f(laplace(run, "diag"))),
    "mixture": ("{members} Laplaces, full", lambda run: run.f(bbb.laplace(run.key, run.modes, *run.rows))),
    "anchored": ("{anchored} anchored modes", lambda run: run.f(anchored(run))),
    "hmc": ("HMC from {members} modes", lambda run: run.f(hmc(run))),
}
"""For each name its title, and what it gives for a run."""

TRAINS = ("mean-field", "modes", "anchored")
"""The methods whose seconds are those of a training; those of the others begin at the modes."""


def bands(run: Run, methods: Iterable[str] = tuple(METHODS)) -> Bands:
    """Return what each method gives for one network and one seed, NUTS first."""
    found: Bands = {}

    def record(name: str, method: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
        started = time.perf_counter()
        mean, std = method()
        found[name] = mean, std, time.perf_counter() - started

    def sampled() -> tuple[np.ndarray, np.ndarray]:
        draws = run.sampled()
        return draws.mean(0), draws.std(0)

    record("NUTS", sampled)
    for name in methods:
        title, method = METHODS[name]
        if name not in TRAINS:
            jax.block_until_ready(run.modes.posterior)
        record(title.format(**vars(run.settings)), functools.partial(method, run))
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
    methods = options.contenders or tuple(METHODS)
    seeds = 1 if options.quick else seeds
    recommended: dict[str, dict[str, Any]] = {}
    for layers in settings.layers:
        for activation in ACTIVATIONS:
            runs = [ratios(bands(Run(activation, layers, seed, settings), methods)) for seed in range(seeds)]
            records = [_over_seeds(list(of)) for of in zip(*runs, strict=True)]
            title = f"{layers} hidden layer{'s' * (layers > 1)} of {settings.units}, {activation}"
            yield Section(f"{title}; {seeds} seeds", table(list(HEAD), [_cells(record) for record in records]), records)
            if "hmc" in methods:
                recommended[title] = records[1 + methods.index("hmc")]
    if recommended:
        yield acceptance(recommended, seeds)


def acceptance(found: dict[str, dict[str, Any]], seeds: int) -> Section:
    """Say for each network whether the medians of a posterior lie within ACCEPTED."""
    records = [
        {"network": network, **{name: record[name] for name in ACCEPTED}, "accepted": accepted(record)}
        for network, record in found.items()
    ]
    method = next(iter(found.values()))["method"]
    (low, high), (least, most) = ACCEPTED.values()
    head = ["network", f"in the gap, {low} to {high}", f"at the data, {least} to {most}", "accepted"]
    rows = [[r["network"], f"{r['gap']:.2f}", f"{r['data']:.2f}", "yes" if r["accepted"] else "no"] for r in records]
    return Section(f"{method}: sd ÷ NUTS, medians of {seeds} seeds", table(head, rows), records)


def accepted(record: dict[str, Any]) -> bool:
    """Return whether both ratios lie within ACCEPTED."""
    return all(low <= record[name] <= high for name, (low, high) in ACCEPTED.items())


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
    program.check_contenders(parser, arguments, METHODS)
    settings = None if arguments.quick else dataclasses.replace(Settings(), units=arguments.units)
    program.run(TITLE, lambda options: sections(options, settings, arguments.seeds), arguments)


if __name__ == "__main__":
    main()
