"""What a method of inference adds to a training."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bbb.model import BNN


class Learned(NamedTuple):
    """A model with its posterior.

    Attributes:
        model: the model.
        structure: what the posterior keeps of the curvature, such as "full"; None where that says nothing.
        problems: sentences, each about something that went wrong on the way and what to do.
        independent: of a method that trained the model itself, that with independent Gaussians of the same precision
            of each weight, for later data to start from.
        loss: likewise, minus the evidence at the end of each round, in nats: (rounds,).
    """

    model: BNN
    structure: str | None = None
    problems: tuple[str, ...] = ()
    independent: BNN | None = None
    loss: np.ndarray | None = None


def _by_training(
    key: jax.Array, starts: Sequence[BNN], x: Any, y: Any, steps: int, sample_weight: Any = None
) -> Learned | None:
    del key, starts, x, y, steps, sample_weight
    return None


class Method(NamedTuple):
    """A method of inference, which starts from what `fit` learned: independent Gaussians, one member or several.

    Attributes:
        check: a function of the model before training, that raises an InputError for parts that it cannot use.
        finished: a function (key, model, x, y, free, sample_weight=None) of the trained model and its data that returns
            a `Learned`. `free` says that the prior and the noise are nobody's choice, so that the method may find
            better ones; `sample_weight`, (rows,), how often each row counts, as in `fit`.
        learned: a function (key, starts, x, y, steps, sample_weight=None) of a model at one start or several, whose
            prior and noise are free, that trains it too and returns a `Learned` of the best; or None where training has
            to come first.
    """

    check: Callable[[BNN], None]
    finished: Callable[..., Learned]
    learned: Callable[..., Learned | None] = _by_training
