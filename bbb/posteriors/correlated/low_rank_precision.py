"""The posterior of one Gaussian whose precision is a diagonal and a few rows: that of a Laplace approximation."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from bbb import checks
from bbb.core.noise import standard_normal
from bbb.core.tree import Tree, is_none, map_present, pytree_dataclass, sum_leaves, to_vector
from bbb.core.triangles import triangle_of
from bbb.errors import ShapeError, fail
from bbb.posteriors.correlated.diagonal import DiagonalAndMore
from bbb.posteriors.correlated.full_rank import weights_of
from bbb.posteriors.mean_field import MeanField


@pytree_dataclass(data=("mean", "log_diagonal", "factor", "cholesky"), saved=True)
class LowRankPrecision(DiagonalAndMore):
    """One Gaussian over all d weights that have one, of the precision D⁻² + Vᵀ·V, with D = diag(exp(log_diagonal)).

    With a Gaussian prior of standard deviations D and r observations of which row i of V is the gradient in units of
    their noise, it is the posterior of a linear model. It takes r·d + r² numbers, and a draw 2·r·d multiplications:
    neither the precision nor the covariance, (d, d), is ever made. Weights are in the order of `jax.tree.leaves`.

    `cholesky` follows from the others: `LowRankPrecision.of(mean, log_diagonal, factor)` computes it. Because gradients
    would train it as if it did not, `fit` refuses this posterior.

    Attributes:
        mean: tree of arrays, the parameters' own structure and shapes.
        log_diagonal: tree of the same structure and shapes, the logarithm of D: the standard deviation of a weight
            without the rows; or None in the place of a leaf that is a point estimate, which has no Gaussian.
        factor: V, (r, d).
        cholesky: C, (r, r), lower triangular with C·Cᵀ = S = I + V·D²·Vᵀ.

    Raises:
        ShapeError: if `mean` and `log_diagonal` differ in structure or in a shape, or `factor` is not (r, d), or
            `cholesky` not (r, r).
        InputError: if a part is not of floating-point numbers, or no leaf has a Gaussian.

    Source: draws by Matheron's rule, as in Wilson et al. 2021, "Pathwise conditioning of Gaussian processes", JMLR
    22(105), for linear models; densities and marginals by Woodbury's identity.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> found = bbb.laplace(jax.random.key(2), model, task.x, task.y, structure="low_rank", rank=2)
        >>> type(found.posterior).__name__
        'LowRankPrecision'
    """

    is_trainable: ClassVar[bool] = False

    mean: Tree
    log_diagonal: Tree
    factor: Any
    cholesky: Any

    def __post_init__(self) -> None:
        """Raise for parts that do not fit each other."""
        MeanField(self.mean, self.log_diagonal)
        checks.floating("factor", self.factor)
        checks.floating("cholesky", self.cholesky)
        d, shapes = (
            weights_of(self.log_diagonal, "LowRankPrecision"),
            (jnp.shape(self.factor), jnp.shape(self.cholesky)),
        )
        r = shapes[0][0] if shapes[0] else 0
        if shapes != ((r, d), (r, r)):
            got, do = f"shapes {shapes[0]} and {shapes[1]}", "Use LowRankPrecision.of(mean, log_diagonal, factor)."
            fail(ShapeError, f"factor to be (r, {d}), of the weights with a Gaussian, and cholesky (r, r)", got, do)

    @classmethod
    def of(cls, mean: Tree, log_diagonal: Tree, factor: jax.Array) -> "LowRankPrecision":
        """Return the posterior of the precision exp(−2·log_diagonal) + factorᵀ·factor.

        Args:
            mean: tree of arrays.
            log_diagonal: tree like `mean`, or None in the place of a leaf that is a point estimate.
            factor: (r, d).

        Raises:
            ShapeError, InputError: as the class.
        """
        checks.floating("factor", factor)
        if jnp.ndim(factor) != 2:
            do = "Pass a row for each observation, of a number for each weight."
            fail(ShapeError, "factor to be (r, d)", f"shape {jnp.shape(factor)}", do)
        cls(mean, log_diagonal, factor, jnp.zeros((len(factor), len(factor)), jnp.asarray(factor).dtype))
        return cls(mean, log_diagonal, factor, cholesky_of(factor, to_vector(log_diagonal, factor.dtype)))

    def noise(self, key: jax.Array) -> tuple[Tree, jax.Array]:
        """Draw ε ~ N(0, 1) for every Gaussian weight, a tree like `log_diagonal`; and η for every row, (r,)."""
        return standard_normal(key, (self.log_diagonal, jax.ShapeDtypeStruct(self.factor.shape[:1], self._dtype)))

    def weights(self, noise: tuple[Tree, jax.Array]) -> Tree:
        """Return the weights mean + D·ε − D²·Vᵀ·S⁻¹·(V·D·ε + η), a tree like `mean`; a point estimate is its mean.

        A draw D·ε from the Gaussian without the rows is corrected by the rows it would have shown, with noise of
        their own: no square root of a (d, d) matrix is needed.
        """
        of_weights, of_rows = noise
        apart = self._scale * self._flat(of_weights)
        seen = self._solved(self.factor @ apart + of_rows.astype(self._dtype))
        off = apart - jnp.square(self._scale) * (seen @ self.factor)

        def leaf(s: jax.Array | None, m: jax.Array, more: jax.Array) -> jax.Array:
            return m if s is None else m + more

        return jax.tree.map(leaf, self.log_diagonal, self.mean, self._tree(off), is_leaf=is_none)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log q(params), in nats: a scalar, summed over every weight that has a Gaussian."""
        off = self._flat(jax.tree.map(jnp.subtract, *map(self.random_leaves, (params, self.mean))))
        squares = jnp.sum(jnp.square(off / self._scale)) + jnp.sum(jnp.square(self.factor @ off))
        return -0.5 * (squares + len(off) * math.log(2 * math.pi)) + self._half_log_det

    def with_params(self, params: Tree) -> "LowRankPrecision":
        """Return the posterior of the means `params` and of this precision."""
        return LowRankPrecision(params, self.log_diagonal, self.factor, self.cholesky)

    def padded(self, rank: int) -> "LowRankPrecision":
        """Return the same distribution with rows of 0 added to V, so that there are `rank` of them, if it has fewer."""
        more = max(0, rank - len(self.factor))
        factor = jnp.pad(self.factor, ((0, more), (0, 0)))
        unit = jnp.pad(jnp.zeros(len(self.factor), self._dtype), (0, more), constant_values=1)
        return LowRankPrecision(
            self.mean, self.log_diagonal, factor, jnp.pad(self.cholesky, (0, more)) + jnp.diag(unit)
        )

    def marginals(self) -> MeanField:
        """Return the Gaussian of each weight alone, of variance D²·(1 − Σᵢ (C⁻¹·V·D)ᵢⱼ²).

        A variance is accurate to D² times the rounding of the dtype.
        """
        more = self._tree(self._narrowing)
        return MeanField(self.mean, map_present(lambda s, m: s + m, self.log_diagonal, more))

    def conditionals(self) -> MeanField:
        """Return the Gaussian of each weight given all others, of the variance 1/(D⁻² + Σᵢ Vᵢⱼ²)."""
        more = self._tree(-0.5 * jnp.log1p(jnp.sum(jnp.square(self.factor * self._scale[None]), axis=0)))
        return MeanField(self.mean, map_present(lambda s, m: s + m, self.log_diagonal, more))

    def total_correlation(self) -> jax.Array:
        """Return Σ H(qᵢ) − H(q) = ½·Σⱼ log(1 − Σᵢ (C⁻¹·V·D)ᵢⱼ²) + Σ log Cᵢᵢ, in nats: a scalar, 0 where V is."""
        return jnp.sum(self._narrowing) + self._half_log_det_rows

    def entropy(self) -> jax.Array:
        """Return Σ log_diagonal − Σ log Cᵢᵢ + ½·d·log(2πe), in nats: a scalar."""
        return 0.5 * self.factor.shape[1] * math.log(2 * math.pi * math.e) - self._half_log_det

    def scaled(self, factor: float) -> "LowRankPrecision":
        """Return the posterior of the same means, whose deviations from them are `factor` times as large."""
        wider = self.diagonal_alone.scaled(factor)
        return LowRankPrecision(self.mean, wider.log_std, self.factor / factor, self.cholesky)

    def pruned(self, mask: Tree) -> "LowRankPrecision":
        """Return a posterior in which the weights where `mask`, a tree of bools like `log_diagonal`, is true are 0.

        The others keep their distribution: with what the rows say of the pruned weights integrated out, they have the
        rows A⁻¹·V, with A·Aᵀ = I + Vₚ·Dₚ²·Vₚᵀ of the pruned weights p.
        """
        alone = self.diagonal_alone.pruned(mask)
        gone = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(mask)])
        of_gone = cholesky_of(jnp.where(gone[None], self.factor, 0), jnp.log(self._scale))
        kept = solve_triangular(of_gone, jnp.where(gone[None], 0, self.factor), lower=True)
        rest = solve_triangular(of_gone, self.cholesky, lower=True)
        return LowRankPrecision(alone.mean, alone.log_std, kept, rest)

    def validate(self) -> None:
        """Raise what the constructor raises, and for a `cholesky` that is not that of the other parts."""
        super().validate()
        factor, found = np.asarray(self.factor, np.float64), np.asarray(self.cholesky, np.float64)
        scaled = factor * np.exp(np.asarray(self._flat(self.log_diagonal), np.float64))
        right = np.eye(len(found)) + scaled @ scaled.T
        off = np.abs(found @ found.T - right).max(initial=0.0)
        if not (off <= 1e-3 * right.max(initial=1.0) and (np.diag(found) > 0).all() and (np.triu(found, 1) == 0).all()):
            raise ValueError("a cholesky that is not that of its factor")

    @property
    def _dtype(self) -> Any:
        return self.factor.dtype

    @property
    def _scale(self) -> jax.Array:
        """D, (d,)."""
        return jnp.exp(self._flat(self.log_diagonal))

    @property
    def _half_log_det_rows(self) -> jax.Array:
        """½·log det S."""
        return jnp.sum(jnp.log(jnp.diagonal(self.cholesky)))

    @property
    def _half_log_det(self) -> jax.Array:
        """½·log det of the precision."""
        return self._half_log_det_rows - sum_leaves(self.log_diagonal).astype(self._dtype)

    @property
    def _narrowing(self) -> jax.Array:
        """What the rows add to each log std, (d,), at most 0."""
        explained = jnp.sum(
            jnp.square(solve_triangular(self.cholesky, self.factor * self._scale[None], lower=True)), axis=0
        )
        return 0.5 * jnp.log(jnp.maximum(1 - explained, jnp.finfo(self._dtype).eps))

    def _solved(self, values: jax.Array) -> jax.Array:
        """Return S⁻¹·values, (r,)."""
        halfway = solve_triangular(self.cholesky, values, lower=True)
        return solve_triangular(self.cholesky, halfway, lower=True, trans="T")


def cholesky_of(factor: jax.Array, log_diagonal: jax.Array) -> jax.Array:
    """Return the lower triangular C, (r, r), with C·Cᵀ = I + V·D²·Vᵀ, for V (r, d) and log D (d,).

    It is the triangle of a QR decomposition of D·Vᵀ above I: S itself, whose condition is the square of that, is not
    made, because in float32 it may have lost the I.
    """
    return triangle_of((factor * jnp.exp(log_diagonal)[None]).T).T
