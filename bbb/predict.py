"""The predictive: many draws of the network in one compiled program, and their summary."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb import _check, _spread
from bbb._compile import jit
from bbb._tree import count
from bbb.forward import Forward, weight_sampling
from bbb.model import BNN, rows_for
from bbb.posterior import SMALL, MeanField
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

GROUPS = {"independent": 1, "antithetic": 2}
"""How many neighbouring draws depend on each other, for each way of sampling."""

CACHE_BYTES = 2**18
"""What the activations of one draw may take, to stay in a core's second-level cache."""

NOISE_ELEMENTS = 2**19
"""Random numbers drawn at once: enough to draw in bulk, few enough to stay in cache."""


def predict(
    key: jax.Array,
    model: BNN,
    x: Any,
    *,
    draws: int | str = 10_000,
    tolerance: float | None = None,
    sampling: str = "independent",
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
        draws: how many draws of the weights; or "auto", as many as `tolerance` needs.
        tolerance: with "auto", the largest Monte Carlo standard error allowed at any row, in units of y, of the means,
            the standard deviations and the quantiles asked for, of f and of y.
        sampling: "independent" draws; or "antithetic" ones, where draw 2i + 1 mirrors draw 2i (its noise has the other
            sign). Mirrored draws estimate means better, and spreads a little worse; the errors given account for it.
        levels: intervals that will be wanted, such as (0.95,). Needed where the draws are too many to keep.
        quantiles: likewise, single quantiles, such as (0.1, 0.9).
        memory: bound on the working memory, in bytes or such as "512MB". Draws are kept, so that any quantile can be
            asked for later, if they fit in a quarter of it.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        InputError: if "auto" would need more than `MOST_DRAWS` draws.
    """
    wanted = [p for level in _check.levels("level", levels) for p in tails(level)]
    wanted += _check.levels("quantile", quantiles)
    _check_draws(draws, tolerance, sampling)

    def with_draws(count: int) -> Predictive:
        plan = _plan(key, model, x, count, sampling, memory)
        return _predict(key, model, plan, tuple(sorted({resolved(p, plan.outputs.dtype) for p in wanted})))

    if draws != "auto":
        return with_draws(draws)  # type: ignore[arg-type]
    return _until(with_draws, float(tolerance), wanted)  # type: ignore[arg-type]


FIRST_DRAWS, MOST_DRAWS = 1_000, 1_024_000
"""Where draws="auto" begins, and where it gives up."""


def _check_draws(draws: int | str, tolerance: float | None, sampling: str) -> None:
    if sampling not in GROUPS:
        _check.fail(_check.InputError, 'sampling to be "independent" or "antithetic"', repr(sampling), "Pass one.")
    if isinstance(draws, str) and draws != "auto":
        _check.fail(_check.InputError, 'draws to be a whole number or "auto"', repr(draws), 'Pass "auto".')
    if (draws == "auto") != (tolerance is not None):
        got = f"draws={draws!r} and tolerance={tolerance!r}"
        _check.fail(_check.InputError, 'a tolerance with draws="auto", and only then', got, "Pass both or neither.")
    if tolerance is not None:
        _check.positive("tolerance", tolerance)
    elif GROUPS[sampling] > 1 and _check.positive_integer("draws", draws) % GROUPS[sampling]:
        _check.fail(_check.InputError, "an even number of antithetic draws", f"{draws}", f"Pass {int(draws) + 1}.")


def _until(with_draws: Callable[[int], Predictive], tolerance: float, wanted: Sequence[float]) -> Predictive:
    """Draw until every Monte Carlo error is within the tolerance: a first guess, then what it says is needed.

    Numbers of draws are 1,000 times a power of two, so that few programs are compiled. More draws hold the fewer.
    """
    draws = FIRST_DRAWS
    while True:
        predictive = with_draws(draws)
        errors = [error for m in (predictive.f, predictive.y) for error in (m.mcse_mean, m.mcse_std)]
        errors += [m.mcse_quantile(p) for m in (predictive.f, predictive.y) for p in wanted]
        worst = max(float(np.max(error)) for error in errors)
        if worst <= tolerance:
            return predictive
        needed = draws * (worst / tolerance) ** 2
        if needed > MOST_DRAWS:
            _check.fail(
                _check.InputError,
                f"a tolerance that {MOST_DRAWS:,} draws can reach",
                f"{tolerance:g}, which needs about {needed:,.0f} (the worst error of {draws:,} draws is {worst:.3g})",
                "Pass a larger tolerance.",
            )
        draws = min(MOST_DRAWS, draws * 2 ** max(1, math.ceil(math.log2(needed / draws))))


def _predict(key: jax.Array, model: BNN, plan: "_Plan", ps: tuple[float, ...]) -> Predictive:
    """Evaluate tile by tile, keep what fits, and join what each tile gave."""
    keep = plan.draws * math.prod(plan.outputs.shape) * plan.outputs.dtype.itemsize <= plan.memory // 4
    finders = [
        partial(function_quantiles, group=plan.group),
        partial(observation_quantiles, model.likelihood, group=plan.group),
    ]
    kept, parts = [], []
    for outputs, rows in _tiles(key, model, plan):
        found = moments(model.likelihood, outputs, group=plan.group)
        parts.append(_first_rows((found, [find(outputs, ps=ps) if ps else [] for find in finders]), rows))
        if keep:
            kept.append((outputs, rows))
    ((f, y), (f_quantiles, y_quantiles)) = _join(parts)

    def later(which: int) -> Any:
        def compute(p: float) -> Estimate:
            return _join([_first_rows(finders[which](outputs, ps=(p,)), rows) for outputs, rows in kept])[0]

        return compute if keep else None

    return Predictive(
        f=_marginal(f, plan.draws, dict(zip(ps, f_quantiles, strict=True)), later(0)),
        y=_marginal(y, plan.draws, dict(zip(ps, y_quantiles, strict=True)), later(1)),
        draws=plan.draws,
    )


def draws(
    key: jax.Array,
    model: BNN,
    x: Any,
    *,
    draws: int = 10_000,
    sampling: str = "independent",
    memory: int | str = "512MB",
) -> jax.Array:
    """Give the raw draws of the function, (draws, rows, ...): what `predict` summarises, number for number.

    `memory` bounds the working memory; the result itself comes on top. For `sampling`, see `predict`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
    """
    _check_draws(_check.positive_integer("draws", draws), None, sampling)
    plan = _plan(key, model, x, draws, sampling, memory)
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
    group: int
    memory: int
    # The sizes that follow are functions of shapes alone where results could hang on them: never of `memory`.
    tile: int  # rows whose draws are held at once
    rows: int  # rows evaluated at once
    share: int  # draws of one worker
    chunk: int  # draws whose noise is drawn at once
    batch: int  # draws evaluated at once
    large: bool  # whether weights outgrow the caches


def _plan(key: jax.Array, model: BNN, x: Any, draws: int, sampling: str, memory: int | str) -> _Plan:
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
    group, workers = GROUPS[sampling], _spread.workers()
    row_bytes = _widest_row(model, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)) * itemsize
    fixed, each = 4 * tile * per_row * itemsize, 4 * weights * itemsize * workers
    if fixed + each > limit:
        _check.fail(
            _check.InputError,
            f"memory of at least {fixed + each:,} bytes for {draws:,} draws of a network of {weights:,} weights",
            f"{limit:,}",
            "Pass more memory or fewer draws.",
        )
    share = math.ceil(draws / workers / group) * group
    chunk = min(share, max(1, NOISE_ELEMENTS // weights), max(1, (limit - fixed) // each))
    chunk = math.ceil(share / math.ceil(share / chunk) / group) * group
    if jax.default_backend() == "cpu":
        rows, batch = _rows_in_cache(tile, row_bytes, weights * itemsize), 1
    else:  # an accelerator wants many draws at once
        rows, batch = tile, max(1, min(chunk, (limit - fixed) // (4 * tile * row_bytes)))
    return _Plan(x, outputs, draws, group, limit, tile, rows, share, chunk, batch, weights > SMALL)


def _widest_row(model: BNN, x: jax.ShapeDtypeStruct) -> int:
    """Count the elements of the largest array that the network makes of one row."""
    jaxpr = jax.make_jaxpr(model.apply)(model.posterior.mean, x)
    return max((math.prod(v.aval.shape) for equation in jaxpr.eqns for v in equation.outvars), default=1)


def _rows_in_cache(tile: int, row_bytes: int, weight_bytes: int) -> int:
    """Choose how many rows of a tile to evaluate at once: as many as keep activations in cache.

    Where the weights of one draw fill the cache by themselves, all rows: reading them once is what matters then.
    """
    if weight_bytes > CACHE_BYTES:
        return tile
    divisors = [rows for rows in ROW_TILES if tile % rows == 0 and rows >= min(tile, 32)]
    return max((rows for rows in divisors if rows * row_bytes <= CACHE_BYTES), default=divisors[0])


def _tiles(key: jax.Array, model: BNN, plan: _Plan) -> Iterator[tuple[jax.Array, int]]:
    """Yield the outputs (draws, tile, ...) of each tile of rows, and how many of its rows are not padding."""
    forward = weight_sampling(model.apply)
    x = np.asarray(plan.x)  # cut and padded by NumPy: JAX would compile a program for every number of rows
    for start in range(0, len(x), plan.tile):
        part = x[start : start + plan.tile]
        rows = part.shape[0]
        if rows < plan.tile:  # pad with a row that is known to be fit for the network
            part = np.concatenate([part, np.repeat(part[-1:], plan.tile - rows, axis=0)])
        how = {"rows": plan.rows, "draws": plan.share, "chunk": plan.chunk, "batch": plan.batch, "group": plan.group}
        firsts = [np.int32(first) for first in range(0, plan.draws, plan.share)]
        pieces = _spread.run(_evaluate, firsts, key, model.posterior, part, forward=forward, large=plan.large, **how)
        yield _join_draws(pieces, draws=plan.draws), rows


@partial(jit, static_argnames=("forward", "rows", "draws", "chunk", "batch", "group"))
def _evaluate(
    first: jax.Array,
    key: jax.Array,
    posterior: MeanField,
    x: jax.Array,
    *,
    forward: Forward,
    rows: int,
    draws: int,
    chunk: int,
    batch: int,
    group: int,
) -> jax.Array:
    """Give draws `first`, `first + 1`, … for one tile, (draws, tile, ...): noise in chunks, then draw by draw."""
    parts = x.reshape(-1, rows, *x.shape[1:])

    def one(noise: Any) -> jax.Array:
        outputs = lax.map(lambda part: forward.evaluate(noise, posterior, part), parts)
        return outputs.reshape(-1, *outputs.shape[2:])

    def some(start: jax.Array) -> jax.Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
            start + group * jnp.arange(chunk // group, dtype=jnp.int32)
        )
        noise = jax.vmap(lambda k: forward.noise(k, posterior, x))(keys)
        if group == 2:
            noise = jax.tree.map(lambda e: jnp.stack([e, -e], axis=1).reshape(chunk, *e.shape[1:]), noise)
        return lax.map(one, noise) if batch == 1 else lax.map(one, noise, batch_size=batch)

    outputs = lax.map(some, first + jnp.arange(0, draws, chunk, dtype=jnp.int32))
    return outputs.reshape(-1, *outputs.shape[2:])[:draws]


@partial(jit, static_argnames=("draws",))
def _join_draws(pieces: list[jax.Array], *, draws: int) -> jax.Array:
    return jnp.concatenate(pieces)[:draws]
