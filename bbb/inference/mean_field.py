"""Independent Gaussians by Bayes by backprop: what training itself learns."""

from typing import Any

import jax

from bbb.inference.method import Learned
from bbb.model import BNN


def check(model: BNN) -> None:
    """Raise nothing: `fit` has checks of its own."""
    del model


def finished(key: jax.Array, model: BNN, x: Any, y: Any, free: bool, sample_weight: Any = None) -> Learned:
    """Return the model as it was trained."""
    del key, x, y, free, sample_weight
    return Learned(model)
