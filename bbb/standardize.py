"""Standardisation as part of any network: it sees columns of mean 0 and std 1, and users see original units."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from bbb import _check
from bbb._tree import Tree
from bbb.forward import Apply


@dataclasses.dataclass(frozen=True)
class Standardized:
    """A network between two fixed affine maps; compares by value, so that equal ones compile once."""

    apply: Apply
    x_mean: tuple[float, ...]
    x_std: tuple[float, ...]
    y_mean: tuple[float, ...]
    y_std: tuple[float, ...]

    def __call__(self, params: Tree, x: Any) -> Any:
        """Give the outputs in original units, for x in original units."""
        x_mean, x_std, y_mean, y_std = (
            jnp.asarray(part, x.dtype)[None] for part in (self.x_mean, self.x_std, self.y_mean, self.y_std)
        )
        return y_mean + y_std * self.apply(params, (x - x_mean) / x_std)


def standardize(apply: Any, x: Any, y: Any) -> Standardized:
    """Wrap a network so that it learns standardised columns, while x, y and every result stay in original units.

    The noise of a likelihood is then in original units, and the prior of the weights refers to standardised columns.
    For a network of `bbb.nn` that is to be saved, put `nn.affine` layers around it instead.

    Args:
        apply: `apply(params, x) -> outputs`, from (rows, features) to (rows, outputs), such as `network.apply`.
        x: (rows, features), the training rows; no column constant.
        y: (rows, outputs), likewise.

    Raises:
        ShapeError: if x or y has not two axes, or they differ in rows.
        InputError: if a column is constant, or the network has a training mode, which a wrapper would hide.
        NonFiniteInputError: for numbers that are not finite.
    """
    if not callable(apply):
        do = "Pass a function apply(params, x), such as network.apply."
        _check.fail(_check.InputError, "a network to standardise", f"{apply!r}", do)
    if hasattr(apply, "train"):
        do = "Standardise the columns before, or put the means into its parameters."
        _check.fail(_check.InputError, "a network without a training mode", "one with dropout or statistics", do)
    _check.outside("standardize", x=x, y=y)
    (x_mean, x_std), (y_mean, y_std) = _measured("x", x), _measured("y", y)
    _check.same_rows(np.asarray(x), np.asarray(y))
    return Standardized(apply, x_mean, x_std, y_mean, y_std)


def _measured(name: str, values: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    array = np.asarray(_check.rows(name, values), float)
    if array.ndim != 2:
        do = f"Pass {name}.reshape(len({name}), -1)."
        _check.fail(_check.ShapeError, f"{name} of shape (rows, columns)", f"shape {array.shape}", do)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        std = np.std(array, axis=0)
    for column in np.flatnonzero(~np.isfinite(std)):
        do = f"Pass {name} in other units."
        _check.fail(_check.InputError, f"a standard deviation of {name}[:, {column}] that is finite", "infinity", do)
    for column in np.flatnonzero(std == 0):
        do = "It says nothing: leave it out."
        _check.fail(_check.InputError, f"{name}[:, {column}] to vary", f"{array[0, column]:g} in every row", do)
    return tuple(np.mean(array, axis=0).tolist()), tuple(std.tolist())
