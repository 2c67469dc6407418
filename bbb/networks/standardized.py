"""Standardisation as part of any network, which then sees columns of mean 0 and std 1; users see original units."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.core.tree import Tree, is_floating
from bbb.errors import InputError, ShapeError, fail
from bbb.networks.adapters.select import library_of
from bbb.networks.protocol import by_value
from bbb.tracing.network import Apply


@dataclasses.dataclass(frozen=True, repr=False)
class Standardized:
    """A network between two fixed affine maps; compared by value, so that equal ones compile once."""

    apply: Apply
    x_mean: tuple[float, ...]
    x_std: tuple[float, ...]
    y_mean: tuple[float, ...]
    y_std: tuple[float, ...]

    def __call__(self, params: Tree, x: jax.Array) -> Tree:
        """Return the outputs in original units, for x in original units."""
        return self._in_units(self.apply(params, self._standard(x)))

    def __repr__(self) -> str:
        return f"Standardized({display.network(self.apply)})"

    @property
    def train(self) -> Any:
        """The network in training mode, if it has one: see the head of `bbb.model`."""
        train = self.apply.train  # type: ignore[attr-defined]

        def standardized(params: Tree, x: Any, key: Any) -> tuple[Any, Tree]:
            outputs, updates = train(params, self._standard(x), key)
            return self._in_units(outputs), updates

        return standardized

    @property
    def state(self) -> Any:
        """The function that says which leaves are state, if the network has one: see the head of `bbb.model`."""
        return self.apply.state  # type: ignore[attr-defined]

    @property
    def restore(self) -> Any:
        """The function that puts parameters into another library's object, if an adapter returned the network."""
        return self.apply.restore  # type: ignore[attr-defined]

    def _standard(self, x: jax.Array) -> Tree:
        x = jnp.asarray(x)
        if not is_floating(x):  # the dtype of whole numbers cannot represent the mean and the std
            x = x.astype(float)
        mean, std = (jnp.asarray(part, x.dtype)[None] for part in (self.x_mean, self.x_std))
        return (x - mean) / std

    def _in_units(self, outputs: jax.Array) -> Tree:
        mean, std = (jnp.asarray(part, outputs.dtype)[None] for part in (self.y_mean, self.y_std))
        columns, width = len(self.y_mean), outputs.shape[-1]
        if width not in (columns, 2 * columns):
            expected = (
                f"a network with {columns} outputs, one for each column of y, or {2 * columns}: means, then log stds"
            )
            do = "Change the width of its last layer."
            fail(ShapeError, expected, f"outputs of shape {outputs.shape}", do)
        if width == columns:
            return mean + std * outputs
        # for HeteroscedasticGaussian: a change of units shifts the logarithm of a std, and does not scale it
        parts = (mean + std * outputs[..., :columns], jnp.log(std) + outputs[..., columns:])
        return jnp.concatenate(parts, axis=-1)


def standardize(apply: Any, x: ArrayLike, y: ArrayLike) -> Standardized:
    """Wrap a network so that it is trained on standardised columns, while x, y and all results keep their units.

    The noise of a likelihood is then in original units, and the prior of the weights refers to standardised columns.
    A network with dropout or running statistics keeps its training mode. To save a network of `bbb.nn`, put `nn.affine`
    layers around it instead.

    Args:
        apply: `apply(params, x) -> outputs`, from (rows, features) to (rows, columns of y), or to twice as many for
            `likelihood.HeteroscedasticGaussian`: means, then logarithms of stds; such as `network.apply`. For another
            library's object, pass the first of the pair that its adapter returns, such as
            `bbb.networks.adapters.linen(module, variables)`.
        x: (rows, features), the training rows, without constant columns.
        y: (rows, outputs), the training targets, without constant columns.

    Returns:
        A function `apply(params, x) -> outputs` in original units.

    Raises:
        ShapeError: if x or y does not have two axes, or they differ in the number of rows.
        InputError: if a column is constant, or `apply` is not a function of parameters and x.
        NonFiniteInputError: if a number is not finite.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> network = bbb.networks.standardize(layer.apply, task.x, task.y)
        >>> network(layer.init(jax.random.key(0)), task.x).shape
        (20, 1)
    """
    if not callable(apply):
        do = "Pass a function apply(params, x), such as network.apply."
        fail(InputError, "a network to standardise", f"{apply!r}", do)
    name = library_of(apply)
    if name is not None and not hasattr(apply, "__wrapped__"):  # wrapped functions, as by equinox.filter_jit, pass
        do = f"Pass the first value that bbb.networks.adapters.{name} returns, and the second to bbb.bayesianize."
        got = f"another library's own object, a {type(apply).__name__}"
        fail(InputError, "a function apply(params, x) to standardise", got, do)
    checks.outside("standardize", x=x, y=y)
    (x_mean, x_std), (y_mean, y_std) = _measured("x", x), _measured("y", y)
    checks.same_rows(np.asarray(x), np.asarray(y))
    return Standardized(by_value(apply), x_mean, x_std, y_mean, y_std)


def _measured(name: str, values: ArrayLike) -> tuple[tuple[float, ...], tuple[float, ...]]:
    array = np.asarray(checks.rows(name, values), float)
    if array.ndim != 2:
        do = f"Pass {name}.reshape(len({name}), -1)."
        fail(ShapeError, f"{name} of shape (rows, columns)", f"shape {array.shape}", do)
    """Return the mean and the standard deviation of each column."""
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is reported below
        std = np.std(array, axis=0)
    for column in np.flatnonzero(~np.isfinite(std)):
        do = f"Pass {name} in other units."
        fail(InputError, f"the standard deviation of {name}[:, {column}] to be finite", "infinity", do)
    for column in np.flatnonzero(std == 0):
        do = "A constant column carries no information: remove it."
        fail(InputError, f"{name}[:, {column}] to vary", f"{array[0, column]:g} in every row", do)
    return tuple(np.mean(array, axis=0).tolist()), tuple(std.tolist())
