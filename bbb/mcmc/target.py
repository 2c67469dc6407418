"""What chains sample: the log density of a model's weights, in units of the prior."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bbb.core.ability import implements
from bbb.core.tree import Tree, from_vector, is_none, sum_leaves, to_vector
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsFunction
from bbb.priors.protocol import SupportsFitting, SupportsLogDensity, SupportsLogProb, SupportsScales
from bbb.tracing.network import Apply


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Target:
    """The posterior of a model's random weights, given all rows of the data; a pytree, of which `apply` is static.

    A position θ, (d,), holds the random weights over their scales, in the order of `jax.tree.leaves`.

    Attributes:
        apply: the network.
        like: the random leaves of some parameters, None in the place of the rest: only shapes and dtypes count.
        scale: (d,), the standard deviations of the prior, or 1 where it does not know them.
        prior: with `log_prob` or `log_density`.
        likelihood: whose learned parameters are held.
        x: (rows, ...), all of the data.
        y: observed there.
        watched: rows at which the function is kept: whole numbers, (n,), that count rows of x; or other rows, (n, ...).
        of_data: whether they are rows of x.
        sample_weight: (rows,), how often each row counts; None for once.
    """

    apply: Apply = dataclasses.field(metadata={"static": True})
    like: Tree
    scale: jax.Array
    prior: Any
    likelihood: Any
    x: jax.Array
    y: jax.Array
    watched: jax.Array
    of_data: bool = dataclasses.field(metadata={"static": True})
    sample_weight: jax.Array | None = None

    def random(self, position: jax.Array) -> Tree:
        """Return the random leaves at a position, each in its own dtype, with None in the place of the rest."""
        return from_vector(self.scale * position, self.like)

    def position(self, random: Tree) -> jax.Array:
        """Return the position of random leaves, (d,): undoes `random`."""
        return to_vector(random, self.scale.dtype) / self.scale

    def log_density(self, position: jax.Array, fixed: Tree) -> jax.Array:
        """Return Σ log p(y | x, w) + log p(w), in nats: a scalar, over all rows and all random weights.

        It is the density of w; that of θ is larger by the constant Σ log scale.
        """
        random = self.random(position)
        nats = self.likelihood.log_prob(self.y, self.apply(joined(random, fixed), self.x))
        nats = nats.astype(position.dtype)
        if self.sample_weight is not None:
            nats = nats * self.sample_weight.astype(position.dtype)
        return jnp.sum(nats) + log_prior(self.prior, random).astype(position.dtype)

    def function(self, position: jax.Array, fixed: Tree) -> jax.Array:
        """Return the function at the watched rows, (n, ...)."""
        params = joined(self.random(position), fixed)
        outputs = self.apply(params, self.x)[self.watched] if self.of_data else self.apply(params, self.watched)
        return self.likelihood.function(outputs) if implements(self.likelihood, SupportsFunction) else outputs


def joined(random: Tree, fixed: Tree) -> Tree:
    """Return the parameters of random leaves and of the rest, each a tree with None in the other's place."""
    return jax.tree.map(lambda leaf, rest: rest if leaf is None else leaf, random, fixed, is_leaf=is_none)


def log_prior(prior: Any, random: Tree) -> jax.Array:
    """Return log p(w), in nats: a scalar."""
    if implements(prior, SupportsLogProb):
        return prior.log_prob(random)
    return sum_leaves(prior.log_density(random))


def check_density(prior: Any, verb: str) -> None:
    """Raise for a prior without a density of its own.

    Raises:
        InputError: naming the prior, and what to do.
    """
    name = type(prior).__name__
    if implements(prior, SupportsFitting):
        do = "Hold it: dataclasses.replace(model, prior=model.prior.fitted(model.member(0).posterior))."
        got = f"a {name}, whose scales follow from the posterior"
        fail(InputError, f"a prior with a density of its own, for {verb}", got, do)
    if not (implements(prior, SupportsLogProb) or implements(prior, SupportsLogDensity)):
        do = "Take one of bbb.priors, such as Normal."
        fail(InputError, f"a prior with `log_prob` or `log_density`, for {verb}", f"a {name} without", do)


def scale_of(prior: Any, random: Tree, dtype: Any) -> jax.Array:
    """Return the standard deviations of the prior, (d,); 1 for a prior that does not know them."""
    if implements(prior, SupportsScales):
        return to_vector(prior.scales(random), dtype)
    return to_vector(jax.tree.map(jnp.ones_like, random), dtype)
