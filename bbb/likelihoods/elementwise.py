"""What the likelihoods of this library share: outputs that are independent of each other, and parameters of a row."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import ShapeError, fail


class FixedLikelihood:
    """The base of likelihoods without parameters of their own."""

    @property
    def learn(self) -> bool:
        """False: there is nothing for `fit` to train."""
        return False


class ElementwiseLikelihood:
    """The base of likelihoods of numbers: one observation for each output, and the function is the outputs."""

    discrete = False

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype of the outputs.

        Raises:
            ShapeError: if y does not have the shape of the outputs.
        """
        checks.target(y, outputs)
        return y.astype(outputs.dtype)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | outputs) in nats, of each element."""
        raise NotImplementedError

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | outputs) in nats, shape (rows,): summed over the outputs of a row.

        Raises:
            ShapeError, InputError: as `as_target`.
        """
        y = self.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape, outputs.dtype))
        nats = self.log_density(y, outputs)
        return jnp.sum(nats, axis=tuple(range(1, nats.ndim)))

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return p(y | outputs), per unit of y."""
        return jnp.exp(self.log_density(y, outputs))

    def function(self, outputs: jax.Array) -> jax.Array:
        """Return the outputs unchanged."""
        return outputs


def root_of_diagonal(root: jax.Array) -> jax.Array:
    """Return the diagonal matrices (rows, k, k) of the square roots of an information, (rows, ...), k numbers a row."""
    flat = root.reshape(root.shape[0], -1)
    return flat[:, :, None] * jnp.eye(flat.shape[1], dtype=root.dtype)[None]


def natural_log(value: Tree) -> Tree:
    """Return the logarithm, by JAX of a JAX array and otherwise by NumPy, so that no device is started for a number."""
    return jnp.log(value) if isinstance(value, jax.Array) else np.log(value)


def as_row_parameter(value: Tree, outputs: jax.Array, name: str) -> jax.Array:
    """Return a parameter in the dtype of the outputs and, for strict promotion, with as many axes.

    Args:
        value: a number, or an array that broadcasts against one row of outputs.
        outputs: (..., outputs of a row).
        name: what an error calls the parameter.

    Raises:
        ShapeError: if it does not broadcast.
    """
    array = jnp.asarray(value, outputs.dtype)
    row = outputs.shape[max(outputs.ndim - array.ndim, 0) :]
    if array.ndim > outputs.ndim or any(n not in (1, m) for n, m in zip(array.shape, row, strict=True)):
        fail(
            ShapeError,
            f"{name} to broadcast against outputs of shape (..., {', '.join(map(str, row))})",
            f"shape {array.shape}",
            "Pass one number, or one for each output of a row.",
        )
    return array.reshape((1,) * (outputs.ndim - array.ndim) + array.shape)


def first_invalid(y: jax.Array, invalid: Callable[[np.ndarray], np.ndarray]) -> str | None:
    """Return the first number of y that is invalid and its index, as text; None if all are valid, or y is traced."""
    if isinstance(y, jax.core.Tracer):
        return None
    array = np.asarray(y)
    where = np.argwhere(invalid(array))
    return f"{array[tuple(where[0])]:g} at index {tuple(map(int, where[0]))}" if len(where) else None
