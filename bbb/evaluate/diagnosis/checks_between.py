"""The check of `bbb.diagnose` on what lies between the rows."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from bbb.curvature.api import laplace
from bbb.curvature.choice import check_parts, structure_for
from bbb.errors import BBBError
from bbb.evaluate.diagnosis.case import Case, Finding, Skipped
from bbb.evaluate.diagnosis.stretches import Stretch, empty_stretches
from bbb.model import BNN
from bbb.predictive.api import predict

SURER = 2.0
"""How many times more the spread of a Laplace posterior must grow from the rows into a stretch without rows."""


MAX_ROWS, DRAWS, MEMORY = 500, 200, "512MB"
"""Most rows that the Laplace posterior is of, draws that spreads are seen by, and its memory."""


NAME = "too sure between the data"


def too_sure_between(case: Case) -> Finding | Skipped | None:
    """Return a finding for a function that is much surer between groups of rows than the curvature of the data is.

    The yardstick is the linearised Laplace posterior at the same means; of an ensemble, that of its first member. Its
    spread and the model's differ at the rows, where that of independent Gaussians is too wide: what counts is how much
    each grows from the rows into the stretch.

    Source: Foong et al. 2020, arXiv 1909.00719.
    """
    if _is_wide(case.model) or case.columns is None:
        return None
    if case.weights is not None:
        return Skipped(
            NAME,
            "it looks for stretches without rows, which have no weights. Leave sample_weight out to look for them.",
        )
    stretches = empty_stretches(np.asarray(case.columns, np.float64))
    if not stretches:
        return None
    try:
        wide = _yardstick(case)
    except BBBError as error:
        return Skipped(NAME, str(error))
    shares = [_growth(case, wide, stretch) / _growth(case, case.model, stretch) for stretch in stretches]
    worst = int(np.argmax(shares))
    if not shares[worst] > SURER:
        return None
    seen = (
        f"there are no rows {stretches[worst].where}, and into there the sd of f grows {shares[worst]:.2g} times as "
        "much in a Laplace posterior of the same means"
    )
    advice = "Use bbb.laplace(key, model, x, y), or train with posterior='laplace'; of bbb fit, --posterior laplace."
    return Finding(NAME, seen, advice)


def _is_wide(model: BNN) -> bool:
    """Return whether a model is such a yardstick itself, or holds draws, of chains or of anchored members."""
    posterior: Any = model.posterior.component(0)
    is_yardstick = model.linearized and not getattr(posterior, "factorises", True)
    return is_yardstick or model.posterior.holds_draws


def _yardstick(case: Case) -> BNN:
    """Return the first member with a Laplace posterior, of some of the rows from their first to their last.

    Raises:
        BBBError: if it can have none.
    """
    member = case.model.member(0)
    check_parts(member, "a Laplace posterior")
    some = np.unique(np.linspace(0, len(case.y) - 1, min(len(case.y), MAX_ROWS)).round().astype(int))
    x, y = case.x[some], jnp.asarray(case.y[some])
    return laplace(case.key, member, x, y, structure=structure_for(member, x, MEMORY), memory=MEMORY)


def _growth(case: Case, model: BNN, stretch: Stretch) -> float:
    """Return how many times as large the standard deviation of f is in a stretch as at rows on either side of it."""
    x = jnp.asarray(np.concatenate([stretch.points, stretch.beside]), case.x.dtype)
    std = np.asarray(predict(case.key, model, x, draws=DRAWS, rows=case.rows).f.std, np.float64)
    between, beside = np.split(std, [len(stretch.points)])
    return float(np.median(between) / max(float(np.median(beside)), np.finfo(std.dtype).tiny))
