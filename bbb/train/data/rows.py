"""Rows that are trained on or scored: checked, and a share of them held out."""

from typing import Any, NamedTuple

import jax
import numpy as np

from bbb.core.ability import implements
from bbb.core.rows import count_rows, map_rows, some_rows
from bbb.data import data_for, weights_for
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsTrainingCheck
from bbb.model import BNN

SPLIT_KEY = 2**32 - 4
"""The key of the choice of rows to hold out, beyond that of a score's noise."""


class Data(NamedTuple):
    """Rows that are trained on or scored, and how often each counts: None for once."""

    x: Any
    y: Any
    sample_weight: Any = None


def training_data(model: BNN, x: Any, y: Any, sample_weight: Any = None) -> Data:
    """Check data as `data_for` does, and what a likelihood asks of data to learn from, such as two classes.

    Raises:
        InputError, ShapeError, NonFiniteInputError: for data that do not fit the model, or weights that are none.
        InputError: for a linearised model, or a posterior that gradients cannot train.
    """
    x, y = data_for(model, x, y)
    weights = weights_for(model, sample_weight, count_rows(y))
    check_trainable(model)
    if implements(model.likelihood, SupportsTrainingCheck):
        counted = y if weights is None else some_rows(y, np.asarray(weights) > 0)
        model.likelihood.check_training(counted)
    return Data(x, y, weights)


def check_trainable(model: BNN) -> None:
    """Check that gradients can train a model.

    Raises:
        InputError: for a linearised model, or a posterior that gradients cannot train.
    """
    if not model.posterior.is_trainable:
        do = "Train a MeanField, or what bbb.posteriors.as_full_rank or as_low_rank makes of this posterior."
        got = f"a {type(model.posterior).__name__}, some of whose arrays follow from the others"
        fail(InputError, "a posterior that gradients can train, for fit", got, do)
    if model.linearized:
        do = "Pass dataclasses.replace(model, linearized=False), and linearise what comes back."
        fail(InputError, "a model of the network itself, to train it", "a linearised one", do)


def count_held(share: float, rows: int) -> int:
    """Return how many of so many rows a share of them holds out: at least one."""
    return max(1, round(share * rows))


def hold_out(key: jax.Array, model: BNN, data: Data, validation: Any) -> tuple[Data, Data]:
    """Return the rows to train on, and those to score: of a pair, or a share of the rows, chosen by the key.

    Raises:
        InputError, ShapeError, NonFiniteInputError: for a pair that does not fit the model, or a share of all rows, or
            one that leaves no weight on either side.
    """
    if isinstance(validation, tuple | list):
        return data, Data(*data_for(model, *validation))
    rows = count_rows(data.y)
    held = count_held(validation, rows)
    if held >= rows:
        got, do = f"{held} of {rows}", "Pass a smaller share, or more rows."
        fail(InputError, "validation to leave a row to train on", got, do)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, np.uint32(SPLIT_KEY)), rows))
    kept, scored = _rows_of(data, np.sort(order[held:])), _rows_of(data, np.sort(order[:held]))
    for what, part in (("to train on", kept), ("to score", scored)):
        if part.sample_weight is not None and not np.asarray(part.sample_weight).any():
            got, do = f"weight 0 of every row {what}", "Pass another share, or a pair validation=(x, y)."
            fail(InputError, f"validation to leave rows of weight above 0 {what}", got, do)
    return kept, scored


def _rows_of(data: Data, rows: np.ndarray) -> Data:
    return map_rows(lambda leaf: jax.device_put(np.asarray(leaf)[rows]), data)
