"""Draws summarised, or reduced by another function, tile by tile."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from bbb.core.jit import jit
from bbb.core.tree import Tree
from bbb.devices import layout, threads
from bbb.model import BNN
from bbb.predictive.estimates import Estimate, Moments, summarise
from bbb.predictive.plan import AXES
from bbb.predictive.summary import Marginal

if TYPE_CHECKING:
    from bbb.predictive.plan import Plan


def summaries(model: BNN, plan: "Plan", pieces: Tree, rows: int, **what: Any) -> Tree:
    """Summarise a tile, some rows at a time; leaves (rows, ...)."""
    return reduced(summarise, model.likelihood, plan, pieces, rows, group=plan.dependent, **what)


def reduced(by: Callable[..., Tree], given: Tree, plan: "Plan", pieces: Tree, rows: int, **what: Any) -> Tree:
    """Return `by(given, outputs, **what)` of a tile, some rows at a time; leaves (rows, ...).

    Args:
        by: a function, not made anew for each call, of outputs (draws, rows, ...); its leaves are (rows, ...).
        given: a tree of arrays.
        plan: of the tile.
        pieces: the tile's outputs, as `tiles` yields them.
        rows: how many of its rows are not padding.
        what: options of `by`, among those that are static.
    """
    how = {"by": by, "draws": plan.draws, "rows": plan.summary, **what}
    if plan.mesh is not None:
        return jax.tree.map(lambda leaf: leaf[:rows], _reduced_over(plan.mesh, plan, given, pieces, how))
    firsts = [np.int32(first) for first in range(0, rows, plan.summary)]
    found = threads.over_threads(_reduce, firsts, given, pieces, **how)
    return jax.tree.map(lambda leaf: leaf[:rows], join(found))


def _reduced_over(mesh: Mesh, plan: "Plan", given: Tree, pieces: Tree, how: dict[str, Any]) -> Tree:
    """Reduce a tile that is spread over a mesh by rows: each device its own, some at a time; leaves (tile, ...)."""
    firsts = [np.int32(first) for first in range(0, plan.tile // mesh.shape["draws"], plan.summary)]
    found = [_reduce_over(first, given, pieces, mesh=mesh, **how) for first in firsts]
    devices = mesh.shape["rows"] * mesh.shape["draws"]

    def in_order(*blocks: np.ndarray) -> np.ndarray:  # a block has some rows of each device
        stacked = np.stack([block.reshape(devices, plan.summary, *block.shape[1:]) for block in blocks], axis=1)
        return stacked.reshape(-1, *stacked.shape[3:])

    return jax.tree.map(in_order, *layout.to_host(found, mesh))


STATIC = ("by", "draws", "rows", "group", "moments_too", "f_ps", "y_ps")


@partial(jit, static_argnames=("mesh", *STATIC))
def _reduce_over(first: jax.Array, given: Tree, pieces: Tree, *, mesh: Mesh, **how: Any) -> Tree:
    """Reduce, on every device of a mesh, some rows of those it has."""

    def own(first: jax.Array, given: Tree, piece: Tree) -> Tree:
        return _reduce(first, given, [piece], **how)

    specs = (P(), P(), P(None, AXES))
    return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=P(AXES), axis_names=set(AXES), check_vma=False)(
        first, given, pieces
    )


@partial(jit, static_argnames=STATIC)
def _reduce(
    first: jax.Array, given: Tree, pieces: list[Tree], *, by: Callable[..., Tree], draws: int, rows: int, **what: Any
) -> Tree:
    """Reduce some rows of a tile, `first`, `first + 1`, …."""

    def rows_of(*pieces: jax.Array) -> jax.Array:
        return jnp.concatenate([lax.dynamic_slice_in_dim(piece, first, rows, 1) for piece in pieces])[:draws]

    # The barrier keeps bits from hanging on how many pieces there are: no sum is fused with their joining.
    outputs = lax.optimization_barrier(jax.tree.map(rows_of, *pieces))
    return by(given, outputs, **what)


def marginal_of(m: Moments, draws: int, table: dict[float, Estimate], later: Any) -> Marginal:
    """Return the marginal of moments and of the quantiles known so far."""
    return Marginal(mean=m.mean, std=np.sqrt(m.variance), draws=draws, moments=m, _table=table, _later=later)


def join(parts: list[Tree]) -> Tree:
    """Return the parts joined along rows."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)
