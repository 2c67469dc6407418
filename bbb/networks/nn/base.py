"""A layer: a pair of `init` and `apply`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, ShapeError, fail

MAX_UNITS = 2**31 - 1
"""The largest number of units of a layer: the length of an axis must fit into 32 bits."""


class Layer:
    """A layer: `init(key) -> params`, `apply(params, x) -> outputs`, rows along the first axis of x."""

    kind: ClassVar[str]

    @property
    def layout(self) -> str:
        """The layout of a matrix x: "columns" (features, rows), "rows" (rows, features), or "either"."""
        return "columns"

    def init(self, key: jax.Array) -> Tree:
        """Draw initial parameters; those of a layer without any are the empty tuple."""
        del key
        return ()

    def apply(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (rows, features) to (rows, features)."""
        if x.ndim != 2:
            refuse_x(f"{self.kind} takes x of shape (rows, features)", x.shape)
        return self.apply_columns(params, x.T).T

    def apply_columns(self, params: Tree, x: jax.Array) -> jax.Array:
        """Map (features, rows) to (features, rows)."""
        raise NotImplementedError

    def state(self, params: Tree) -> Tree:
        """Return a tree of bools like `params`: True for statistics of the data, which are not trained."""
        return jax.tree.map(lambda _: False, params)

    def run(self, params: Tree, x: jax.Array, key: jax.Array | None, columns: bool) -> tuple[jax.Array, Tree]:
        """Return outputs and updates for x in either layout; in training mode if there is a key."""
        del key
        y = self.apply_columns(params, x) if columns else self.apply(params, x)
        return y, jax.tree.map(lambda _: None, params)

    def describe(self) -> dict[str, Any]:
        """Return the layer as a dictionary of JSON values, from which `build` makes it again."""
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind, **options}


def refuse_x(takes: str, met: Any) -> NoReturn:
    """Raise the ShapeError of an x that does not fit a layer; its first line is part of the message for a network."""
    raise ShapeError(f"Expected an x that fits the network: {takes}, got {met}.")


def check_params(layer: "Layer", params: Tree, *wanted: str) -> Tree:
    """Check that the parameters of a layer have all of its arrays, and return them.

    Raises:
        ShapeError: if one is missing.
    """
    if not isinstance(params, Mapping) or any(name not in params for name in wanted):
        got = f"{sorted(params)}" if isinstance(params, Mapping) else f"a {type(params).__name__}"
        do = "Pass the parameters that its init returned."
        fail(ShapeError, f"the parameters of a {layer.kind} layer, {list(wanted)}", got, do)
    return params


def check_start(init_by: Any, *known: str) -> None:
    """Check that an initialisation is one of the known words."""
    if not checks.is_word(init_by, known):
        expected = " or ".join(f'"{name}"' for name in known)
        fail(InputError, f"init_by to be {expected}", repr(init_by), "Pass one of them.")


def check_fraction(name: str, value: Any) -> None:
    """Check that `value` is a number between 0 and 1."""
    checks.untraced("bbb", **{name: value})
    checks.not_negative(name, value)
    if value > 1:
        fail(InputError, f"{name} to be at most 1", f"{value}", f"Pass {name}=0.1, for example.")


def draw_weights(key: jax.Array, shape: Sequence[int], bound: float, he: bool, bias: bool) -> Tree:
    """Draw weights from N(0, 2·bound²), or U(±bound), and biases from U(±bound)."""
    checks.key(key)
    smallest = jnp.finfo(jax.dtypes.canonicalize_dtype(float)).eps
    uniform = jax.random.uniform(key, (shape[0], math.prod(shape[1:]) + 1), minval=smallest - 1.0)
    weight, last = uniform[:, :-1].reshape(shape), uniform[:, -1]
    if he:
        weight = math.sqrt(2.0) * jax.scipy.special.erfinv(weight) * math.sqrt(2.0)
    weight = weight * bound
    return {"weight": weight, "bias": last * bound} if bias else {"weight": weight}


def per_axis(name: str, value: Any, dims: int, least: int = 1) -> tuple[int, ...]:
    """Return one whole number for each dimension, from such a sequence or a single number.

    Raises:
        InputError: if it is neither.
    """
    many = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= least for n in many)
    if len(many) != dims or not whole:
        fail(
            InputError,
            f"{name} to be a whole number of at least {least}, or {dims} of them",
            repr(value),
            f"Pass {name}={least} or more.",
        )
    return tuple(map(int, many))
