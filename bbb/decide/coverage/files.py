"""Calibrated models in files: a model file, with the scores beside the model."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.decide.coverage.calibration import Calibration, group_names
from bbb.decide.coverage.fixed import FixedPredictive
from bbb.errors import InputError, KeyTypeError, ModelFileError
from bbb.io import models
from bbb.model import BNN
from bbb.predictive.api import METHODS

KEPT = "conformal"
"""The name of the description in the metadata."""

KEYS = ("threefry2x32", "rbg", "unsafe_rbg")
"""The kinds of keys that a file may hold: those of JAX."""


def described(calibration: Calibration) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a calibration as JSON and as arrays by name."""
    arrays = {"scores": calibration.scores}
    names = None
    if calibration.weights is not None:
        arrays["weights"] = calibration.weights
    if calibration.groups is not None:
        kinds, arrays["groups"] = np.unique(calibration.groups, return_inverse=True)
        names = kinds.tolist()
    return {"levels": list(calibration.levels), "groups": names}, arrays


def calibration_in(description: Any, arrays: dict[str, np.ndarray]) -> Calibration:
    """Return the calibration that `described` wrote.

    Raises:
        Exception: if the file holds something else.
    """
    scores, levels, names = arrays["scores"], description["levels"], description["groups"]
    if names is not None and (arrays["groups"] < 0).any():
        raise ValueError("a group below 0")
    groups = None if names is None else group_names(np.array(names)[arrays["groups"]], scores.shape[1])
    weights = arrays.get("weights")
    of_rows = [part for part in (groups, weights) if part is not None]
    good = scores.ndim >= 2 and scores.shape[1] > 0 and all(part.shape == scores.shape[1:2] for part in of_rows)
    numbers = all(isinstance(level, float) and 0 < level < 1 for level in levels)
    if not (good and numbers and scores.dtype == np.float64 and len(scores) == max(1, len(levels))):
        raise ValueError("scores, levels and groups that do not fit one another")
    if weights is not None and not (weights >= 0).all():
        raise ValueError("a weight below 0")
    return Calibration(scores, tuple(levels), groups, weights)


def write(path: str | os.PathLike[str], score: Any, predictive: FixedPredictive, calibration: Calibration) -> None:
    """Write a calibrated model: its score is a word, or a dataclass of plain values.

    Raises:
        WriteError: if the file cannot be written.
    """
    description, arrays = described(calibration)
    description |= {"score": score if isinstance(score, str) else dataclasses.asdict(score)}
    description |= {"method": predictive.method, "draws": predictive.draws}
    description |= {"key": str(jax.random.key_impl(predictive.key))}
    arrays["key"] = np.asarray(jax.random.key_data(predictive.key))
    models.save_with_arrays(path, predictive.model, {KEPT: description}, arrays)


def read(path: str | os.PathLike[str], like: BNN | None) -> tuple[Any, FixedPredictive, Calibration]:
    """Return the score, the predictive and the calibration that `write` wrote.

    Raises:
        ModelFileError: if the file is missing or damaged, or holds no calibration.
    """
    model, metadata, arrays = models.load_with_arrays(path, like)
    try:
        found = metadata[KEPT]
        if found["key"] not in KEYS:
            raise ValueError("a key of an unknown kind")
        key = jax.random.wrap_key_data(jnp.asarray(arrays["key"]), impl=found["key"])
        checks.key(key)
        if not (found["method"] is None or checks.is_word(found["method"], METHODS)):
            raise ValueError("a method of an unknown name")
        predictive = FixedPredictive(model, key, found["method"], checks.positive_integer("draws", found["draws"]))
        return found["score"], predictive, calibration_in(found, arrays)
    except (KeyError, TypeError, ValueError, IndexError, InputError, KeyTypeError) as error:
        raise ModelFileError(
            f"Expected {path} to hold a calibrated model, got: {type(error).__name__} {error}. "
            "Pass a file written by Conformal.save or ConformalSets.save."
        ) from error
