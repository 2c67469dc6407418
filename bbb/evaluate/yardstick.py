"""How far the band of a model is from that of another that is trusted, such as the draws of `bbb.mcmc`."""

from typing import Any, NamedTuple

import jax
import numpy as np

from bbb import checks
from bbb.errors import ShapeError, fail
from bbb.model import BNN, check_model
from bbb.predictive.api import predict


class Agreement(NamedTuple):
    """What two bands of f have in common at each row, (rows, ...) each.

    Attributes:
        ratio: of the standard deviations, the model's over the reference's: below 1 the model is too sure.
        off: by how much the means differ, the model's less the reference's, in standard deviations of the reference.
    """

    ratio: np.ndarray
    off: np.ndarray


def agreement(
    key: jax.Array, model: BNN, reference: BNN, x: Any, *, draws: int = 10_000, rows: str = "apart"
) -> Agreement:
    """Compare the band of f of a model with that of a reference, such as what `bbb.mcmc.hmc` sampled of it.

    Args:
        key: one typed JAX key, for the draws of both.
        model: whose band is in question.
        reference: whose band is trusted; of the same outputs.
        x: (rows, ...), finite: best of rows between and beyond the data too, where bands differ most.
        draws: of each; a posterior that holds its draws has no others.
        rows: "apart", or "together" for a network whose rows meet: see `predict`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        ShapeError: if the two have outputs of different shapes.
    """
    check_model(model)
    check_model(reference)
    checks.outside("agreement", key=key, model=model, reference=reference, x=x)
    f, exact = (predict(key, one, x, draws=draws, rows=rows).f for one in (model, reference))
    if f.mean.shape != exact.mean.shape:
        do = "Pass two models of the same observations."
        fail(ShapeError, f"a reference with f of shape {f.mean.shape}", f"shape {exact.mean.shape}", do)
    least = np.finfo(np.asarray(exact.std).dtype).tiny
    std = np.maximum(exact.std, least)
    return Agreement(np.asarray(f.std / std), np.asarray((f.mean - exact.mean) / std))
