"""Checks that outputs are finite; an error names the first row, and the leaf of the model that is the likely cause."""

from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.tree import names
from bbb.errors import NonFiniteOutputError, fail
from bbb.model import BNN
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.verbs import marginals
from bbb.predictive.estimates import Moments, Summary


def check_summary(model: BNN | None, found: Summary) -> None:
    """Check that a summary of rows is finite; without a model, an error names no leaf.

    Monte Carlo errors are not checked: that of a single draw is infinite.

    Raises:
        NonFiniteOutputError: naming the first such row.
    """
    check_finite(model, "the network's outputs", found.f.mean)
    check_finite(model, "the variance of the network's outputs", found.f.variance)
    if isinstance(found.y, Moments):
        check_finite(model, "the mean of y", found.y.mean)
        check_finite(model, "the variance of y", found.y.variance)
    else:
        probabilities, _, entropy, *_ = found.y
        check_finite(model, "the probabilities of y", probabilities)
        for part, nats in entropy._asdict().items():
            check_finite(model, f"the {part} entropy of y", nats)
    for name in ("f", "y"):
        for values, _ in getattr(found, f"{name}_quantiles"):
            check_finite(model, f"the quantiles of {name}", values)


def check_finite(model: BNN | None, what: str, values: np.ndarray, first: int = 0) -> None:
    """Check that values, (rows, ...), are finite; `first` is the index of their first row.

    A sum over draws is finite only where every draw is, so that it is enough to check summaries, which are small.

    Raises:
        NonFiniteOutputError: naming the first such row.
    """
    bad = ~np.isfinite(np.asarray(values))
    if bad.any():
        refuse(model, what, first + int(np.argwhere(bad)[0][0]), values.dtype)


def refuse(model: BNN | None, what: str, row: int, dtype: np.dtype) -> NoReturn:
    """Raise with the row, and the leaf that is the likely cause.

    Raises:
        NonFiniteOutputError: always.
    """
    blamed = "" if model is None else _leaf_to_blame(model, dtype)
    do = "Look at what the network does to that row of x: a logarithm, a root or a quotient, or an overflow."
    if blamed:
        do = f"The cause may be {blamed}. Make it smaller, or use float64 (jax_enable_x64)."
    expected, got = f"{what} to be finite in {jnp.dtype(dtype).name}", f"NaN or infinity, first at row {row} of x"
    fail(NonFiniteOutputError, expected, got, do)


def _leaf_to_blame(model: BNN, dtype: np.dtype) -> str:
    """Return the leaf of largest mean or standard deviation, if its square is near overflow; else an empty text."""
    if not isinstance(model.posterior.component(0), GaussianPosterior):
        return ""
    several = marginals(model.posterior, "its errors")
    with np.errstate(over="ignore"):
        sizes = [
            (float(np.max(np.abs(np.asarray(leaf, np.float64)), initial=0.0)), f"posterior mean leaf '{path}'")
            for path, leaf in zip(names(several.mean), jax.tree.leaves(several.mean), strict=True)
        ] + [
            (float(np.exp(np.max(np.asarray(leaf, np.float64), initial=-np.inf))), f"posterior std leaf '{path}'")
            for path, leaf in zip(names(several.log_std), jax.tree.leaves(several.log_std), strict=True)
        ]
    size, name = max(sizes, key=lambda pair: np.nan_to_num(pair[0], nan=np.inf, posinf=np.inf))
    limit = float(jnp.finfo(dtype).max) ** 0.4
    return f"{name}, which reaches {size:.3g}" if not size <= limit else ""
