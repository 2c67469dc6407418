"""What the pictures of weights show, layer by layer: their signal-to-noise ratios, and their densities."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.scipy.special import ndtr

from bbb import checks
from bbb.core.ability import implements
from bbb.core.tree import Tree, names
from bbb.evaluate.pruning import signal_to_noise
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_gaussians, marginals
from bbb.priors.multivariate_normal import MultivariateNormal
from bbb.priors.protocol import Prior, SupportsFitting

CELLS = 400
"""Points of a density."""


class Densities(NamedTuple):
    """The densities of the weights of each layer.

    Attributes:
        values: (cells,), weights.
        layers: the names of the layers.
        posterior: (layers, members, cells), averaged over the weights of a layer.
        prior: (layers, cells), within one leaf the geometric mean of its weights' densities; averaged over members.
    """

    values: np.ndarray
    layers: list[str]
    posterior: np.ndarray
    prior: np.ndarray


def ratios_of_layers(posterior: Posterior) -> list[tuple[str, np.ndarray]]:
    """Return the name of each layer that has Gaussians, and the ratios of its weights in dB: (members, weights).

    All layers together come first, if there are several.

    Raises:
        InputError: for what is not a Gaussian posterior.
    """
    leaves, members = jax.tree.leaves(signal_to_noise(posterior)), _members(posterior)
    flat = [leaf.reshape(len(members), -1) for leaf in leaves]
    layers = [(name, np.concatenate([flat[i] for i in places], axis=1)) for name, places in _layers(members[0])]
    if len(layers) > 1:
        layers = [("all layers", np.concatenate([ratios for _, ratios in layers], axis=1)), *layers]
    return layers


def densities(posterior: Posterior, prior: Prior) -> Densities:
    """Return the densities of the weights of each layer, and those of its prior.

    Raises:
        InputError: if the prior has no `log_prob`, or for what is not a Gaussian posterior.
    """
    check_gaussians(posterior, "weight_density")
    checks.outside("weight_density", posterior=posterior, prior=prior)
    members = _members(posterior)
    prior = prior.marginals() if isinstance(prior, MultivariateNormal) else prior
    priors = [prior.fitted(member) for member in members] if implements(prior, SupportsFitting) else [prior]
    checks.has("a prior", priors[0], ("log_prob", "kl"), "bbb.priors.Normal(0.0, 1.0)")
    layers = _layers(members[0])
    leaves = [_leaves(member) for member in members]
    reach = max(float(np.quantile(np.abs(leaf.mean) + 3 * leaf.std, 0.999)) for found in leaves for leaf in found)
    edges = np.linspace(-reach, reach, CELLS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    after = [_of_layers(layers, found, [_density(leaf, edges) for leaf in found]) for found in leaves]
    before = []
    for each, member, found in zip(priors, members, leaves, strict=False):  # one prior serves all members
        before.append(_of_layers(layers, found, [_prior_density(each, member, i, centres) for i in range(len(found))]))
    return Densities(centres, [name for name, _ in layers], np.stack(after, axis=1), np.mean(before, axis=0))


def _members(posterior: Posterior) -> list[MeanField]:
    """Return the Gaussians of each weight alone, of every component."""
    return [marginals(posterior.component(k), "a picture of weights") for k in range(posterior.components)]


def _layers(posterior: MeanField) -> list[tuple[str, list[int]]]:
    """Group the leaves that have a Gaussian by what holds them: a layer's name, and the leaves' places."""
    layers: dict[str, list[int]] = {}
    for i, name in enumerate(names(posterior.log_std)):
        layers.setdefault(f"layer {name.rpartition('/')[0] or name}", []).append(i)
    return list(layers.items())


class _Leaf(NamedTuple):
    mean: np.ndarray
    std: np.ndarray


def _leaves(posterior: MeanField) -> list[_Leaf]:
    """Return the leaves that have a Gaussian."""
    means, log_stds = jax.tree.leaves(posterior.random_leaves(posterior.mean)), jax.tree.leaves(posterior.log_std)
    return [_Leaf(np.asarray(m), np.exp(np.asarray(s))) for m, s in zip(means, log_stds, strict=True)]


def _of_layers(layers: list[tuple[str, list[int]]], leaves: list[_Leaf], found: list[np.ndarray]) -> np.ndarray:
    """Average what was found for leaves over those of each layer, by their weights: (layers, values)."""
    sizes = [leaf.mean.size for leaf in leaves]
    return np.stack([np.average([found[i] for i in w], axis=0, weights=[sizes[i] for i in w]) for _, w in layers])


def _density(leaf: _Leaf, edges: np.ndarray) -> np.ndarray:
    """Average the Gaussians of a leaf over each cell, which no Gaussian is too narrow for."""
    below = [float(np.mean(ndtr((edge - leaf.mean) / leaf.std))) for edge in edges.astype(leaf.mean.dtype)]
    return np.diff(below) / np.diff(edges)


def _prior_density(prior: Any, posterior: MeanField, place: int, values: np.ndarray) -> np.ndarray:
    """Return the prior's density of one leaf's weights: all of them at one value, and no other leaf."""
    leaves, structure = jax.tree.flatten(posterior.log_std)

    def nats(value: Tree) -> Tree:
        alone = [np.full(leaf.shape, value, leaf.dtype) if i == place else None for i, leaf in enumerate(leaves)]
        return prior.log_prob(jax.tree.unflatten(structure, alone))

    return np.exp([float(nats(value)) / leaves[place].size for value in values])
