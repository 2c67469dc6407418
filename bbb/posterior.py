"""The posterior: an independent Gaussian for every weight of a network (mean field)."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32

from bbb import _check
from bbb._tree import Tree, broadcast_prefix, noun, sum_leaves


@noun(data=("mean", "log_std"))
class MeanField:
    """A Gaussian N(mean, exp(log_std)²) for every weight, all independent.

    Attributes:
        mean: tree of arrays, the parameters' own structure and shapes.
        log_std: tree of the same structure and shapes, the natural logarithm of the standard deviations.

    Raises:
        ShapeError: if the two trees differ in structure or in a shape.

    Source: Blundell et al. 2015, arXiv 1505.05424, §3.2, with σ = exp(log_std) for softplus(ρ).
    """

    mean: Tree
    log_std: Tree

    def __post_init__(self) -> None:
        """Refuse two trees that do not fit each other."""
        _check.fits("log_std", self.log_std, "mean", self.mean)

    @classmethod
    def around(cls, params: Tree, std: Tree) -> "MeanField":
        """Centre a posterior on `params`, with standard deviation `std` (a number, or a prefix tree).

        Raises:
            InputError: if a leaf of `params` is not floating point or not finite, or a std not positive.
            ShapeError: if `std` is not a prefix of `params`.
        """
        _check.parameters("params", params)
        for leaf in jax.tree.leaves(std):
            _check.positive("std", leaf)
        stds = per_leaf("std", std, params)
        log_std = jax.tree.map(lambda s, leaf: jnp.broadcast_to(jnp.log(s), leaf.shape), stds, params)
        return cls(jax.tree.map(jnp.asarray, params), log_std)

    @property
    def std(self) -> Tree:
        """The standard deviations, a tree like `mean`."""
        return jax.tree.map(jnp.exp, self.log_std)


def per_leaf(name: str, prefix: Tree, params: Tree) -> Tree:
    """Spread numbers, or a prefix tree of numbers, over the leaves of `params`, each in its leaf's dtype.

    Raises:
        ShapeError: if `prefix` is not a prefix of `params`, or a leaf does not broadcast to its weights.
    """
    try:
        full = broadcast_prefix(prefix, params)
    except (ValueError, TypeError) as error:
        raise _check.ShapeError(
            f"Expected {name} to be a number or a tree that is a prefix of the parameters', "
            f"got {jax.tree.structure(prefix)} for {jax.tree.structure(params)}. "
            f"Pass one {name} for all weights, for each layer, or for each leaf."
        ) from error

    def fit(value: Tree, leaf: jax.Array) -> jax.Array:
        value = jnp.asarray(value, leaf.dtype)
        if value.ndim > leaf.ndim or jnp.broadcast_shapes(value.shape, (1,) * leaf.ndim) != tuple(
            n if n == 1 else m for n, m in zip((1,) * (leaf.ndim - value.ndim) + value.shape, leaf.shape, strict=True)
        ):
            _check.fail(
                _check.ShapeError,
                f"every {name} to broadcast to the {leaf.shape} weights below it",
                f"shape {value.shape}",
                "Pass a number or an array of the weights' shape.",
            )
        return value.reshape((1,) * (leaf.ndim - value.ndim) + value.shape)

    return jax.tree.map(fit, full, params)


SMALL = 2**16
"""Leaves of up to so many weights share one random draw, which compiles and runs faster than one for each of them; a
larger leaf has a draw of its own, so that it can be spread over devices."""


def standard_normal(key: jax.Array, posterior: MeanField) -> Tree:
    """Draw ε ~ N(0, 1) for every weight: a tree like `posterior.mean`, each leaf in its own dtype."""
    leaves, structure = jax.tree.flatten(posterior.mean)
    groups: dict[Any, list[int]] = {}  # leaves that share a draw: the small ones of a dtype, or a large one alone
    for i, leaf in enumerate(leaves):
        groups.setdefault((leaf.dtype, None if leaf.size <= SMALL else i), []).append(i)
    keys = jax.random.split(key, len(groups)) if len(groups) > 1 else key[None]
    noise: list[Any] = [None] * len(leaves)
    for k, ((dtype, _), members) in zip(keys, groups.items(), strict=True):
        flat = _normals(k, sum(leaves[i].size for i in members), dtype)
        ends = list(itertools.accumulate(leaves[i].size for i in members))
        for i, end in zip(members, ends, strict=True):
            noise[i] = flat[end - leaves[i].size : end].reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, noise)


def _normals(key: jax.Array, size: int, dtype: Any) -> jax.Array:
    """Draw `size` standard normals; in float32 with both words of each block of JAX's default generator.

    `jax.random.normal` folds the two words into one, so that half of its work, the dearest part of a training step, is
    lost. What is made of a word is the same: 23 bits as a uniform number in (−1, 1), and √2·erf⁻¹ of it.
    """
    if str(jax.random.key_impl(key)) != "threefry2x32" or dtype != jnp.float32:
        return jax.random.normal(key, (size,), dtype)
    words = threefry_2x32(jax.random.key_data(key), lax.iota(np.uint32, size))
    in_1_to_2 = lax.bitcast_convert_type((words >> np.uint32(9)) | np.uint32(0x3F800000), dtype)
    uniform = jnp.maximum(2 * in_1_to_2 - 3, np.nextafter(np.float32(-1), np.float32(0)))
    return math.sqrt(2) * lax.erf_inv(uniform)


def reparameterize(posterior: MeanField, noise: Tree) -> Tree:
    """Turn standard normal noise into weights, w = mean + exp(log_std)·ε."""
    return jax.tree.map(lambda m, s, e: m + jnp.exp(s) * e, posterior.mean, posterior.log_std, noise)


def sample(key: jax.Array, posterior: MeanField) -> Tree:
    """Draw one set of weights: a tree like `posterior.mean`.

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
    """
    _check.key(key)
    return reparameterize(posterior, standard_normal(key, posterior))


def log_prob(posterior: MeanField, params: Tree) -> jax.Array:
    """Give log q(params), in nats: a scalar, summed over every weight.

    Raises:
        ShapeError: if `params` differs from the posterior in structure or in a shape.
    """
    _check.fits("params", params, "posterior", posterior.mean)

    def leaf(m: jax.Array, s: jax.Array, w: jax.Array) -> jax.Array:
        return -0.5 * jnp.square((w - m) * jnp.exp(-s)) - s - 0.5 * math.log(2 * math.pi)

    return sum_leaves(jax.tree.map(leaf, posterior.mean, posterior.log_std, params))
