"""The predictive of each row: marginals of the function and of a new observation, and intervals of them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bbb import checks, display
from bbb.errors import InputError, QuantileError, fail
from bbb.metrics.classification import Entropy
from bbb.predictive.estimates import Estimate, Moments, summarise

__all__ = [
    "ClassMarginal",
    "Estimate",
    "Interval",
    "Marginal",
    "Moments",
    "Predictive",
    "resolved",
    "summarise",
    "tails",
]


class Interval(NamedTuple):
    """The two ends of an interval, arrays of the shape of the outputs."""

    lower: np.ndarray
    upper: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Marginal(display.Displayed):
    """The marginal predictive distribution of one quantity at each row, in the units of y.

    Every `mcse_…` is the Monte Carlo standard error of the estimate it names: how far it would vary with other draws.
    It is inversely proportional to the square root of `draws`, infinite for a single draw, and 0 for a closed form.

    Attributes:
        mean: (rows, ...), the mean over the draws.
        std: (rows, ...), the standard deviation.
        draws: the number of draws of the network; 0 for a closed form.
        moments: what the Monte Carlo errors of mean and std are computed from.
    """

    mean: np.ndarray
    std: np.ndarray
    draws: int
    moments: Moments
    _table: dict[float, Estimate]
    _later: Callable[[float], Estimate] | None

    @property
    def mcse_mean(self) -> np.ndarray:
        """The Monte Carlo standard error of `mean`."""
        return self._mcse(self.moments.value_variance)

    @property
    def mcse_std(self) -> np.ndarray:
        """The Monte Carlo standard error of `std`, by the delta method, without assuming Gaussian draws."""
        return self._mcse(self.moments.psi_variance) / (2 * self._safe_std)

    def sigma_interval(self, sigmas: float) -> Interval:
        """Return mean ± sigmas·std.

        Raises:
            InputError: if `sigmas` is not positive and finite.
        """
        sigmas = checks.one_number("sigmas", sigmas)
        return Interval(self.mean - sigmas * self.std, self.mean + sigmas * self.std)

    def mcse_sigma_interval(self, sigmas: float) -> Interval:
        """Return the Monte Carlo standard errors of the two ends of `sigma_interval`."""
        sigmas = checks.one_number("sigmas", sigmas)
        slope = sigmas / (2 * self._safe_std)
        m = self.moments
        with np.errstate(invalid="ignore"):
            square, cross = m.value_variance + slope**2 * m.psi_variance, 2 * slope * m.covariance
            ends = np.maximum(square - cross, 0), np.maximum(square + cross, 0)
        # where a square overflowed, the error is unknown, as for a single draw
        return Interval(*(self._mcse(np.where(np.isnan(end), np.inf, end).astype(end.dtype)) for end in ends))

    def quantile(self, p: float) -> np.ndarray:
        """Return the value below which a share `p` of the distribution lies, for each row.

        Raises:
            InputError: if `p` is not inside (0, 1).
            QuantileError: if `p` was not passed to `predict`, and the draws were too many to keep.
        """
        return self._lookup(p)[0]

    def mcse_quantile(self, p: float) -> np.ndarray:
        """Return the Monte Carlo standard error of `quantile(p)`.

        Where few draws lie beyond the quantile, fewer than about 5 for `f` and 20 for `y`, it is extrapolated as for a
        Gaussian tail: for a longer tail it is then too small, and for a shorter one too large. Use more draws there.
        """
        return self._lookup(p)[1]

    def interval(self, level: float) -> Interval:
        """Return the central interval that holds a share `level` of the distribution, such as 0.95.

        Raises:
            InputError: if `level` is not inside (0, 1).
            QuantileError: if `level` was not passed to `predict`, and the draws were too many to keep.
        """
        return Interval(*(self.quantile(p) for p in tails(checks.probability("level", level))))

    def mcse_interval(self, level: float) -> Interval:
        """Return the Monte Carlo standard errors of the two ends of `interval(level)`."""
        return Interval(*(self.mcse_quantile(p) for p in tails(checks.probability("level", level))))

    def mcse(self, ps: Sequence[float]) -> list[np.ndarray]:
        """Return the Monte Carlo standard errors of the mean, of the std and of the quantiles `ps`."""
        return [self.mcse_mean, self.mcse_std, *(self.mcse_quantile(p) for p in ps)]

    def _mcse(self, influence_variance: np.ndarray) -> np.ndarray:
        if self.draws == 0:
            return np.zeros_like(self.mean)
        if self.draws == 1:
            return np.full_like(self.mean, np.inf)
        return np.sqrt(influence_variance / self.draws)

    @property
    def _safe_std(self) -> np.ndarray:
        return np.maximum(self.std, np.finfo(self.std.dtype).tiny)

    def _lookup(self, p: float) -> Estimate:
        p = resolved(checks.probability("p", p), self.mean.dtype)
        if p not in self._table:
            if self._later is None:
                known = ", ".join(f"{q:g}" for q in sorted(self._table)) or "none"
                fail(
                    QuantileError,
                    f"a quantile that was asked for when predicting ({known})",
                    f"{p:g}, and the draws were too many to keep",
                    "Pass predict(..., levels=(0.95,)) for intervals or quantiles=(0.1,) for quantiles, "
                    "or a larger memory.",
                )
            self._table[p] = self._later(p)
        return self._table[p]

    def _table_shown(self) -> display.Table:
        rows = [("mean", display.span(self.mean)), ("std", display.span(self.std)), *self._estimates_shown()]
        return display.Table(f"Marginal of {_rows_of(self.mean.shape)}, {_origin(self.draws)}", rows)

    def _line_shown(self) -> str:
        return f"mean {display.span(self.mean)}, std {display.span(self.std)}"

    def _estimates_shown(self) -> list[tuple[str, str]]:
        """Return the rows on the Monte Carlo error, and on the quantiles that are known."""
        error = f"at most {display.number(np.max(self.mcse_mean))}, of the mean"
        known = display.listed([f"{p:g}" for p in sorted(self._table)], ", ")
        return [("Monte Carlo error", error)] * bool(self.draws) + [("quantiles", known)] * bool(known)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClassMarginal(display.Displayed):
    """The predictive distribution of a class at each row; (rows, ...) stands for the shape of y.

    Attributes:
        probabilities: (rows, ..., classes), the mean over the draws.
        mcse_probabilities: the Monte Carlo standard error of each.
        entropy: in nats, (rows, ...) each: `total`, the uncertainty of the prediction; its part `aleatoric`, which
            more data would not lower; and its part `epistemic`, the disagreement of the draws. The jackknife removes
            the bias of the latter towards 0, as far as log(classes) bounds the total.
        mcse_entropy: the Monte Carlo standard error of each, such that 1.96 of it cover the truth in about 95 of 100
            cases with 20 draws or more. With fewer, and where a few draws in a hundred disagree with all others, it is
            too small, since those may be missing from the draws.
        draws: the number of draws of the network.

    For a single draw, one antithetic pair, or one draw of each member of an ensemble, every error is infinite, and the
    entropies are those of these draws; for two, the error of the epistemic entropy is infinite.
    """

    probabilities: np.ndarray
    mcse_probabilities: np.ndarray
    entropy: Entropy
    mcse_entropy: Entropy
    draws: int

    @property
    def classes(self) -> np.ndarray:
        """The most probable class of each row, (rows, ...)."""
        return self.probabilities.argmax(axis=-1)

    def mcse(self, ps: Sequence[float]) -> list[np.ndarray]:
        """Return the Monte Carlo standard errors of the probabilities; a class has no quantiles."""
        del ps
        return [self.mcse_probabilities]

    def _table_shown(self) -> display.Table:
        *shape, classes = self.probabilities.shape
        rows = [
            ("classes", f"{classes}, the most probable of a row with {display.span(self.probabilities.max(axis=-1))}"),
            ("entropy", f"{display.span(self.entropy.total)} nats, epistemic {display.span(self.entropy.epistemic)}"),
            ("Monte Carlo error", f"at most {display.number(np.max(self.mcse_probabilities))}, of a probability"),
        ]
        return display.Table(f"ClassMarginal of {_rows_of(shape)}, {_origin(self.draws)}", rows)

    def _line_shown(self) -> str:
        highest, nats = display.span(self.probabilities.max(axis=-1)), display.span(self.entropy.total)
        classes = self.probabilities.shape[-1]
        return f"{classes} classes, the most probable of a row with {highest}; entropy {nats} nats"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Predictive(display.Displayed):
    """The prediction of a model at each row.

    Attributes:
        f: the function, with epistemic uncertainty only: the network's outputs, or those of them that are means where
            others are standard deviations; on the scale of the outputs, such as the logarithm of a rate.
        y: a new observation, with epistemic and aleatoric uncertainty: the exact mixture of the likelihoods of the
            draws. A `Marginal` of numbers, or a `ClassMarginal` of classes.
        draws: the number of draws of the network that both are computed from; 0 for a closed form.
        method: how it was computed, as passed to `predict`.
        assumptions: the approximations of a closed form to mean and std, and where; empty if they are exact.
        x: the rows that were passed, if they are one column of numbers; else None. A notebook draws the band over them.
    """

    f: Marginal
    y: Any  # of one kind or the other, as the likelihood is: a union would have to be narrowed by every reader
    draws: int
    method: str = "draws"
    assumptions: tuple[str, ...] = ()
    x: Any = None

    def _table_shown(self) -> display.Table:
        rows = [("f", self.f._line_shown()), ("y", self.y._line_shown()), *self.f._estimates_shown()]
        if self.assumptions:
            rows.append(("assumes", display.listed(self.assumptions)))
        how = "" if self.method == "draws" else f" ({self.method})"
        return display.Table(f"Predictive of {_rows_of(self.f.mean.shape)}, {_origin(self.draws)}{how}", rows)


def lone_column(x: Any) -> Any:
    """Return x if it is one column, (rows,) or (rows, 1), over which a band can be drawn; else None."""
    return x if hasattr(x, "shape") and x.shape[1:] in ((), (1,)) else None


def _rows_of(shape: Sequence[int]) -> str:
    rows, *row = shape
    outputs = f" of shape {tuple(row)}" if len(row) > 1 else f" of {display.counted(row[0], 'output')}" if row else ""
    return f"{display.counted(rows, 'row')}{outputs}"


def _origin(draws: int) -> str:
    return f"from {display.counted(draws, 'draw')}" if draws else "in closed form"


def tails(level: float) -> tuple[float, float]:
    """Return the two probabilities between which a central interval of this level lies."""
    return (1 - level) / 2, (1 + level) / 2


def resolved(p: float, dtype: np.dtype) -> float:
    """Return p rounded as quantiles are stored; raise if the dtype of the outputs cannot tell it from 0 or 1.

    Raises:
        InputError: if p is closer to 0 or 1 than four units of rounding.
    """
    p, least = round(p, 12), 4 * float(jnp.finfo(dtype).eps)
    if not least <= p <= 1 - least:
        fail(
            InputError,
            f"probabilities that {jnp.dtype(dtype).name} can tell from 0 and 1, at least {least:.1g} from both",
            f"{p:.12g}",
            "Pass a less extreme level, or use float64 (jax_enable_x64).",
        )
    return p
