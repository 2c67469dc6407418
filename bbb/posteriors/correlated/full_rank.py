"""The posterior of one Gaussian over all weights, with a covariance of its own."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from bbb import checks
from bbb.core.noise import standard_normal
from bbb.core.tree import (
    Tree,
    count,
    is_none,
    map_present,
    pytree_dataclass,
    sum_leaves,
    widest_dtype,
)
from bbb.errors import InputError, ShapeError, fail
from bbb.posteriors.correlated.diagonal import DiagonalAndMore
from bbb.posteriors.mean_field import MeanField


@pytree_dataclass(data=("mean", "log_diagonal", "lower"), saved=True)
class FullRank(DiagonalAndMore):
    """One Gaussian N(mean, L·Lᵀ) over all d weights that have a Gaussian, with L = diag(exp(log_diagonal))·(I + lower).

    L is lower triangular and its diagonal positive whatever the parameters are. Weights are in the order of
    `jax.tree.leaves`, each leaf in that of its memory. exp(log_diagonal) is the standard deviation of a weight given
    those before it, and a row of `lower` says in this unit how it depends on the noise of those before it.

    The covariance takes d² numbers and a draw d² multiplications: it is for networks of up to a few thousand weights.

    Attributes:
        mean: tree of arrays, the parameters' own structure and shapes.
        log_diagonal: tree of the same structure and shapes, the logarithm of L's diagonal; or None in the place of a
            leaf that is a point estimate, which has no Gaussian and is always its mean.
        lower: (d, d), of which only what is below the diagonal counts.

    Raises:
        ShapeError: if `mean` and `log_diagonal` differ in structure or in a shape, or `lower` is not (d, d).
        InputError: if `log_diagonal` or `lower` is not of floating-point numbers, or no leaf has a Gaussian.

    Source: Kucukelbir et al. 2017, "Automatic differentiation variational inference", JMLR 18(14), §2.4, full-rank
    Gaussian variational approximation. The unit lower triangle times a diagonal is the modified Cholesky factor of
    Pourahmadi 1999, "Joint mean-covariance models", Biometrika 86(3).

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.posteriors.FullRank.around(params, std=0.1)
        >>> posterior.mean["bias"].shape
        (2,)
    """

    mean: Tree
    log_diagonal: Tree
    lower: Any

    def __post_init__(self) -> None:
        """Raise for parts that do not fit each other."""
        MeanField(self.mean, self.log_diagonal)
        checks.floating("lower", self.lower)
        d = weights_of(self.log_diagonal, "FullRank")
        if jnp.shape(self.lower) != (d, d):
            got, do = f"shape {jnp.shape(self.lower)}", "Use FullRank.around(params, std=0.02)."
            fail(ShapeError, f"lower to be ({d}, {d}), of the weights with a Gaussian", got, do)

    @classmethod
    def around(cls, params: Tree, std: Tree, where: Tree = True) -> "FullRank":
        """Return a posterior centred on `params`, whose weights are independent to begin with.

        Args:
            params: the means, any tree of arrays.
            std: the standard deviations, a number or a tree that is a prefix of `params`.
            where: which leaves get a Gaussian, a bool or a tree of bools that is a prefix of `params`.

        Raises:
            InputError: if a leaf with a Gaussian is not floating point or not finite, a std is not positive, or no
                leaf has a Gaussian.
            ShapeError: if `std` or `where` is not a prefix of `params`.
        """
        start = MeanField.around(params, std, where)
        d = weights_of(start.log_std, "FullRank")
        return cls(start.mean, start.log_std, jnp.zeros((d, d), widest_dtype(start.log_std)))

    @property
    def scale(self) -> jax.Array:
        """L, (d, d), lower triangular: the covariance is L·Lᵀ."""
        diagonal = jnp.exp(self._flat(self.log_diagonal))
        return diagonal[:, None] * (jnp.eye(len(self.lower), dtype=self._dtype) + self._below)

    def noise(self, key: jax.Array) -> Tree:
        """Draw ε ~ N(0, 1) for every Gaussian weight: a tree like `log_diagonal`, each leaf in its own dtype."""
        return standard_normal(key, self.log_diagonal)

    def weights(self, noise: Tree) -> Tree:
        """Return the weights mean + L·ε, a tree like `mean`; a point estimate is its mean."""
        added = self._tree(self._below @ self._flat(noise))

        def leaf(s: jax.Array | None, m: jax.Array, e: jax.Array, more: jax.Array) -> jax.Array:
            return m if s is None else m + jnp.exp(s) * (e + more)

        return jax.tree.map(leaf, self.log_diagonal, self.mean, noise, added, is_leaf=is_none)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log q(params), in nats: a scalar, summed over every weight that has a Gaussian."""
        apart = map_present(lambda s, m, w: (w - m) * jnp.exp(-s), self.log_diagonal, self.mean, params)
        noise = solve_triangular(self._below, self._flat(apart), lower=True, unit_diagonal=True)
        return -0.5 * jnp.sum(jnp.square(noise) + math.log(2 * math.pi)) - sum_leaves(self.log_diagonal)

    def with_params(self, params: Tree) -> "FullRank":
        """Return the posterior of the means `params` and of this covariance."""
        return FullRank(params, self.log_diagonal, self.lower)

    def marginals(self) -> MeanField:
        """Return the Gaussian of each weight alone, of log std log_diagonal + ½·log(1 + Σⱼ lowerᵢⱼ²)."""
        more = self._tree(self._widening)
        return MeanField(self.mean, map_present(lambda s, m: s + m, self.log_diagonal, more))

    def conditionals(self) -> MeanField:
        """Return the Gaussian of each weight given all others, of the variance 1/Σᵢ (L⁻¹)ᵢⱼ²."""
        inverse = solve_triangular(self.scale, jnp.eye(len(self.lower), dtype=self._dtype), lower=True)
        return MeanField(self.mean, self._tree(-0.5 * jnp.log(jnp.sum(jnp.square(inverse), axis=0))))

    def total_correlation(self) -> jax.Array:
        """Return Σ H(qᵢ) − H(q) = ½·Σᵢ log(1 + Σⱼ lowerᵢⱼ²), in nats: a scalar, 0 where `lower` is."""
        return jnp.sum(self._widening)

    def entropy(self) -> jax.Array:
        """Return Σ log_diagonal + ½·d·log(2πe), in nats: a scalar."""
        return self.diagonal_alone.entropy()

    def scaled(self, factor: float) -> "FullRank":
        """Return the posterior of the same means, whose deviations from them are `factor` times as large."""
        return FullRank(self.mean, self.diagonal_alone.scaled(factor).log_std, self.lower)

    def pruned(self, mask: Tree) -> "FullRank":
        """Return a posterior in which the weights where `mask`, a tree of bools like `log_diagonal`, is true are 0.

        They no longer depend on the others, whose distribution stays.
        """
        alone = self.diagonal_alone.pruned(mask)
        rows = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(mask)])
        return FullRank(alone.mean, alone.log_std, jnp.where(rows[:, None], 0, self.lower))

    @property
    def _dtype(self) -> Any:
        return self.lower.dtype

    @property
    def _below(self) -> jax.Array:
        return jnp.tril(self.lower, -1)

    @property
    def _widening(self) -> jax.Array:
        """What the other weights' noise adds to each log std, (d,)."""
        return 0.5 * jnp.log1p(jnp.sum(jnp.square(self._below), axis=1))


def weights_of(tree: Tree, kind: str) -> int:
    """Return the number of weights of a tree of the random leaves, which must not be 0.

    Raises:
        InputError: if there are none, naming the kind of posterior.
    """
    d = count(tree)
    if not d:
        do = "Let `where` pick one, or use a MeanField, which may be a point."
        fail(InputError, f"a leaf with a Gaussian, for a {kind}", "point estimates alone", do)
    return d
