"""The posterior of one Gaussian whose covariance is a diagonal and a few directions."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from bbb import checks
from bbb.core.noise import standard_normal
from bbb.core.tree import (
    Tree,
    is_none,
    map_present,
    pytree_dataclass,
    sum_leaves,
    widest_dtype,
)
from bbb.core.triangles import triangle_of
from bbb.errors import ShapeError, fail
from bbb.posteriors.correlated.diagonal import DiagonalAndMore
from bbb.posteriors.correlated.full_rank import weights_of
from bbb.posteriors.mean_field import MeanField


@pytree_dataclass(data=("mean", "log_diagonal", "factor"), saved=True)
class LowRank(DiagonalAndMore):
    """One Gaussian N(mean, D² + U·Uᵀ) over all d weights that have one, with D = diag(exp(log_diagonal)), U = D·factor.

    What weights have in common is in a few directions, the columns of U. It takes (rank + 1)·d numbers, a draw
    rank·d multiplications, and the KL rank²·d: it is for networks of any size. `factor` is in units of D, so that a
    step of an optimiser changes it in proportion to the weights' own spread, and D·(I + factor·factorᵀ)·D is positive
    definite whatever the parameters are. Weights are in the order of `jax.tree.leaves`.

    Attributes:
        mean: tree of arrays, the parameters' own structure and shapes.
        log_diagonal: tree of the same structure and shapes, the logarithm of D: the standard deviation of a weight
            without the directions; or None in the place of a leaf that is a point estimate, which has no Gaussian.
        factor: (d, rank).

    Raises:
        ShapeError: if `mean` and `log_diagonal` differ in structure or in a shape, or `factor` is not (d, rank).
        InputError: if a part is not of floating-point numbers, or no leaf has a Gaussian.

    Source: Ong et al. 2018, "Gaussian variational approximation with a factor covariance structure", J. Comput. Graph.
    Stat. 27(3), eq. 2 for the covariance and a draw; Tomczak et al. 2020, "Efficient low rank Gaussian variational
    inference for neural networks", NeurIPS 33, for networks. Determinant and inverse by Woodbury's identity.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.posteriors.LowRank.around(params, std=0.1)
        >>> posterior.mean["bias"].shape
        (2,)
    """

    mean: Tree
    log_diagonal: Tree
    factor: Any

    def __post_init__(self) -> None:
        """Raise for parts that do not fit each other."""
        MeanField(self.mean, self.log_diagonal)
        checks.floating("factor", self.factor)
        d, shape = weights_of(self.log_diagonal, "LowRank"), jnp.shape(self.factor)
        if len(shape) != 2 or shape[0] != d or not shape[1]:
            do = "Use LowRank.around(params, std=0.02, rank=8)."
            fail(ShapeError, f"factor to be ({d}, rank), of the weights with a Gaussian", f"shape {shape}", do)

    @classmethod
    def around(cls, params: Tree, std: Tree, where: Tree = True, *, rank: int = 8) -> "LowRank":
        """Return a posterior centred on `params`, whose weights are independent to begin with.

        Args:
            params: the means, any tree of arrays.
            std: the standard deviations, a number or a tree that is a prefix of `params`.
            where: which leaves get a Gaussian, a bool or a tree of bools that is a prefix of `params`.
            rank: the number of directions.

        Raises:
            InputError: if a leaf with a Gaussian is not floating point or not finite, a std is not positive, no leaf
                has a Gaussian, or `rank` is not a positive integer.
            ShapeError: if `std` or `where` is not a prefix of `params`.
        """
        rank = checks.positive_integer("rank", rank)
        start = MeanField.around(params, std, where)
        d = weights_of(start.log_std, "LowRank")
        return cls(start.mean, start.log_std, jnp.zeros((d, rank), widest_dtype(start.log_std)))

    @property
    def directions(self) -> jax.Array:
        """U, (d, rank): the covariance is D² + U·Uᵀ."""
        return jnp.exp(self._flat(self.log_diagonal))[:, None] * self.factor

    def noise(self, key: jax.Array) -> tuple[Tree, jax.Array]:
        """Draw ε ~ N(0, 1) for every Gaussian weight, a tree like `log_diagonal`; and η of the directions, (rank,)."""
        return standard_normal(key, (self.log_diagonal, jax.ShapeDtypeStruct(self.factor.shape[1:], self._dtype)))

    def weights(self, noise: tuple[Tree, jax.Array]) -> Tree:
        """Return the weights mean + D·(ε + factor·η), a tree like `mean`; a point estimate is its mean."""
        of_weights, of_directions = noise
        shared = self._tree(self.factor @ of_directions.astype(self._dtype))

        def leaf(s: jax.Array | None, m: jax.Array, e: jax.Array, more: jax.Array) -> jax.Array:
            return m if s is None else m + jnp.exp(s) * (e + more)

        return jax.tree.map(leaf, self.log_diagonal, self.mean, of_weights, shared, is_leaf=is_none)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log q(params), in nats: a scalar, summed over every weight that has a Gaussian.

        With z = D⁻¹·(params − mean) and W = factor, the square of the distance is zᵀ·(I + W·Wᵀ)⁻¹·z: what is left of
        (z, 0) beside the columns of (W, I). Woodbury's difference of two squares would lose digits.
        """
        apart = map_present(lambda s, m, w: (w - m) * jnp.exp(-s), self.log_diagonal, self.mean, params)
        rank, dtype = self.factor.shape[1], self._dtype
        basis, _ = jnp.linalg.qr(jnp.concatenate([self.factor, jnp.eye(rank, dtype=dtype)]))
        z = jnp.concatenate([self._flat(apart), jnp.zeros(rank, dtype)])
        squares = jnp.sum(jnp.square(z - basis @ (z @ basis)))
        return -0.5 * (squares + len(self.factor) * math.log(2 * math.pi)) - self._half_log_det

    def with_params(self, params: Tree) -> "LowRank":
        """Return the posterior of the means `params` and of this covariance."""
        return LowRank(params, self.log_diagonal, self.factor)

    def marginals(self) -> MeanField:
        """Return the Gaussian of each weight alone, of log std log_diagonal + ½·log(1 + Σₖ factorᵢₖ²)."""
        more = self._tree(self._widening)
        return MeanField(self.mean, map_present(lambda s, m: s + m, self.log_diagonal, more))

    def conditionals(self) -> MeanField:
        """Return the Gaussian of each weight given all others, of variance D²/(1 − Σₖ (factor·R⁻¹)ᵢₖ²)."""
        inside = solve_triangular(triangle_of(self.factor), self.factor.T, trans="T")
        less = 0.5 * jnp.log1p(-jnp.minimum(jnp.sum(jnp.square(inside), axis=0), 1 - jnp.finfo(self._dtype).eps))
        return MeanField(self.mean, map_present(lambda s, m: s - m, self.log_diagonal, self._tree(less)))

    def total_correlation(self) -> jax.Array:
        """Return Σ H(qᵢ) − H(q) = ½·Σᵢ log(1 + Σₖ factorᵢₖ²) − log det R, in nats: a scalar, 0 where `factor` is."""
        return jnp.sum(self._widening) - self._half_log_det_shared

    def entropy(self) -> jax.Array:
        """Return Σ log_diagonal + log det R + ½·d·log(2πe), in nats: a scalar."""
        return 0.5 * len(self.factor) * math.log(2 * math.pi * math.e) + self._half_log_det

    def scaled(self, factor: float) -> "LowRank":
        """Return the posterior of the same means, whose deviations from them are `factor` times as large."""
        return LowRank(self.mean, self.diagonal_alone.scaled(factor).log_std, self.factor)

    def pruned(self, mask: Tree) -> "LowRank":
        """Return a posterior in which the weights where `mask`, a tree of bools like `log_diagonal`, is true are 0.

        They no longer depend on the others, whose distribution stays.
        """
        alone = self.diagonal_alone.pruned(mask)
        gone = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(mask)])
        return LowRank(alone.mean, alone.log_std, jnp.where(gone[:, None], 0, self.factor))

    @property
    def _dtype(self) -> Any:
        return self.factor.dtype

    @property
    def _half_log_det_shared(self) -> jax.Array:
        """½·log det(I + factor·factorᵀ), of the triangle R, (rank, rank), with Rᵀ·R = I + factorᵀ·factor."""
        return jnp.sum(jnp.log(jnp.diagonal(triangle_of(self.factor))))

    @property
    def _half_log_det(self) -> jax.Array:
        """½·log det of the covariance."""
        return self._half_log_det_shared + sum_leaves(self.log_diagonal).astype(self._dtype)

    @property
    def _widening(self) -> jax.Array:
        """What the directions add to each log std, (d,)."""
        return 0.5 * jnp.log1p(jnp.sum(jnp.square(self.factor), axis=1))
