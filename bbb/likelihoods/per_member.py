"""The likelihood of an ensemble, each of whose members has learned parameters of its own."""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bbb.core.tree import Tree, pytree_dataclass
from bbb.errors import ShapeError, fail
from bbb.likelihoods.protocol import Likelihood, SupportsSampling

NOT_OF_DRAWS = ("likelihood", "log_prob", "tabulated_cdf", "fisher_root")
"""Attributes that are not passed on: such methods are not elementwise, or for parameters of one member."""


@pytree_dataclass(data=("likelihood",), saved=True)
class PerMember:
    """The likelihood of the draws of an ensemble: draw i has the parameters of member i % members.

    It has the methods of the likelihood that it wraps, and so its optional abilities: they work element by element on
    draws (draws, rows, ...), a multiple of the number of members, and on y (rows, ...) with a leading axis of 1 or of
    the draws. Of `log_prob`, which does not, it has `log_prob_of_draws` instead.

    Attributes:
        likelihood: one whose parameters have a leading axis of members.
    """

    likelihood: Likelihood

    def __len__(self) -> int:
        """Return the number of members."""
        return int(jax.tree.leaves(self.likelihood)[0].shape[0])

    def of_member(self, k: int) -> Likelihood:
        """Return the likelihood of one member."""
        return jax.tree.map(lambda leaf: leaf[k], self.likelihood)

    @property
    def learn(self) -> bool:
        """False: an ensemble has been trained."""
        return False

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y as the likelihood of a member does; raise if it is not an observation of such outputs."""
        return self.of_member(0).as_target(y, outputs)

    def log_prob_of_draws(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | draw) in nats of each draw and row, (draws, rows), for y (rows, ...)."""

        def of_draws(likelihood: Likelihood, outputs: jax.Array) -> jax.Array:
            return jax.vmap(likelihood.log_prob, in_axes=(None, 0))(y, outputs)

        return _joined(jax.vmap(of_draws, in_axes=(0, 1), out_axes=1)(self.likelihood, self._split(outputs)))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element of the outputs, (draws, rows, ...)."""
        keys = jax.random.split(key, len(self))

        def of_draws(likelihood: SupportsSampling, k: jax.Array, part: jax.Array) -> jax.Array:
            return likelihood.sample(k, part)

        each = jax.vmap(of_draws, in_axes=(0, 0, 1), out_axes=1)
        return _joined(each(cast(SupportsSampling, self.likelihood), keys, self._split(outputs)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in NOT_OF_DRAWS:
            raise AttributeError(name)
        value = getattr(self.likelihood, name)
        return partial(self._elementwise, name) if callable(value) else value

    def _elementwise(self, name: str, *args: Tree) -> Tree:
        """Call a method of the likelihood of each member on its draws; arrays without draws are passed to all."""
        flat, structure = jax.tree.flatten(jax.tree.map(self._split, args))
        axes = [1 if part.shape[1] == len(self) else None for part in flat]
        flat = [part[:, 0] if axis is None else part for part, axis in zip(flat, axes, strict=True)]

        def of_draws(likelihood: Likelihood, *flat: jax.Array) -> Tree:
            return getattr(likelihood, name)(*jax.tree.unflatten(structure, flat))

        return jax.tree.map(_joined, jax.vmap(of_draws, in_axes=(0, *axes), out_axes=1)(self.likelihood, *flat))

    def _split(self, values: ArrayLike) -> jax.Array:
        """Return (draws, ...) as (draws / members, members, ...), and a leading axis of 1 as two."""
        array = jnp.asarray(values)
        draws, members = array.shape[0], len(self)
        if draws == 1:
            return array[None]
        if draws % members:
            do = f"Ask bbb.draws for a multiple of {members}."
            fail(ShapeError, f"draws of {members} members, in equal numbers", f"{draws} draws", do)
        return array.reshape(draws // members, members, *array.shape[1:])


def _joined(array: jax.Array) -> jax.Array:
    return array.reshape(-1, *array.shape[2:])
