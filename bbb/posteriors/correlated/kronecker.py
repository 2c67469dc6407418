"""The posterior of one Gaussian for each leaf, whose covariance has the eigenvectors of a Kronecker product."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.noise import standard_normal
from bbb.core.tree import Tree, is_none, map_present, pytree_dataclass, sum_leaves
from bbb.errors import InputError, ShapeError, fail
from bbb.posteriors.correlated.full_rank import weights_of
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField, least_log_std

MOST_PRUNED = 10_000
"""Most weights of a leaf that can lose some of them: what is left has a covariance of as many rows and columns."""


@pytree_dataclass(data=("mean", "log_std", "left", "right"), saved=True)
class Kronecker(GaussianPosterior):
    """A Gaussian for each leaf, of independent coordinates in a basis of rows times one of columns.

    With a leaf W as a matrix of its axes of inputs and its other axes, and orthonormal columns U and V of as many rows,

        W = mean + U·(exp(log_std)∘ε)·Vᵀ, with ε of independent N(0, 1),

    so that its covariance is (V⊗U)·diag(exp(2·log_std))·(V⊗U)ᵀ. That of a Laplace approximation with the Gauss-Newton
    matrix A⊗B and the prior's precision δ is of this form, of variances 1/(λᵃλᵇ + δ) in the eigenbases of A and B. A
    matrix normal is the case of variances that are products. Leaves are independent of each other, and so are the
    weights of a leaf without bases. A leaf of n·m weights takes n·m + n² + m² numbers, and a draw 2·n·m·(n + m)
    multiplications.

    Because gradients would not keep the bases orthonormal, `fit` refuses this posterior.

    Attributes:
        mean: tree of arrays, the parameters' own structure and shapes.
        log_std: tree of the same structure and shapes, the logarithm of the standard deviations of the coordinates: the
            one of columns i of U and j of V is where W has the weight (i, j); or None in the place of a leaf that is a
            point estimate.
        left: tree of the same structure: U, of the leaf's own shape with 1 for axes that are not its inputs, and a last
            axis of the columns; or None in the place of a leaf whose weights are independent.
        right: likewise V, with 1 for the axes of the inputs.

    Raises:
        ShapeError: if the trees differ in structure, or in the shapes that are said above.
        InputError: if a part is not of floating-point numbers, or no leaf has a Gaussian.

    Source: Ritter et al. 2018, "A scalable Laplace approximation for neural networks", ICLR; for eigenbases with
    variances of their own, George et al. 2018, arXiv 1806.03884, eq. 6.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> found = bbb.laplace(jax.random.key(2), model, task.x, task.y, structure="kron")
        >>> type(found.posterior).__name__
        'Kronecker'
    """

    logarithms = ("log_std",)
    is_trainable: ClassVar[bool] = False

    mean: Tree
    log_std: Tree
    left: Tree
    right: Tree

    def __post_init__(self) -> None:
        """Raise for parts that do not fit each other."""
        MeanField(self.mean, self.log_std)
        weights_of(self.log_std, "Kronecker")
        checks.floating("left", self.left)
        checks.floating("right", self.right)
        try:
            fit = self._map(_fit, self.log_std)
        except (ValueError, TypeError):  # of another structure
            fit = False
        if not jax.tree.all(fit):
            shapes = ", ".join(
                str(jnp.shape(leaf)) for part in (self.left, self.right) for leaf in jax.tree.leaves(part)
            )
            do = "Use bbb.laplace(..., structure='kron'), or None for both in the place of independent weights."
            fail(ShapeError, "left and right to be bases of the axes of each leaf of log_std", f"shapes {shapes}", do)

    @property
    def params(self) -> Tree:
        """The means: the tree that a draw is like."""
        return self.mean

    def noise(self, key: jax.Array) -> Tree:
        """Draw ε ~ N(0, 1) for every Gaussian weight: a tree like `log_std`, each leaf in its own dtype."""
        return standard_normal(key, self.log_std)

    def weights(self, noise: Tree) -> Tree:
        """Return the weights mean + U·(exp(log_std)∘ε)·Vᵀ, a tree like `mean`; a point estimate is its mean."""
        off = self._map(lambda s, u, v, e: turned(jnp.exp(s) * e, u, v), self.log_std, noise)
        return jax.tree.map(lambda z, m: m if z is None else m + z, off, self.mean, is_leaf=is_none)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log q(params), in nats: a scalar, summed over every weight that has a Gaussian."""
        apart = map_present(lambda _, w, m: w - m, self.log_std, params, self.mean)

        def leaf(s: jax.Array, u: Any, v: Any, z: jax.Array) -> jax.Array:
            return -0.5 * jnp.square(turned(z, u, v, back=True) * jnp.exp(-s)) - s - 0.5 * math.log(2 * math.pi)

        return sum_leaves(self._map(leaf, self.log_std, apart))

    def random_leaves(self, params: Tree) -> Tree:
        """Return the leaves of `params`, a tree like `mean`, that have a Gaussian, with None in the others' place."""
        return map_present(lambda _, leaf: leaf, self.log_std, params)

    def with_params(self, params: Tree) -> "Kronecker":
        """Return the posterior of the means `params` and of this covariance."""
        return Kronecker(params, self.log_std, self.left, self.right)

    def marginals(self) -> MeanField:
        """Return the Gaussian of each weight alone, of variance U²·exp(2·log_std)·(V²)ᵀ."""

        def leaf(s: jax.Array, u: Any, v: Any) -> jax.Array:
            if u is None:
                return s
            variance = turned(jnp.exp(2 * s), jnp.square(u), jnp.square(v))
            return 0.5 * jnp.log(jnp.maximum(variance, jnp.finfo(s.dtype).tiny))  # of a pruned weight it may round to 0

        return MeanField(self.mean, self._map(leaf, self.log_std))

    def conditionals(self) -> MeanField:
        """Return the Gaussian of each weight given all others, of precision U²·exp(−2·log_std)·(V²)ᵀ."""

        def leaf(s: jax.Array, u: Any, v: Any) -> jax.Array:
            if u is None:
                return s
            return -0.5 * jnp.log(turned(jnp.exp(-2 * s), jnp.square(u), jnp.square(v)))

        return MeanField(self.mean, self._map(leaf, self.log_std))

    def total_correlation(self) -> jax.Array:
        """Return Σ H(qᵢ) − H(q), in nats: a scalar, 0 where no leaf has bases that turn it."""
        wider = map_present(jnp.subtract, self.log_std, self.marginals().log_std)
        return -sum_leaves(wider)

    def entropy(self) -> jax.Array:
        """Return Σ log_std + ½·d·log(2πe), in nats: a scalar."""
        return sum_leaves(map_present(lambda s: s + 0.5 * math.log(2 * math.pi * math.e), self.log_std))

    def scaled(self, factor: float) -> "Kronecker":
        """Return the posterior of the same means, whose deviations from them are `factor` times as large."""
        wider = map_present(lambda s: s + math.log(factor), self.log_std)
        return Kronecker(self.mean, wider, self.left, self.right)

    def pruned(self, mask: Tree) -> "Kronecker":
        """Return a posterior in which the weights where `mask`, a tree of bools like `log_std`, is true are 0.

        The others keep their distribution, whose covariance is not of two bases any more: each leaf that has them gets
        one of all its weights.

        Raises:
            InputError: if a leaf with bases has more than 10,000 weights.
        """
        for s, u in zip(*map(_present_or_none, (self.log_std, self.left)), strict=True):
            if u is not None and s.size > MOST_PRUNED:
                expected = f"leaves of at most {MOST_PRUNED:,} weights, to take weights out of a Kronecker"
                do = "Prune posterior.marginals(), in which weights are independent."
                fail(InputError, expected, f"one of {s.size:,}", do)

        means = MeanField(self.mean, self.log_std).pruned(mask).mean
        leaves = [
            (None, None, None) if s is None else _without(s, u, v, gone)
            for s, u, v, gone in zip(*map(_present_or_none, (self.log_std, self.left, self.right, mask)), strict=True)
        ]
        structure = jax.tree.structure(self.log_std, is_leaf=is_none)
        return Kronecker(means, *(jax.tree.unflatten(structure, part) for part in zip(*leaves, strict=True)))

    def validate(self) -> None:
        """Raise what the constructor raises, and for bases that are not orthonormal."""
        super().validate()
        for basis in jax.tree.leaves((self.left, self.right)):
            columns = np.asarray(basis, np.float64).reshape(-1, basis.shape[-1])
            if not np.abs(columns.T @ columns - np.eye(len(columns))).max(initial=0.0) <= 1e-3:
                raise ValueError("a basis that is not orthonormal")

    def _map(self, function: Any, first: Tree, *rest: Tree) -> Tree:
        """Map (leaf of `first`, U, V, leaves of `rest`), with None for U and V of independent weights."""
        return map_present(function, first, self.left, self.right, *rest)


def turned(coordinates: jax.Array, left: Any, right: Any, back: bool = False) -> jax.Array:
    """Return U·Z·Vᵀ of a leaf Z, of its shape and dtype; with `back` Uᵀ·Z·V; Z itself without bases."""
    if left is None:
        return coordinates
    u, v = (basis.reshape(-1, basis.shape[-1]) for basis in (left, right))
    if back:
        u, v = u.T, v.T
    axes = inputs_of(left)
    return from_matrix(u @ as_matrix(coordinates, axes).astype(u.dtype) @ v.T, coordinates.shape, axes).astype(
        coordinates.dtype
    )


def inputs_of(left: jax.Array) -> tuple[int, ...]:
    """Return the axes of a leaf that U has the rows of, as its shape says; those of length 1 make no difference."""
    return tuple(axis for axis, size in enumerate(left.shape[:-1]) if size > 1)


def as_matrix(leaf: jax.Array, inputs: tuple[int, ...]) -> jax.Array:
    """Return a leaf as a matrix, (elements of the inputs' axes, elements of the others)."""
    rest = [axis for axis in range(leaf.ndim) if axis not in inputs]
    rows = math.prod(leaf.shape[axis] for axis in inputs)
    return leaf.transpose(*inputs, *rest).reshape(rows, -1)


def from_matrix(matrix: jax.Array, shape: tuple[int, ...], inputs: tuple[int, ...]) -> jax.Array:
    """Return a matrix as a leaf of a shape: undoes `as_matrix`."""
    order = [*inputs, *(axis for axis in range(len(shape)) if axis not in inputs)]
    back = sorted(range(len(order)), key=lambda i: order[i])
    return matrix.reshape([shape[axis] for axis in order]).transpose(back)


def as_basis(columns: jax.Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> jax.Array:
    """Return orthonormal columns, (elements of the axes, columns), in the shape of `Kronecker.left` or `right`."""
    kept = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    return columns.reshape(*kept, columns.shape[-1])


def _present_or_none(tree: Tree) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=is_none)


def _fit(s: Any, u: Any, v: Any) -> bool:
    """Return whether two bases are of the axes of a leaf, each of one of them."""
    if u is None or v is None:
        return u is None and v is None
    shape, left, right = (tuple(jnp.shape(part)) for part in (s, u, v))
    if not len(left) == len(right) == len(shape) + 1:
        return False
    apart = all({a, b} == {1, size} for a, b, size in zip(left, right, shape, strict=False))
    return apart and all(math.prod(part[:-1]) == part[-1] for part in (left, right))


def _without(s: jax.Array, u: Any, v: Any, gone: jax.Array) -> tuple[jax.Array, Any, Any]:
    """Return log_std, U and V of a leaf without some of its weights: V is of all its weights if it had bases.

    It has the left singular vectors of a square root of the covariance, in whose rows of what is gone there is instead
    a number of its own, larger than all singular values, so that these directions are known by it.
    """
    least = least_log_std(s.dtype)
    if u is None:
        return jnp.where(gone, least, s), None, None
    out = gone.reshape(-1)
    root = jax.vmap(lambda e: turned(e, u, v), out_axes=-1)(_units(s))
    root = jnp.where(out[:, None], 0, root.reshape(s.size, s.size))
    apart = jnp.where(out, 2 * jnp.linalg.norm(root) + 1, 0)
    vectors, values, _ = jnp.linalg.svd(jnp.concatenate([root, jnp.diag(apart)], axis=1), full_matrices=False)
    owned = jnp.sum(jnp.where(out[:, None], jnp.square(vectors), 0), axis=0) > 0.5
    vectors = jnp.where(out[:, None] == owned[None], vectors, 0)
    stds = jnp.where(owned, least, jnp.maximum(jnp.log(values), least))
    one = jnp.ones((1,) * (s.ndim + 1), vectors.dtype)
    return stds.reshape(s.shape).astype(s.dtype), one, vectors.reshape(*s.shape, s.size)


def _units(s: jax.Array) -> jax.Array:
    """Return the coordinates of one standard deviation each, (elements, ...)."""
    return jnp.diag(jnp.exp(s).reshape(-1)).reshape(s.size, *s.shape)
