"""The network at draws of the weights, tile by tile."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from bbb import checks
from bbb.core.jit import jit
from bbb.core.rows import apart, count_rows, map_rows, put_back, some_rows
from bbb.core.tree import Tree
from bbb.devices import hosts, layout, threads
from bbb.model import BNN, check_model
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import noise_like
from bbb.predictive.finite import check_finite
from bbb.predictive.plan import AXES, Plan, check_draws, check_rows, placed, placed_over, plan_of
from bbb.predictive.sobol import sobol_normal


def draws(
    key: jax.Array,
    model: BNN,
    x: Any,
    *,
    draws: int = 10_000,
    sampling: str = "independent",
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
    partition: Tree = None,
) -> Any:
    """Return the raw draws of the function, (draws, rows, ...): what `predict` summarises, number for number.

    Of a network of several outputs they are a tree like that of the likelihoods. `memory` bounds the working memory;
    the result itself comes on top, on the first device. For `sampling`, `rows`, `mesh` and `partition`, see `predict`;
    also for the draws of an ensemble, whose number is rounded up to a multiple of the members'.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a draw is NaN or infinite; it names the first row.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> bbb.draws(jax.random.key(1), model, task.x, draws=100).shape
        (100, 20, 1)
    """
    checks.outside("draws", "jax.vmap(model.forward, ...) over keys", key=key, model=model, x=x)
    check_model(model)
    if model.joint is not None:
        how: dict[str, Any] = {"sampling": sampling, "rows": rows, "memory": memory}
        how |= {"mesh": mesh, "partition": partition}
        return of_heads(lambda head: _draws(key, head, x, draws=draws, **how), model)
    check_draws(checks.positive_integer("draws", draws), None, sampling)
    check_rows(rows, "draws", mesh)
    over = placed_over(mesh, partition)
    plan = plan_of(key, model, x, draws, sampling, memory, over=over, rows=rows)
    if over is not None:
        model = placed(model, over, partition)
        with hosts.joined(over):
            parts = [layout.to_host(piece, over)[: plan.draws, :rows] for piece, rows in tiles(key, model, plan)]
        found = jax.device_put(np.concatenate(parts, axis=1))
    else:
        joined = [joined_draws(pieces, plan.draws)[:, :rows] for pieces, rows in tiles(key, model, plan)]
        found = jnp.concatenate(joined, axis=1)
    if not _is_finite(found):  # one number comes back; which row it is, is looked up only then
        check_finite(model, "the network's outputs", np.moveaxis(np.asarray(found), 1, 0))
    return found


def of_heads(function: Callable[[BNN], Any], model: BNN) -> Tree:
    """Return `function` of the model of each output, as a tree like that of the likelihoods."""
    joint: Any = model.joint
    return jax.tree.unflatten(joint.structure, [function(model.head(path)) for path in joint.paths])


@jit
def _is_finite(values: jax.Array) -> jax.Array:
    return jnp.isfinite(values).all()


_draws = draws  # whose own argument has that name


def joined_draws(pieces: list[jax.Array], draws: int) -> jax.Array:
    """Return the first `draws` of pieces along the axis of draws."""
    return jnp.concatenate(pieces)[:draws]


def padded_tiles(plan: Plan) -> Iterator[tuple[Tree, int]]:
    """Yield the rows of x in tiles, the last padded to full size, and how many rows of each are not padding.

    Of a mesh, the tiles of all its columns come as one.
    """
    x = map_rows(np.asarray, plan.x)  # cut and padded by NumPy: JAX would compile a program for every number of rows
    n, size = count_rows(x), plan.tile * plan.columns

    def padded(part: np.ndarray) -> np.ndarray:
        missing = size - len(part)  # padding is a row that is known to be fit for the network
        return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part

    for start in range(0, n, size):
        yield map_rows(padded, some_rows(x, slice(start, start + size))), min(size, n - start)


def tiles(key: jax.Array, model: BNN, plan: Plan) -> Iterator[tuple[list[Tree], int]]:
    """Yield the outputs of each tile of rows, and how many rows are not padding.

    They come in pieces (share, tile, ...); of a mesh, as one array (draws and padding, tiles, ...), spread by rows.
    """
    how: dict[str, Any] = {"width": plan.width, "draws": plan.share, "chunk": plan.chunk, "batch": plan.batch}
    how |= {"group": plan.group, "network": plan.network, "large": plan.large}
    if plan.mesh is not None:
        yield from _tiles_over(plan.mesh, key, model, plan, how)
        return
    firsts = [np.int32(first) for first in range(0, plan.draws, plan.share)]
    for part, rows in padded_tiles(plan):
        args = (key, model.posterior, plan.directions, part, np.int32(math.ceil(rows / plan.width)))
        yield threads.run(_evaluate, firsts, *args, **how), rows


def _tiles_over(
    mesh: Mesh, key: jax.Array, model: BNN, plan: Plan, how: dict[str, Any]
) -> Iterator[tuple[list[Tree], int]]:
    """Evaluate each device's draws of its column's rows; then give each device all draws of some of those rows."""
    firsts = layout.put(mesh, plan.share * np.arange(mesh.shape["draws"], dtype=np.int32), P("draws"))
    key, directions = layout.put(mesh, (key, plan.directions), P())
    starts = plan.tile * np.arange(plan.columns)
    for part, rows in padded_tiles(plan):
        filled = np.ceil(np.clip(rows - starts, 0, plan.tile) / plan.width).astype(np.int32)
        own = layout.put_rows(mesh, (part, filled), P("rows"))
        drawn = _evaluate_over(firsts, key, model.posterior, directions, *own, mesh=mesh, **how)
        yield layout.laid_out(drawn, mesh, P(None, AXES)), rows


@partial(jit, static_argnames=("mesh", "network", "width", "draws", "chunk", "batch", "group"))
def _evaluate_over(
    firsts: jax.Array,
    key: jax.Array,
    posterior: Any,
    directions: jax.Array | None,
    x: Tree,
    filled: jax.Array,
    *,
    mesh: Mesh,
    **how: Any,
) -> Tree:
    """Evaluate on every device of a mesh: (draws, rows, ...), cut along both."""

    def own(first: jax.Array, key: jax.Array, posterior: Any, directions: Any, x: Tree, filled: jax.Array) -> Tree:
        return _evaluate(first[0], key, posterior, directions, x, filled[0], **how)

    of_x = put_back(
        *(jax.tree.map(lambda _, s=spec: s, part) for part, spec in zip(apart(x), (P("rows"), P()), strict=True))
    )
    specs = (P("draws"), P(), P(), P(), of_x, P("rows"))
    over = jax.shard_map(
        own, mesh=mesh, in_specs=specs, out_specs=P("draws", "rows"), axis_names=set(AXES), check_vma=False
    )
    return over(firsts, key, posterior, directions, x, filled)


@partial(jit, static_argnames=("network", "width", "draws", "chunk", "batch", "group"))
def _evaluate(
    first: jax.Array,
    key: jax.Array,
    posterior: Posterior,
    directions: jax.Array | None,
    x: Tree,
    filled: jax.Array,
    *,
    network: Callable[..., Any],
    width: int,
    draws: int,
    chunk: int,
    batch: int,
    group: int,
) -> Tree:
    """Return draws `first`, `first + 1`, … for one tile, (draws, tile, ...): noise in chunks, then draw by draw.

    Of the tile, the first `filled · width` rows are evaluated; the rest stay 0.
    """
    tile, shared = apart(x)
    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, width, *leaf.shape[1:]), tile)
    count = count_rows(x) // width
    like, members = posterior.component(0), posterior.components

    def part_of(i: Any) -> Tree:
        return put_back(jax.tree.map(lambda leaf: leaf[i], parts), shared)

    shapes = jax.eval_shape(network, like.params, like, part_of(0))

    def one(drawn: tuple[Tree, jax.Array | None]) -> Tree:
        noise, k = drawn
        member = posterior.component(0 if k is None else k)
        params = member.weights(noise)
        if count == 1:
            return network(params, member, part_of(0))

        def part(i: jax.Array, done: Tree) -> Tree:
            return jax.tree.map(lambda all_, new: all_.at[i].set(new), done, network(params, member, part_of(i)))

        empty = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), shapes)
        done = lax.fori_loop(0, filled, part, empty)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), done)

    def some(start: jax.Array) -> jax.Array:
        firsts = start + group * jnp.arange(chunk // group, dtype=jnp.int32)
        together = jnp.arange(min(group, members), dtype=jnp.int32)  # of a posterior that holds its draws, one
        index = (firsts[:, None] + together[None]).reshape(-1)
        noise = jax.vmap(partial(_noise, key, like, members, directions))(index)
        if group == 2 * members:
            noise = jax.tree.map(lambda e: _mirrored(e, members), noise)
        drawn = noise, (start + jnp.arange(chunk, dtype=jnp.int32)) % members if members > 1 else None
        return lax.map(one, drawn) if batch == 1 else lax.map(one, drawn, batch_size=batch)

    drawn = lax.map(some, first + jnp.arange(0, draws, chunk, dtype=jnp.int32))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:draws], drawn)


def _noise(key: jax.Array, like: Posterior, members: int, directions: jax.Array | None, i: jax.Array) -> Tree:
    """Return the noise of draw i; of Sobol points, those of each member come in nets, each with a key of its own."""
    if directions is None:
        return like.noise(jax.random.fold_in(key, i))
    points = 2 ** directions.shape[0]
    net, point = (i // members) // points, (i // members) % points
    of_net = jax.random.fold_in(key, net * members + i % members)
    return sobol_normal(of_net, point, noise_like(like), directions)


def _mirrored(noise: jax.Array, members: int) -> jax.Array:
    """Follow every draw of each member by one of the other sign: (draws, ...) becomes (2 · draws, ...)."""
    blocks = noise.reshape(-1, 1, members, *noise.shape[1:])
    return jnp.concatenate([blocks, -blocks], axis=1).reshape(-1, *noise.shape[1:])
