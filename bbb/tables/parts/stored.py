"""What the metadata of a model's file hold beside the model, checked as it is read."""

import os
from typing import Any

import numpy as np

from bbb.decide.coverage.calibration import Calibration
from bbb.decide.coverage.files import calibration_in as any_calibration_in
from bbb.errors import InputError, ModelFileError
from bbb.evaluate.diagnosis.case import Finding
from bbb.tables.encoding import Encoding


def are_names(values: Any) -> bool:
    """Return whether a value from a file is a list of unique names."""
    is_list = isinstance(values, list) and len(values) > 0 and all(isinstance(name, str) for name in values)
    return is_list and len(set(values)) == len(values)


def findings_in(path: str | os.PathLike[str], given: Any) -> tuple[Finding, ...] | None:
    """Return the findings of the training in a file; None if there are none, as in files of earlier versions.

    Raises:
        ModelFileError: if the value is not a list of findings.
    """
    if given is None:
        return None
    width = len(Finding._fields)
    if not isinstance(given, list) or not all(
        isinstance(parts, list) and len(parts) == width and all(isinstance(part, str) for part in parts)
        for parts in given
    ):
        raise ModelFileError(
            f"Expected {path} to hold a list of the findings of its training, got something else. "
            "Pass a model written by `bbb fit`."
        )
    return tuple(Finding(*parts) for parts in given)


def encoding_in(path: str | os.PathLike[str], features: tuple[str, ...], given: Any) -> Encoding | None:
    """Return the encoding in a file; None if there is none, as of numbers, and in files of earlier versions.

    Raises:
        ModelFileError: if the value describes no encoding.
    """
    try:
        return None if given is None else Encoding.of_description(features, given)
    except InputError as error:
        message = f"Expected {path} to hold an encoding of its columns, got another value: {error}"
        raise ModelFileError(message) from error


def count_in(path: str | os.PathLike[str], given: Any) -> int | None:
    """Return a number of rows in a file; None if there is none, as in files of earlier versions.

    Raises:
        ModelFileError: if it is no whole number above 0.
    """
    if given is None or (type(given) is int and given > 0):
        return given
    message = f"Expected {path} to hold how many rows it was learned from, got {given!r}."
    raise ModelFileError(f"{message} Pass a model written by `bbb fit`.")


def calibration_in(path: str | os.PathLike[str], given: Any, arrays: dict[str, np.ndarray]) -> Calibration | None:
    """Return the calibration in a file; None if there is none, as in files of earlier versions.

    Raises:
        ModelFileError: if the file holds another.
    """
    if given is None:
        return None
    try:
        found = any_calibration_in(given, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, InputError) as error:
        message = f"Expected {path} to hold the scores of its calibration, got {type(error).__name__}: {error}."
        raise ModelFileError(f"{message} Pass a model written by `bbb fit`.") from error
    if found.levels or found.groups is not None or found.weights is not None:
        raise ModelFileError(f"Expected {path} to hold a calibration for any level, got another. Update bbb.")
    return found
