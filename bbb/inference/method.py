"""What a method of inference adds to a training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from bbb.model import BNN


class Learned(NamedTuple):
    """A model with its posterior.

    Attributes:
        model: the model.
        structure: what the posterior keeps of the curvature, such as "full"; None where that says nothing.
        problems: sentences, each about something that went wrong on the way and what to do.
    """

    model: BNN
    structure: str | None = None
    problems: tuple[str, ...] = ()


class Method(NamedTuple):
    """A method of inference, which starts from what `fit` learned: independent Gaussians, one member or several.

    Attributes:
        check: a function of the model before training, that raises an InputError for parts that it cannot use.
        finished: a function (key, model, x, y) of the trained model and its data that returns a `Learned`.
    """

    check: Callable[[BNN], None]
    finished: Callable[[jax.Array, BNN, Any, Any], Learned]
