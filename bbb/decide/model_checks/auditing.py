"""How far the band of a model is from the truth: from that of a short Markov chain that starts at its posterior."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.core.rows import count_rows
from bbb.core.tree import count
from bbb.data import data_for, rows_for
from bbb.decide.model_checks.arguments import check_one_output
from bbb.decide.model_checks.places import GIVEN, Places, places_of
from bbb.decide.model_checks.prior import with_held_prior
from bbb.errors import InputError, fail
from bbb.evaluate.yardstick import agreement
from bbb.mcmc import Report, hmc, nuts
from bbb.model import BNN
from bbb.predictive.plan import check_rows
from bbb.tracing import purity

MOST_WEIGHTS = 10_000
"""Random weights beyond which short chains say little."""


CLOSE_RATIO, CLOSE_OFF = 1.25, 0.5
"""By what factor standard deviations may differ at the median row, and by how many of them means may differ, for a band
that counts as close: too narrow by that and off by that, a 95 % interval holds Φ(1.07) − Φ(−2.07) = 84 %."""


DRAWS = 2_000
"""Draws of the model's band: its standard deviation is then known to 1.6 %, far better than that of short chains."""


class Distance(NamedTuple):
    """How far a band is from that of the chains, over rows of one kind.

    Attributes:
        where: the kind, such as "between the rows".
        rows: how many.
        off: the root mean square of the difference of means, in standard deviations of the chains.
        ratio: of the standard deviations at the median row: the model's over the chains'.
        lowest: that ratio at the row where the model is surest, relative to the chains.
        highest: that ratio at the row where it is least sure.
    """

    where: str
    rows: int
    off: float
    ratio: float
    lowest: float
    highest: float

    @property
    def is_close(self) -> bool:
        """Whether the band is close to that of the chains."""
        return 1 / CLOSE_RATIO <= self.ratio <= CLOSE_RATIO and self.off <= CLOSE_OFF

    @property
    def verdict(self) -> str:
        """The distance in words."""
        if self.is_close:
            return f"close to the truth: {self._figures}"
        if self.ratio < 1 / CLOSE_RATIO:
            return f"{1 / self.ratio:.2g} times too narrow: {self._figures}"
        if self.ratio > CLOSE_RATIO:
            return f"{self.ratio:.2g} times too wide: {self._figures}"
        return f"of the right width, but off: {self._figures}"

    @property
    def _figures(self) -> str:
        return (
            f"sd {self.ratio:.2g} of the chains' ({self.lowest:.2g} to {self.highest:.2g}), "
            f"mean {self.off:.2g} of their sd away"
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Audit(display.Displayed):
    """What `audit` found; printed, it says in words how far the band is from the truth.

    Attributes:
        distances: a `Distance` for each kind of rows, those among the data first.
        x: (n, ...), the rows at which the bands were compared.
        where: (n,), the kind of each.
        ratio: (n, ...), of the standard deviations of f, the model's over the chains'.
        off: (n, ...), the difference of the means of f, in standard deviations of the chains.
        sampled: the model of the chains' draws.
        report: what `bbb.mcmc` says of the chains.
        is_linearized: whether the model is, as by `bbb.laplace`.
    """

    distances: tuple[Distance, ...]
    x: Any
    where: np.ndarray
    ratio: np.ndarray
    off: np.ndarray
    sampled: BNN
    report: Report
    is_linearized: bool = False

    @property
    def is_close(self) -> bool:
        """Whether the band is close to that of the chains for each kind of rows."""
        return all(distance.is_close for distance in self.distances)

    @property
    def trusted(self) -> bool:
        """Whether the chains agree, so that they can stand for the truth."""
        return not self.report.problems

    @property
    def off_in_sds(self) -> float:
        """The distance of the means over all rows: the root mean square, in standard deviations of the chains."""
        return float(np.sqrt(np.mean(np.square(self.off))))

    def _table_shown(self) -> display.Table:
        chains = f"{display.counted(self.report.chains, 'chain')} of {self.report.draws:,} draws"
        rows = [(distance.where, f"the band is {distance.verdict}") for distance in self.distances]
        rows.append(("R-hat of f", f"{np.max(self.report.f.rhat):.3f} at worst"))
        rows.append(("ESS of f", f"{np.min(self.report.f.ess_bulk):,.0f} at worst"))
        found = [("look at" if i == 0 else "", problem) for i, problem in enumerate(self.problems)]
        return display.Table(f"Audit against {chains}", [*rows, *found])

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about what is bad, of the chains or of the band, and what to do; empty if nothing is."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        if not self.trusted:
            yield "The chains are no truth yet, so that these distances may change:"
            yield from self.report.problems
        elif not self.is_close:
            other = "" if self.is_linearized else "bbb.laplace(key, model, x, y), and audit that; or "
            yield f"Use {other}`sampled` of this audit, the draws of the chains, as a model."


def audit(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    at: Any = None,
    sampler: str = "hmc",
    draws: int = 200,
    warmup: int = 300,
    chains: int | None = None,
    rows: str = "apart",
    memory: int | str = "2GB",
    **options: Any,
) -> Audit:
    """Say how far the band of f of a small network is from the truth, in standard deviations and in words.

    Chains start at the model's posterior and sample the true one, for the same prior and the same noise. The report on
    them says whether they can be trusted: a short run may not have left where it began.

    Needs blackjax: `pip install '.[mcmc]'` in a clone.

    Args:
        key: one typed JAX key; it decides everything.
        model: trained, of up to 10,000 random weights. A prior whose scales follow from the posterior counts at those.
        x: (rows, ...), the data it was trained on.
        y: observed there.
        at: rows at which bands are compared; by default some of x and, of columns of numbers, rows in the stretches
            between them and beyond them.
        sampler: "hmc", whose trajectories have a length; or "nuts", which turn back by themselves, and which in
            networks seldom do before their limit.
        draws: how many of each chain.
        warmup: how many trajectories of each before them.
        chains: how many; by default the members of the model, or 4.
        rows: "apart", or "together" for a network whose rows meet: see `bbb.predict`. It is compared at all rows of x.
        memory: bound on the working memory.
        options: of `bbb.mcmc.hmc` or `bbb.mcmc.nuts`, such as steps=30, doublings=5 or thin=2.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, or more weights:
            before any draw.
        InputError: if blackjax is not installed.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> found = bbb.audit(jax.random.key(2), model, task.x, task.y, draws=20, warmup=20)
        >>> type(found).__name__
        'Audit'
    """
    checks.outside("audit", key=key, model=model, x=x, y=y)
    checks.key(key)
    check_one_output(model, "audit")
    _check_options(sampler, options)
    check_rows(rows, "draws", None)
    _check_size(model)
    held = model if model.posterior.holds_draws else with_held_prior(model, "audit")
    data = data_for(model, x, y, several=True)
    places = places_of(data[0], rows) if at is None else _given(model, at)
    how: dict[str, Any] = {"draws": draws, "warmup": warmup, "chains": chains, "memory": memory, **options}
    run: Any = hmc if sampler == "hmc" else nuts
    sampled, report = run(jax.random.fold_in(key, 0), held, *data, watch=places.x, **how)
    found = agreement(jax.random.fold_in(key, 1), model, sampled, places.x, draws=DRAWS, rows=rows)
    kinds = dict.fromkeys(places.where.tolist())
    which = {kind: places.where == kind for kind in kinds}
    distances = tuple(_distance(kind, found.ratio[rows], found.off[rows]) for kind, rows in which.items())
    return Audit(distances, places.x, places.where, *found, sampled, report, model.linearized)


OPTIONS = {
    "hmc": ("steps", "thin", "accept", "sample_weight"),
    "nuts": ("doublings", "thin", "accept", "sample_weight"),
}
"""The further options of each sampler."""


def _check_options(sampler: str, options: dict[str, Any]) -> None:
    """Raise for what is no sampler, or an option that it does not have.

    Raises:
        InputError: naming it.
    """
    checks.word("sampler", sampler, tuple(OPTIONS))
    for name in options:
        checks.word(f"an option of sampler={sampler!r}", name, OPTIONS[sampler])


def _check_size(model: BNN) -> None:
    """Raise for more weights than short chains can sample.

    Raises:
        InputError: naming how many there are.
    """
    one = model.posterior.component(0)
    weights = count(one.random_leaves(one.params))
    if weights > MOST_WEIGHTS:
        do = "Audit a smaller network on the same data, or compare a few of its layers: bayesianize(..., where=...)."
        fail(InputError, f"a model of at most {MOST_WEIGHTS:,} random weights, for audit", f"{weights:,}", do)


def _given(model: BNN, at: Any) -> Places:
    rows = rows_for(model, "at", at)
    purity.output_shape(model.apply, model.posterior.component(0).params, rows)
    return Places(rows, np.full(count_rows(rows), GIVEN))


def _distance(where: str, ratio: np.ndarray, off: np.ndarray) -> Distance:
    """Return the distance over rows of one kind, of arrays (rows, ...)."""
    ratio, off = np.asarray(ratio, float), np.asarray(off, float)
    ends = float(np.median(ratio)), float(np.min(ratio)), float(np.max(ratio))
    return Distance(where, len(ratio), float(np.sqrt(np.mean(np.square(off)))), *ends)
