"""The predictive: many draws of the network in one compiled program, and their summary."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb import _check
from bbb._compile import jit
from bbb._tree import count
from bbb.forward import Forward, weight_sampling
from bbb.model import BNN, rows_for
from bbb.posterior import MeanField
from bbb.summary import (
    Estimate,
    Marginal,
    Moments,
    Predictive,
    function_quantiles,
    moments,
    observation_quantiles,
    resolved,
    tails,
)

ROW_TILES = (8, 32, 64, 128, 320, 512, 1024)
"""Rows are padded to one of these sizes, so that at most this many programs are compiled for any number of rows."""

TILE_ELEMENTS = 2**22
"""Most outputs (draws × rows × outputs a row) held at once, which bounds memory for any number of rows."""

NOISE_ELEMENTS = 2**19
"""Random numbers drawn at once: enough to draw in bulk, few enough to stay in cache."""


def predict(
    key: jax.Array,
    model: BNN,
    x: Any,
    *,
    draws: int = 10_000,
    levels: Sequence[float] = (),
    quantiles: Sequence[float] = (),
    memory: int | str = "512MB",
) -> Predictive:
    """Summarise the predictive distribution at each row of x.

    Draw i is `weight_sampling(model.apply)(fold_in(key, i), model.posterior, x)`: the same weights for every row, and
    the same numbers for every setting of `memory`.

    Args:
        key: one typed JAX key.
        model: the Bayesian network.
        x: (rows, ...), finite; any number of rows.
        draws: how many draws of the weights.
        levels: intervals that will be wanted, such as (0.95,). Only needed where the draws are too many to keep.
        quantiles: likewise, single quantiles, such as (0.1, 0.9).
        memory: bound on the working memory, in bytes or such as "512MB". Draws are kept, so that any quantile can be
            asked for later, if they fit in a quarter of it.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
    """
    wanted = [p for level in _check.levels("level", levels) for p in tails(level)]
    wanted += _check.levels("quantile", quantiles)
    plan = _plan(key, model, x, draws, memory)
    ps = tuple(sorted({resolved(p, plan.outputs.dtype) for p in wanted}))
    keep = plan.draws * math.prod(plan.outputs.shape) * plan.outputs.dtype.itemsize <= plan.memory // 4
    finders = function_quantiles, partial(observation_quantiles, model.likelihood)
    kept, parts = [], []
    for outputs, rows in _tiles(key, model, plan):
        found = moments(model.likelihood, outputs), [find(outputs, ps) if ps else [] for find in finders]
        parts.append(_first_rows(found, rows))
        if keep:
            kept.append((outputs, rows))
    ((f, y), (f_quantiles, y_quantiles)) = _join(parts)

    def later(which: int) -> Any:
        def compute(p: float) -> Estimate:
            return _join([_first_rows(finders[which](outputs, (p,)), rows) for outputs, rows in kept])[0]

        return compute if keep else None

    return Predictive(
        f=_marginal(f, plan.draws, dict(zip(ps, f_quantiles, strict=True)), later(0)),
        y=_marginal(y, plan.draws, dict(zip(ps, y_quantiles, strict=True)), later(1)),
        draws=plan.draws,
    )


def draws(key: jax.Array, model: BNN, x: Any, *, draws: int = 10_000, memory: int | str = "512MB") -> jax.Array:
    """Give the raw draws of the function, (draws, rows, ...): what `predict` summarises, number for number.

    `memory` bounds the working memory; the result itself comes on top.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
    """
    plan = _plan(key, model, x, draws, memory)
    return jnp.concatenate([outputs[:, :rows] for outputs, rows in _tiles(key, model, plan)], axis=1)


def _marginal(m: Moments, draws: int, table: dict[float, Estimate], later: Any) -> Marginal:
    return Marginal(mean=m.mean, std=np.sqrt(m.variance), draws=draws, moments=m, _table=table, _later=later)


def _first_rows(found: Any, rows: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:rows], found)


def _join(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


class _Plan(NamedTuple):
    x: jax.Array
    outputs: jax.ShapeDtypeStruct
    draws: int
    memory: int
    tile: int  # rows evaluated at once; a function of the shapes alone, so that results never hang on `memory`
    chunk: int  # draws whose noise is drawn at once


def _plan(key: jax.Array, model: BNN, x: Any, draws: int, memory: int | str) -> _Plan:
    """Check the arguments, and choose how to cut the work."""
    _check.key(key)
    draws = _check.positive_integer("draws", draws)
    limit = _check.memory(memory)
    x = rows_for(model, "x", x)
    outputs = _check.output_shape(model.apply, model.posterior.mean, x)
    per_row = draws * math.prod(outputs.shape[1:])
    fitting = [tile for tile in ROW_TILES if tile * per_row <= TILE_ELEMENTS] or [ROW_TILES[0]]
    tile = next((tile for tile in fitting if tile >= x.shape[0]), fitting[-1])
    weights, itemsize = count(model.posterior.mean), outputs.dtype.itemsize
    fixed, each = 4 * tile * per_row * itemsize, 4 * weights * itemsize
    if fixed + each > limit:
        _check.fail(
            _check.InputError,
            f"memory of at least {fixed + each:,} bytes for {draws:,} draws of a network of {weights:,} weights",
            f"{limit:,}",
            "Pass more memory or fewer draws.",
        )
    chunk = min(draws, max(1, NOISE_ELEMENTS // weights), max(1, (limit - fixed) // each))
    return _Plan(x, outputs, draws, limit, tile, math.ceil(draws / math.ceil(draws / chunk)))


def _tiles(key: jax.Array, model: BNN, plan: _Plan) -> Iterator[tuple[jax.Array, int]]:
    """Yield the outputs (draws, tile, ...) of each tile of rows, and how many of its rows are not padding."""
    forward = weight_sampling(model.apply)
    x = np.asarray(plan.x)  # cut and padded by NumPy: JAX would compile a program for every number of rows
    for start in range(0, len(x), plan.tile):
        part = x[start : start + plan.tile]
        rows = part.shape[0]
        if rows < plan.tile:  # pad with a row that is known to be fit for the network
            part = np.concatenate([part, np.repeat(part[-1:], plan.tile - rows, axis=0)])
        yield _evaluate(key, model.posterior, part, forward=forward, draws=plan.draws, chunk=plan.chunk), rows


@partial(jit, static_argnames=("forward", "draws", "chunk"))
def _evaluate(
    key: jax.Array, posterior: MeanField, x: jax.Array, *, forward: Forward, draws: int, chunk: int
) -> jax.Array:
    """Give all draws for one tile, (draws, tile, ...): noise in chunks, arithmetic draw by draw."""

    def some(first: jax.Array) -> jax.Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(chunk))
        noise = jax.vmap(lambda k: forward.noise(k, posterior, x))(keys)
        return lax.map(lambda e: forward.evaluate(e, posterior, x), noise)

    outputs = lax.map(some, jnp.arange(0, draws, chunk))
    return outputs.reshape(-1, *outputs.shape[2:])[:draws]
