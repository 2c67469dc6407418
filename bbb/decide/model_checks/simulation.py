"""Simulation-based calibration: whether an inference finds, on average over data of the prior, what made them."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from bbb import checks, display
from bbb.core.jit import jit
from bbb.core.rows import count_rows
from bbb.data import rows_for
from bbb.decide.model_checks.arguments import check_one_output, fits_memory, least_draws
from bbb.decide.model_checks.predictive_check import ranks
from bbb.decide.model_checks.prior import at_prior
from bbb.decide.model_checks.statistics import Statistic, check_numbers, statistics_of
from bbb.errors import InputError, NonFiniteOutputError, ShapeError, fail
from bbb.likelihoods.protocol import check_samples
from bbb.mixture.distribution import sample_y
from bbb.model import BNN
from bbb.predictive.evaluation import draws as draws_of
from bbb.predictive.plan import check_rows
from bbb.tracing import purity

TRUTH, NOISE, INFERENCE, DRAWS, TIES = (np.uint32(2**32 - i) for i in (30, 31, 32, 33, 34))
"""What is folded into the key for the weights that make data, their noise, the inferences, their draws, and ties."""


LEAST, ORDERS, LEVEL = 20, 4, 0.05
"""The fewest simulations; how many polynomials the test of uniformity has; its level, of all quantities together."""


@dataclasses.dataclass(frozen=True)
class AtRow:
    """The function at one row, as a quantity: of several outputs, their sum."""

    row: int

    def __call__(self, likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return its value."""
        del likelihood, y
        return jnp.sum(outputs[self.row])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Simulations(display.Displayed):
    """Where what made the data lies among the draws of the posteriors of these; printed, it says in words what is off.

    Attributes:
        names: of the quantities.
        pit: (simulations, quantities), the share of posterior draws below the true value, ties broken by chance:
            uniform if the inference is exact. `bbb.plots.pit_histogram(found.pit[:, i])` draws those of one.
        components: (quantities, 4), of the test, standard normal each if the inference is exact: the mean, above 0 if
            posteriors lie below the truth; the spread, above 0 if they are too narrow; and two of the shape.
        p_values: (quantities,), of the sums of their squares.
        draws: of each posterior.
        problems: sentences, each about a quantity that is off and what that means; empty if none is.
    """

    names: tuple[str, ...]
    pit: np.ndarray
    components: np.ndarray
    p_values: np.ndarray
    draws: int
    problems: tuple[str, ...] = ()

    def _table_shown(self) -> display.Table:
        title = f"Simulation-based calibration by {len(self.pit):,} simulations, {self.draws:,} draws each"
        rows = [(name, f"p = {p:.3g}") for name, p in zip(self.names, self.p_values, strict=True)]
        found = [("look at" if i == 0 else "", problem) for i, problem in enumerate(self.problems)]
        return display.Table(title, [*rows, *(found or [("look at", "nothing: the inference is calibrated")])])


def simulation_based_calibration(
    key: jax.Array,
    model: BNN,
    x: Any,
    infer: Callable[[jax.Array, BNN, Any, jax.Array], BNN],
    *,
    simulations: int = 100,
    draws: int = 100,
    quantities: Any = None,
    rows: str = "apart",
    memory: int | str = "512MB",
    progress: bool | None = None,
) -> Simulations:
    """Test an inference on data whose truth is known: weights of the prior, and observations of the likelihood.

    For example::

        def infer(key, model, x, y):
            return bbb.fit(key, model, x, y, steps=2_000, progress=False)[0]

        print(bbb.decide.simulation_based_calibration(key, model, x, infer))

    If posteriors are exact, the truth is like one more draw of each: its rank among them is uniform. Ranks of the
    function alone cannot tell a posterior from the prior, which has uniform ranks too; those of the log-likelihood, and
    of other quantities that look at y, can. A quantity is uniform, or not, by Neyman's smooth test of four Legendre
    polynomials, the first two of which say whether posteriors are off, and whether too narrow or too wide.

    Args:
        key: one typed JAX key; simulation s is a function of it and of s.
        model: before training: its prior and its likelihood make the data, and `infer` starts from it.
        x: (rows, ...), at which observations are made.
        infer: what is tested: a function of a key, the model, x and y that returns the trained model.
        simulations: how many data sets, at least 20: each takes an inference.
        draws: of each posterior, at least 10; one that holds its draws, as of `bbb.mcmc`, is thinned to so many.
        quantities: what is ranked, as `statistics` of `posterior_predictive_check`: functions of y and of the network's
            outputs at x. By default f at the first, middle and last row, and "log_prob".
        rows: "apart", or "together" for a network whose rows meet: see `bbb.predict`.
        memory: bound on the working memory, beside that of `infer`.
        progress: whether to show a bar; by default if it takes long, and stderr is a terminal.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any inference;
            or for an `infer` that returns no model of the same outputs.
        NonFiniteOutputError: if a quantity is NaN or infinite.

    Source: Talts et al. 2018, arXiv 1804.06788; quantities of the data, Modrák et al. 2023, arXiv 2211.02383; of
    variational posteriors, Yao et al. 2018, arXiv 1802.02538, §3.2; the test, Neyman 1937, Skand. Aktuarietidskr. 20.
    """
    checks.outside("simulation_based_calibration", key=key, model=model, x=x)
    checks.key(key)
    check_one_output(model, "simulation_based_calibration")
    check_samples(model.likelihood, "simulation_based_calibration")
    checks.function("infer", infer, "Pass lambda key, model, x, y: bbb.fit(key, model, x, y, steps=2_000)[0].")
    simulations = _enough(simulations)
    draws = least_draws(draws, 10, "to rank the truth among")
    check_rows(rows, "draws", None)
    if model.members > 1:
        do = "Take one, model.member(k); `infer` may return several."
        fail(InputError, "a model of one posterior", f"one of {model.members} members", do)
    x = rows_for(model, "x", x)
    prior = at_prior(model)
    outputs = purity.output_shape(model.apply, model.posterior.params, x)
    size = 3 * (simulations + 2 * draws) * outputs.size * outputs.dtype.itemsize
    left = fits_memory(size, f"{simulations:,} simulations and {draws:,} draws at all rows", memory)
    evaluate = partial(draws_of, x=x, rows=rows, memory=left)
    f = evaluate(jax.random.fold_in(key, TRUTH), prior, draws=simulations)
    found = _quantities(quantities, model.likelihood, count_rows(x))
    check_numbers(found, model.likelihood, sample_y(key, model.likelihood, f[:1])[0], outputs)
    values = partial(_values, model.likelihood, statistics=tuple(found.values()))

    def place(s: int) -> np.ndarray:
        y = sample_y(_key(key, NOISE, s), model.likelihood, f[s][None])[0]
        trained = infer(_key(key, INFERENCE, s), model, x, y)
        checks.is_a("what infer returns", trained, BNN, "Return the model alone: bbb.fit(key, model, x, y, ...)[0].")
        made = _thinned(evaluate(_key(key, DRAWS, s), trained, draws=draws), draws, outputs)
        truth, drawn = np.asarray(values(y, f[s][None]))[0], np.asarray(values(y, made))
        _check_finite(tuple(found), truth, drawn)
        return 1 - ranks(_key(key, TIES, s), truth, drawn)

    disable = None if progress is None else not progress
    counted = tqdm(range(simulations), unit=" simulations", delay=5, disable=disable)
    return _result(tuple(found), np.stack([place(s) for s in counted]), draws)


def _enough(simulations: Any) -> int:
    simulations = checks.positive_integer("simulations", simulations)
    if simulations < LEAST:
        do = f"Pass simulations={LEAST} or more: a test of fewer finds nothing."
        fail(InputError, f"simulations of at least {LEAST}", f"{simulations}", do)
    return simulations


def _key(key: jax.Array, purpose: np.uint32, s: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), s)


def _quantities(given: Any, likelihood: Any, rows: int) -> dict[str, Statistic]:
    """Return the quantities by name."""
    if given is not None:
        return statistics_of(given, likelihood)
    at = {f"f of row {row}": AtRow(row) for row in sorted({0, rows // 2, rows - 1})}
    return {**at, **statistics_of("log_prob", likelihood)}


@partial(jit, static_argnames=("statistics",))
def _values(likelihood: Any, y: jax.Array, outputs: jax.Array, *, statistics: tuple[Statistic, ...]) -> jax.Array:
    """Return quantities of one y, (rows, ...), and of draws of outputs, (draws, rows, ...): (draws, quantities)."""

    def one(outputs: jax.Array) -> jax.Array:
        return jnp.stack([statistic(likelihood, y, outputs) for statistic in statistics])

    return jax.vmap(one)(outputs)


def _thinned(made: Any, draws: int, outputs: jax.ShapeDtypeStruct) -> Any:
    """Return so many of the draws of a trained model, (draws, rows, ...), spread evenly over all.

    Raises:
        ShapeError: if they are of a model of other outputs.
    """
    shape = made.shape[1:] if hasattr(made, "shape") else "several outputs"
    if shape != outputs.shape:
        do = "Return the model that it was given, trained."
        fail(ShapeError, f"infer to return a model of outputs {outputs.shape}", f"one of {shape}", do)
    return made[np.linspace(0, len(made) - 1, min(draws, len(made))).round().astype(int)]


def _check_finite(names: tuple[str, ...], truth: np.ndarray, drawn: np.ndarray) -> None:
    bad = ~(np.isfinite(truth) & np.isfinite(drawn).all(axis=0))
    if bad.any():
        name = names[int(np.argmax(bad))]
        fail(NonFiniteOutputError, f"the quantity '{name}' to be finite", "NaN or infinity", "Leave it out.")


def _result(names: tuple[str, ...], pit: np.ndarray, draws: int) -> Simulations:
    from scipy.special import gammaincc  # noqa: PLC0415 - half as long to import as the rest of bbb

    components = uniformity(pit)
    p_values = gammaincc(ORDERS / 2, np.sum(np.square(components), axis=1) / 2)  # chi squared of so many degrees
    found = Simulations(names, pit, components, p_values, draws)
    return dataclasses.replace(found, problems=tuple(_problems(found)))


def uniformity(pit: np.ndarray) -> np.ndarray:
    """Return the components of Neyman's smooth test, (quantities, 4), of values in (0, 1), (simulations, quantities).

    Component j is the sum over simulations of the Legendre polynomial of order j, of variance 1, over √simulations.
    """
    legendre = np.polynomial.legendre.legvander(2 * pit - 1, ORDERS)[..., 1:]
    return np.sum(legendre * np.sqrt(2 * np.arange(1, ORDERS + 1) + 1), axis=0) / np.sqrt(len(pit))


def _problems(found: Simulations) -> Iterator[str]:
    """Say which quantities are off, and how, at a level of 5 % for all of them together (Bonferroni)."""
    for name, parts, p in zip(found.names, found.components, found.p_values, strict=True):
        if p * len(found.names) < LEVEL:
            yield (
                f"{_of_log_prob(parts)} (p = {p:.2g})."
                if name == "log_prob"
                else (f"Posteriors of {name} are {_fault(parts)} (p = {p:.2g}).")
            )


def _of_log_prob(parts: np.ndarray) -> str:
    """Return what the ranks of the log-likelihood say."""
    if parts[0] > 0:
        return "The truth fits the data better than posterior draws do: posteriors are too wide, or miss the data"
    return "Posterior draws fit the data better than the truth does: posteriors are too narrow around the best fit"


def _fault(parts: np.ndarray) -> str:
    """Return what is wrong, by the larger of the first two components of the test, as shares of the most they are."""
    mean, spread = parts[:2]
    if max(abs(mean), abs(spread)) < 2:
        return "of another shape than the true ones"
    if abs(mean) / math.sqrt(3) >= abs(spread) / math.sqrt(5):
        return "too low: the truth lies above them" if mean > 0 else "too high: the truth lies below them"
    return "too narrow: the truth lies in their tails" if spread > 0 else "too wide: the truth lies in their middle"
