"""Kronecker factors and diagonals of the Gauss-Newton matrix, leaf by leaf, without the Jacobians of its rows.

For a leaf that is the matrix of a product, a row of the root of the Gauss-Newton is the sum of a·gᵀ over the places
where the product uses it, with g of that row's column of the root of the Fisher information in the outputs. The block
of the leaf is approximated by A⊗B: of N rows of data and R places A is the mean of a·aᵀ over both, B the sum of g·gᵀ.
Biases, scales and other vectors have a block of their own, exactly; all other leaves have their diagonal.

Source: Martens & Grosse 2015, arXiv 1503.05671, §3; for weights that are used at several places, "KFAC-expand" of
Eschenhagen et al. 2023, arXiv 2311.00636, §3.2; B of all outputs in place of samples of them, Botev et al. 2017, arXiv
1706.03662.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bbb.core.rows import as_row, some_rows
from bbb.core.tree import Tree
from bbb.curvature.problem import Problem, Size
from bbb.likelihoods.protocol import fisher_root_of
from bbb.posteriors.correlated.kronecker import from_matrix
from bbb.tracing.products import Site, meet

KRON, VECTOR, DIAGONAL = "kron", "vector", "diagonal"
"""What is kept of a leaf: two factors; its block of the matrix; its diagonal."""


Sums = tuple[Any, ...]
"""For each leaf what was summed over rows."""


def like(tree: Tree, leaves: list[Any]) -> Tree:
    """Return leaves, of which some may be None, as a tree like another."""
    structure: Any = jax.tree.structure(tree)
    return jax.tree.unflatten(structure, leaves)


def kind_of(site: Site) -> str:
    """Return what is kept of a leaf."""
    if site.inputs is not None:
        return KRON
    return VECTOR if len(site.shape) <= 1 else DIAGONAL


def held(size: Size) -> int:
    """Return how many numbers factors and bases take, with what finds these."""
    sides = {KRON: lambda s: s.fan_in**2 + s.fan_out**2, VECTOR: lambda s: s.fan_out**2, DIAGONAL: lambda _: 0}
    return 8 * sum(sides[kind_of(site)](site) for site in size.sites) + 8 * size.weights


def held_of_row(size: Size) -> int:
    """Return how many numbers a row of data takes: what its leaves meet, with copies."""
    inputs = sum(site.places * site.fan_in for site in size.sites if site.inputs is not None)
    return 3 * inputs + 4 * size.outputs * sum(site.places * site.fan_out for site in size.sites)


class Basis(NamedTuple):
    """Orthonormal columns, of the vectors a and g of a leaf; None for a leaf with its diagonal alone."""

    left: jax.Array | None
    right: jax.Array | None


class PriorBlock(NamedTuple):
    """The prior's precision of a leaf: independent weights, or coordinates in eigenbases of its own.

    Attributes:
        precision: (fan_in, fan_out), of each weight or coordinate.
        bases: U and V of the coordinates; None for the weights themselves.
    """

    precision: jax.Array
    bases: Basis | None = None

    @property
    def over_inputs(self) -> jax.Array:
        """Its trace over the outputs, (fan_in, fan_in); that of `over_outputs` is over the inputs."""
        return _around(self.bases.left, jnp.sum(self.precision, axis=1))  # type: ignore[union-attr]

    @property
    def over_outputs(self) -> jax.Array:
        """Its trace over the inputs, (fan_out, fan_out)."""
        return _around(self.bases.right, jnp.sum(self.precision, axis=0))  # type: ignore[union-attr]

    def of_coordinates(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """Return the precision of each coordinate in other bases, (fan_in, fan_out)."""
        if self.bases is None:
            return _of_coordinates(self.precision, left, right)
        own_left, own_right = map(jnp.asarray, self.bases)
        return jnp.square(left.T @ own_left) @ self.precision @ jnp.square(own_right.T @ right)


def _around(basis: Any, values: jax.Array) -> jax.Array:
    """Return the matrix of eigenvectors, which are the columns of a basis, and eigenvalues."""
    return (basis * values[None]) @ basis.T


class _Met(NamedTuple):
    """What one leaf meets in the rows of a tile: a, (size, places, fan_in), and g, (size, k, places, fan_out).

    Of a row that counts w times, g is that times √w, and `spread`, (size,), is √w: 0 for a copy.
    """

    inputs: jax.Array | None
    gradients: jax.Array
    spread: jax.Array

    @property
    def counted(self) -> jax.Array | None:
        """The inputs times √w."""
        return None if self.inputs is None else self.spread[:, None, None] * self.inputs


def of_tile(
    problem: Problem, sites: tuple[Site, ...], x: Tree, y: jax.Array, spread: jax.Array
) -> tuple[list[_Met], jax.Array]:
    """Return what each leaf meets in the rows of a tile, with g of a copy 0; and which rows are finite, (size,)."""
    dtype = spread.dtype

    def of_row(row: Tree, target: jax.Array, times: jax.Array) -> tuple[list[_Met], jax.Array]:
        meeting = meet(problem.network, problem.random, as_row(row), sites)
        outputs = meeting.outputs
        root = fisher_root_of(problem.likelihood, target[None], outputs)[0]
        columns = (times * root.astype(dtype)).T.reshape(-1, *outputs.shape).astype(outputs.dtype)
        gradients = [g.astype(dtype) for g in jax.vmap(meeting.gradients)(columns)]
        inputs = [None if a is None else a.astype(dtype) for a in meeting.inputs]
        fine = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((inputs, gradients))]).all()
        return [_Met(a, _by_places(g, site), times) for a, g, site in zip(inputs, gradients, sites, strict=True)], fine

    return jax.vmap(of_row)(x, y, spread)


def _by_places(gradients: jax.Array, site: Site) -> jax.Array:
    """Return g of a row, (k, places, fan_out)."""
    return gradients.reshape(len(gradients), site.places, -1)


def _summed(problem: Problem, sites: tuple[Site, ...], of_leaf: Any) -> tuple[Sums, jax.Array]:
    """Return the sums over all rows of what `of_leaf(met, site, i)` makes of a tile, and the finite rows."""

    def made(x: Tree, y: jax.Array, spread: jax.Array) -> tuple[Sums, jax.Array]:
        every, fine = of_tile(problem, sites, x, y, spread)
        return tuple(of_leaf(met, site, i) for i, (met, site) in enumerate(zip(every, sites, strict=True))), fine

    def step(total: Sums, part: tuple[jax.Array, ...]) -> tuple[Sums, jax.Array]:
        found, fine = made(*part)
        return jax.tree.map(jnp.add, total, found), fine

    shapes = jax.eval_shape(lambda: made(*some_rows((problem.x, problem.y, problem.spread), 0))[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.scan(jax.checkpoint(step), zeros, (problem.x, problem.y, problem.spread))


def diagonals(problem: Problem, sites: tuple[Site, ...]) -> tuple[Tree, jax.Array]:
    """Return the diagonal of the Gauss-Newton and the prior's precision, a tree like the random leaves; finite rows."""
    found, fine = _summed(problem, sites, lambda met, site, _: _diagonal(met, site))
    every = [from_matrix(sums, site.shape, site.inputs or ()) for sums, site in zip(found, sites, strict=True)]
    prior = problem.prior.curvature(problem.random)
    return jax.tree.map(lambda own, more: own + more.astype(own.dtype), like(problem.random, every), prior), fine


def _diagonal(met: _Met, site: Site) -> jax.Array:
    """Return the sum over rows of the squares of (Σ a·gᵀ), (fan_in, fan_out): exactly."""
    if met.inputs is None:
        return jnp.sum(jnp.square(met.gradients), axis=(0, 1))  # of one place
    if site.places == 1:
        return jnp.square(met.inputs[:, 0]).T @ jnp.sum(jnp.square(met.gradients[:, :, 0]), axis=1)

    def of_row(total: jax.Array, row: _Met) -> tuple[jax.Array, None]:
        return total + jnp.sum(jnp.square(row.inputs.T @ row.gradients), axis=0), None  # type: ignore[union-attr]

    zeros = jnp.zeros((site.fan_in, site.fan_out), met.gradients.dtype)
    return lax.scan(of_row, zeros, met)[0]


def bases(problem: Problem, sites: tuple[Site, ...], prior: list[PriorBlock]) -> tuple[list[Basis], jax.Array]:
    """Return the eigenbases of A and B of each leaf, and the finite rows; of a vector that of its block and the prior.

    With a prior that has eigenbases too, A⊗B and the prior's block are added up in their traces over the outputs, and
    over the inputs: the eigenvectors of these two sums are those of the whole if it is a Kronecker product.

    Args:
        problem: which they are not differentiated in.
        sites: of its leaves.
        prior: the prior's block of each leaf.
    """
    problem, prior = lax.stop_gradient((problem, prior))
    count = jnp.sum(problem.real)

    def of_leaf(met: _Met, site: Site, i: int) -> Any:
        del i
        kind = kind_of(site)
        if kind == KRON:
            return _gram(met.counted, site.fan_in), _gram(met.gradients, site.fan_out)
        return _gram(met.gradients, site.fan_out) if kind == VECTOR else ()

    found, fine = _summed(problem, sites, of_leaf)

    def basis(sums: Any, site: Site, prior: PriorBlock) -> Basis:
        kind = kind_of(site)
        if kind == KRON:
            inputs, outputs = sums
            if prior.bases is not None:
                inputs = inputs / (count * site.places)
                inputs, outputs = (
                    inputs * jnp.trace(outputs) + prior.over_inputs,
                    outputs * jnp.trace(inputs) + prior.over_outputs,
                )
            return Basis(*(jnp.linalg.eigh(gram)[1] for gram in (inputs, outputs)))
        if kind == VECTOR:
            one = jnp.ones((1, 1), sums.dtype)
            more = jnp.diag(prior.precision[0]) if prior.bases is None else prior.over_outputs
            return Basis(one, jnp.linalg.eigh(sums + more)[1])
        return Basis(None, None)

    return [basis(*each) for each in zip(found, sites, prior, strict=True)], fine


def _gram(vectors: Any, size: int) -> jax.Array:
    """Return the sum of v·vᵀ over all leading axes, (size, size)."""
    rows = vectors.reshape(-1, size)
    return rows.T @ rows


def precisions(
    problem: Problem, sites: tuple[Site, ...], of: list[Basis], prior: list[PriorBlock]
) -> tuple[list[jax.Array], jax.Array]:
    """Return the precision of each coordinate in the bases, (fan_in, fan_out) of each leaf, and the finite rows.

    λᵃᵢ·λᵇⱼ + Σ Uₖᵢ²·Pₖₗ·Vₗⱼ², whose last term is the prior's precision of the coordinate: P itself where it is the same
    for the whole leaf. The eigenvalues are sums of squares of projected vectors, in a second pass over the data: those
    of a sum of squares lose in float32 what is 1e-7 of the largest. Differentiable, with the bases as they are.
    """
    count = jnp.sum(problem.real)

    def of_leaf(met: _Met, site: Site, i: int) -> Any:
        if kind_of(site) == KRON:
            return _projected(met.counted, of[i].left), _projected(met.gradients, of[i].right)
        return _projected(met.gradients, of[i].right) if kind_of(site) == VECTOR else _diagonal(met, site)

    found, fine = _summed(problem, sites, of_leaf)

    def precision(sums: Any, site: Site, basis: Basis, prior: PriorBlock) -> jax.Array:
        if basis.left is None or basis.right is None:
            return sums + prior.precision
        seen = jnp.outer(sums[0] / (count * site.places), sums[1]) if kind_of(site) == KRON else sums[None]
        return seen + prior.of_coordinates(basis.left, basis.right)

    return [precision(*each) for each in zip(found, sites, of, prior, strict=True)], fine


def _of_coordinates(prior: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """Return U²ᵀ·P·V²: P itself, to the last bit, where it is of one number."""
    first = prior[:1, :1]
    return first + jnp.square(left).T @ (prior - first) @ jnp.square(right)


def _projected(vectors: Any, basis: Any) -> jax.Array:
    """Return the sum of (v·u)² over all leading axes, for each column u of a basis."""
    return jnp.sum(jnp.square(vectors.reshape(-1, len(basis)) @ basis), axis=0)
