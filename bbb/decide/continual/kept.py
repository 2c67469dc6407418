"""What an update does not learn: the noise, and leaves that are point estimates."""

import dataclasses
from typing import Any

import jax
from jax import lax

from bbb.core.tree import Tree, is_none, pytree_dataclass
from bbb.likelihoods.joint import Joint
from bbb.model import BNN
from bbb.posteriors.protocol import Posterior
from bbb.tracing.network import Apply


@dataclasses.dataclass(frozen=True)
class AsPredicted:
    """A network as it predicts, of which some leaves have no gradient; compared by value.

    Without a training mode: dropout is off, and running statistics are those that it has.

    Attributes:
        apply: the network.
        random: which leaves of the parameters, in the order of `jax.tree.leaves`, have a gradient.
    """

    apply: Apply
    random: tuple[bool, ...]

    def __call__(self, params: Tree, x: Tree) -> Tree:
        """Return the network's outputs."""
        leaves, structure = jax.tree.flatten(params)
        kept = [leaf if free else lax.stop_gradient(leaf) for leaf, free in zip(leaves, self.random, strict=True)]
        return self.apply(jax.tree.unflatten(structure, kept), x)


def as_predicted(model: BNN) -> Apply:
    """Return the network of a model as it predicts: itself, if all leaves are random and it has no training mode."""
    drawn = model.posterior.random_leaves(model.posterior.params)
    random = tuple(leaf is not None for leaf in jax.tree.leaves(drawn, is_leaf=is_none))
    if all(random) and not hasattr(model.apply, "train"):
        return model.apply
    return AsPredicted(model.apply, random)


def with_fixed_leaves(posterior: Any, before: Posterior) -> Any:
    """Return a posterior whose leaves that are point estimates are those of another one."""
    drawn = posterior.random_leaves(posterior.params)
    params = jax.tree.map(lambda new, old: old if new is None else new, drawn, before.params, is_leaf=is_none)
    return posterior.with_params(params)


@pytree_dataclass(data=("likelihood",))
class KnownNoise:
    """A likelihood whose parameters are known, and that may meet rows of one class alone.

    Attributes:
        likelihood: whose other abilities it has.
    """

    likelihood: Any

    @property
    def learn(self) -> bool:
        """False: training leaves its parameters as they are."""
        return False

    def as_target(self, y: Any, outputs: Any) -> Any:
        """Return y as the likelihood takes it."""
        return self.likelihood.as_target(y, outputs)

    def log_prob(self, y: Any, outputs: Any) -> jax.Array:
        """Return log p(y | outputs) in nats, (rows,)."""
        return self.likelihood.log_prob(y, outputs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("likelihood", "check_training"):
            raise AttributeError(name)
        return getattr(self.likelihood, name)


def known_noise(likelihood: Any) -> Any:
    """Return a likelihood of known parameters; of several outputs, for each of them."""
    if not isinstance(likelihood, Joint):
        return KnownNoise(likelihood)
    parts = jax.tree.map(KnownNoise, likelihood.parts, is_leaf=lambda part: hasattr(part, "log_prob"))
    return Joint(parts)
