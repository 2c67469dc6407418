"""Draws summarised tile by tile."""

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
from bbb.likelihoods.protocol import SupportsFunction
from bbb.model import BNN
from bbb.predictive.estimates import Estimate, Moments, summarise
from bbb.predictive.plan import AXES
from bbb.predictive.summary import Marginal

if TYPE_CHECKING:
    from bbb.predictive.plan import Plan


def summaries(model: BNN, plan: "Plan", pieces: Tree, rows: int, **what: Any) -> Tree:
    """Summarise a tile, some rows at a time; leaves (rows, ...)."""
    how = {"draws": plan.draws, "group": plan.dependent, "rows": plan.summary, **what}
    if plan.mesh is not None:
        return jax.tree.map(lambda leaf: leaf[:rows], _summaries_over(plan.mesh, plan, model, pieces, how))
    firsts = [np.int32(first) for first in range(0, rows, plan.summary)]
    found = threads.over_threads(_summarise, firsts, model.likelihood, pieces, **how)
    return jax.tree.map(lambda leaf: leaf[:rows], join(found))


def _summaries_over(mesh: Mesh, plan: "Plan", model: BNN, pieces: Tree, how: dict[str, Any]) -> Tree:
    """Summarise a tile that is spread over a mesh by rows: each device its own, some at a time; leaves (tile, ...)."""
    firsts = [np.int32(first) for first in range(0, plan.tile // mesh.shape["draws"], plan.summary)]
    found = [_summarise_over(first, model.likelihood, pieces, mesh=mesh, **how) for first in firsts]
    devices = mesh.shape["rows"] * mesh.shape["draws"]

    def in_order(*blocks: np.ndarray) -> np.ndarray:  # a block has some rows of each device
        stacked = np.stack([block.reshape(devices, plan.summary, *block.shape[1:]) for block in blocks], axis=1)
        return stacked.reshape(-1, *stacked.shape[3:])

    return jax.tree.map(in_order, *layout.to_host(found, mesh))


@partial(jit, static_argnames=("mesh", "draws", "group", "rows", "moments_too", "f_ps", "y_ps"))
def _summarise_over(first: jax.Array, likelihood: SupportsFunction, pieces: Tree, *, mesh: Mesh, **how: Any) -> Tree:
    """Summarise, on every device of a mesh, some rows of those it has."""

    def own(first: jax.Array, likelihood: SupportsFunction, piece: Tree) -> Tree:
        return _summarise(first, likelihood, [piece], **how)

    specs = (P(), P(), P(None, AXES))
    return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=P(AXES), axis_names=set(AXES), check_vma=False)(
        first, likelihood, pieces
    )


@partial(jit, static_argnames=("draws", "group", "rows", "moments_too", "f_ps", "y_ps"))
def _summarise(
    first: jax.Array, likelihood: SupportsFunction, pieces: list[Tree], *, draws: int, rows: int, **what: Any
) -> Tree:
    """Summarise some rows of a tile, `first`, `first + 1`, …."""

    def rows_of(*pieces: jax.Array) -> jax.Array:
        return jnp.concatenate([lax.dynamic_slice_in_dim(piece, first, rows, 1) for piece in pieces])[:draws]

    # The barrier keeps bits from hanging on how many pieces there are: no sum is fused with their joining.
    outputs = lax.optimization_barrier(jax.tree.map(rows_of, *pieces))
    return summarise(likelihood, outputs, **what)


def marginal_of(m: Moments, draws: int, table: dict[float, Estimate], later: Any) -> Marginal:
    """Return the marginal of moments and of the quantiles known so far."""
    return Marginal(mean=m.mean, std=np.sqrt(m.variance), draws=draws, moments=m, _table=table, _later=later)


def join(parts: list[Tree]) -> Tree:
    """Return the parts joined along rows."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)
