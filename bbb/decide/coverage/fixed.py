"""A predictive that is one function of x: the same draws for every row, when it is calibrated and ever after."""

import dataclasses
import inspect
from typing import Any

import jax
import numpy as np

from bbb import checks
from bbb.data import data_for
from bbb.errors import InputError, NonFiniteInputError, fail
from bbb.model import BNN, check_model
from bbb.predictive.api import predict

MACHINE = ("rows", "memory", "mesh", "partition")
"""The options of `predict` that change no number beyond rounding: they may differ from call to call."""


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPredictive:
    """A model with the key and the number of its draws.

    Scores are exchangeable if one function of x gave them all, chosen without the rows. Other draws are another one.

    Attributes:
        model: the model.
        key: the key of the draws.
        method: as in `bbb.predict`; None for its default.
        draws: the number of draws.
    """

    model: BNN
    key: jax.Array
    method: str | None
    draws: int

    def predict(self, x: Any, machine: dict[str, Any], levels: tuple[float, ...] = ()) -> Any:
        """Return the predictive of y at each row of x, a `Marginal` or a `ClassMarginal`.

        Raises:
            InputError: for options that are not among `MACHINE`, and as `bbb.predict` raises it.
        """
        check_machine(machine)
        return predict(self.key, self.model, x, method=self.method, draws=self.draws, levels=levels, **machine).y


def fixed(verb: str, key: jax.Array, model: BNN, method: str | None, draws: Any, **given: Any) -> FixedPredictive:
    """Return a predictive, after checking its parts, and that the other arguments `given` are no tracers.

    Raises:
        KeyTypeError, InputError: for what is no key, no model of one likelihood, or no number of draws.
    """
    check_model(model)
    checks.outside(verb, key=key, model=model, **given)
    if model.joint is not None:
        heads = ", ".join(f"model.head({path!r})" for path in model.joint.paths)
        fail(InputError, f"a model of one output for {verb}", "one of several", f"Calibrate each: {heads}.")
    checks.key(key)
    return FixedPredictive(model, key, method, checks.positive_integer("draws", draws))


def check_machine(machine: dict[str, Any]) -> None:
    """Check that options are those of `predict` that change no number.

    Raises:
        InputError: naming one that is not.
    """
    known = inspect.signature(predict).parameters
    for name in machine:
        if name not in MACHINE:
            do = "Pass it to bbb.predict." if name in known else f"Pass some of {', '.join(MACHINE)}."
            fail(InputError, f"options of predict among {', '.join(MACHINE)}", repr(name), do)


def rows_to_calibrate(predictive: FixedPredictive, x: Any, y: Any, trained_on: Any) -> tuple[Any, np.ndarray]:
    """Return calibration rows, after checking them, that none has a hole, and that none was trained on.

    Args:
        predictive: of the model.
        x: the rows, as in `fit`.
        y: their targets.
        trained_on: the pair (x, y) that the model was trained on; None if it is not at hand.

    Raises:
        InputError, ShapeError, NonFiniteInputError: for rows that do not fit the model, or were trained on.
    """
    x, y = data_for(predictive.model, x, y, several=True)
    values = np.asarray(y)
    if np.isnan(values).any():
        where = tuple(map(int, np.argwhere(np.isnan(values))[0]))
        do = "Leave that row out: a score needs every target."
        fail(NonFiniteInputError, "y without missing targets, to calibrate", f"NaN at index {where}", do)
    if trained_on is not None:
        _check_held_out(x, values, _pair(predictive.model, trained_on))
    return x, values


def _pair(model: BNN, trained_on: Any) -> tuple[Any, Any]:
    if not isinstance(trained_on, tuple | list) or len(trained_on) != 2:
        do = "Pass trained_on=(x, y), as they were given to fit."
        fail(InputError, "trained_on to be a pair of x and y", f"a {type(trained_on).__name__}", do)
    x, y = trained_on
    return data_for(model, x, y, several=True)


def _check_held_out(x: Any, y: np.ndarray, trained: tuple[Any, Any]) -> None:
    """Raise for calibration rows that equal a row that was trained on, in x and y.

    Raises:
        InputError: with their number, and the first of them.
    """
    found = np.isin(_as_bytes(x, y), _as_bytes(trained[0], np.asarray(trained[1])))
    if found.any():
        got = f"{found.sum():,} of {len(found):,} that were, the first at row {int(np.argmax(found))}"
        do = "Hold rows out before training; if these are others that happen to be equal, leave trained_on out."
        fail(InputError, "calibration rows that were not trained on", got, do)


def _as_bytes(x: Any, y: np.ndarray) -> np.ndarray:
    """Return the bytes of each row, (rows,), as one value that can be compared."""
    leaves = [leaf for leaf in (np.asarray(leaf) for leaf in jax.tree.leaves((x, y))) if leaf.shape[:1] == y.shape[:1]]
    flat = [np.ascontiguousarray(leaf.reshape(len(leaf), -1) + np.zeros((), leaf.dtype)) for leaf in leaves]  # −0 + 0
    joined = np.concatenate([part.view(np.uint8).reshape(len(part), -1) for part in flat], axis=1)
    return np.ascontiguousarray(joined).view(np.dtype((np.void, joined.shape[1])))[:, 0]
