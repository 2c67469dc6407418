"""Checks of arguments that the checks of models share."""

from typing import Any

from bbb import checks
from bbb.data import data_for
from bbb.errors import InputError, fail
from bbb.model import BNN, check_model


def check_one_output(model: BNN, verb: str) -> None:
    """Raise for what is no model, or one of several outputs.

    Raises:
        InputError: naming the verb, and an output to take.
    """
    check_model(model)
    if model.joint is not None:
        do = f"Pass model.head({model.joint.paths[0]!r}), and its y."
        fail(InputError, f"a model of one output, for {verb}", f"one of {len(model.joint.paths)}", do)


def complete_data(model: BNN, x: Any, y: Any) -> tuple[Any, Any]:
    """Check x and y against a model of one or several members; no target may be missing.

    Raises:
        InputError, ShapeError, NonFiniteInputError: if they do not fit.
    """
    x, y = data_for(model, x, y, several=True)
    checks.rows("y", y)  # a likelihood of missing targets lets NaN pass
    return x, y


def least_draws(draws: Any, least: int, why: str) -> int:
    """Return a number of draws, of at least so many.

    Raises:
        InputError: saying why so many are needed.
    """
    draws = checks.positive_integer("draws", draws)
    if draws < least:
        fail(InputError, f"draws of at least {least:,}, {why}", f"{draws:,}", f"Pass draws={least} or more.")
    return draws


def fits_memory(needed: int, what: str, memory: int | str) -> int:
    """Return the memory that is left beside what needs so many bytes.

    Raises:
        InputError: if there is less than that.
    """
    limit = checks.memory(memory)
    if needed >= limit:
        fail(InputError, f"memory of more than {needed:,} bytes for {what}", f"{limit:,}", "Pass more memory.")
    return limit - needed
