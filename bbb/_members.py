"""A likelihood whose parameters were learned by each member of an ensemble."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bbb import _check
from bbb._tree import Tree, noun


@noun(data=("likelihood",), saved=True)
class PerMember:
    """The likelihood of an ensemble's draws: that of draw i is the one of member i % members.

    It has the methods of the likelihood it holds, which work element by element on draws (draws, rows, ...) of a
    multiple of the number of members, and on y (rows, ...) with a leading axis of 1 or of the draws.

    Attributes:
        likelihood: whose parameters have a leading axis of members.
    """

    likelihood: Any

    def __len__(self) -> int:
        """Count the members."""
        return int(jax.tree.leaves(self.likelihood)[0].shape[0])

    def of_member(self, k: int) -> Any:
        """Give the likelihood of one member."""
        return jax.tree.map(lambda leaf: leaf[k], self.likelihood)

    @property
    def learn(self) -> bool:
        """Whether `fit` trains them: an ensemble is trained."""
        return False

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Refuse a y that is no observation of a network with such outputs, as the likelihood does."""
        return self.of_member(0).as_target(y, outputs)

    def log_prob_of_draws(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Give log p(y | draw) in nats of each draw and row, (draws, rows), for y (rows, ...)."""

        def of_draws(likelihood: Any, outputs: jax.Array) -> jax.Array:
            return jax.vmap(likelihood.log_prob, in_axes=(None, 0))(y, outputs)

        return _joined(jax.vmap(of_draws, in_axes=(0, 1), out_axes=1)(self.likelihood, self._split(outputs)))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element of the outputs, (draws, rows, ...)."""
        keys = jax.random.split(key, len(self))
        each = jax.vmap(lambda likelihood, k, part: likelihood.sample(k, part), in_axes=(0, 0, 1), out_axes=1)
        return _joined(each(self.likelihood, keys, self._split(outputs)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("likelihood", "log_prob", "tabulated_cdf"):  # of one likelihood alone
            raise AttributeError(name)
        value = getattr(self.likelihood, name)
        return partial(self._elementwise, name) if callable(value) else value

    def _elementwise(self, name: str, *args: Any) -> Any:
        """Call a method of each member's likelihood on its draws; arrays without draws go to all."""
        flat, structure = jax.tree.flatten(jax.tree.map(self._split, args))
        axes = [1 if part.shape[1] == len(self) else None for part in flat]
        flat = [part[:, 0] if axis is None else part for part, axis in zip(flat, axes, strict=True)]

        def of_draws(likelihood: Any, *flat: Any) -> Any:
            return getattr(likelihood, name)(*jax.tree.unflatten(structure, flat))

        return jax.tree.map(_joined, jax.vmap(of_draws, in_axes=(0, *axes), out_axes=1)(self.likelihood, *flat))

    def _split(self, array: Any) -> jax.Array:
        """Make (draws, ...) into (draws / members, members, ...); a leading axis of 1 into two."""
        array = jnp.asarray(array)
        draws, members = array.shape[0], len(self)
        if draws == 1:
            return array[None]
        if draws % members:
            do = f"Ask bbb.draws for a multiple of {members}."
            _check.fail(_check.ShapeError, f"draws of {members} members, in equal numbers", f"{draws} draws", do)
        return array.reshape(draws // members, members, *array.shape[1:])


def _joined(array: Tree) -> Any:
    return array.reshape(-1, *array.shape[2:])
