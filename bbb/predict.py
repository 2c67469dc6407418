"""The predictive: many draws of the network in one compiled program, and their summary."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtri
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from numpy.typing import ArrayLike

from bbb import _check, _mesh, _spread
from bbb._ability import implements
from bbb._activations import activation_bytes
from bbb._compile import jit
from bbb._estimate import stretch
from bbb._finite import check_finite, check_summary
from bbb._noise import SMALL
from bbb._posterior_protocol import Posterior
from bbb._rows import refuse_meeting
from bbb._shapes import from_shapes
from bbb._tree import Tree, count
from bbb.forward import Apply
from bbb.likelihood import Likelihood, SupportsFunction, SupportsGaussianNoise, check_predicts, check_quantiles
from bbb.model import BNN, check_model, rows_for
from bbb.moments import Exactness, conditional_moments, last_layer, moments
from bbb.posterior import independent
from bbb.summary import ClassMarginal, Estimate, Marginal, Moments, Predictive, lone_column, resolved, summarise, tails

WIDTHS = (8, 64, 320, 1280)
"""How many rows are evaluated, held, or summarised at once: a few sizes, each a multiple of those before, so that few
programs serve any number of rows."""

MOST_ELEMENTS = 2**24
"""Most outputs (draws × rows × outputs a row) evaluated at once, unless eight rows are more."""

HELD_ELEMENTS = 2**23
"""Most outputs (draws × rows × outputs a row) held at once, unless what is evaluated at once is more."""

GROUPS = {"independent": 1, "antithetic": 2}
"""How many neighbouring draws depend on each other, for each way of sampling."""

CACHE_BYTES = 2**18
"""What the activations of one draw may take, to stay in a core's second-level cache."""

MOST_BYTES = 2**26
"""Most that the widest activation of one draw may take, unless that of eight rows is more."""

NOISE_ELEMENTS = 2**19
"""Random numbers drawn at once: enough to draw in bulk, few enough to stay in cache."""

SUMMARY_ELEMENTS = 2**20
"""Most outputs (draws × rows × outputs a row) summarised at once, unless eight rows are more."""


def predict(
    key: jax.Array,
    model: BNN,
    x: ArrayLike,
    *,
    method: str = "draws",
    draws: int | str = 10_000,
    tolerance: float | None = None,
    sampling: str = "independent",
    levels: Sequence[float] = (),
    quantiles: Sequence[float] = (),
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
    partition: Tree = None,
) -> Predictive:
    """Summarise the predictive distribution at each row of x.

    Draw i is `weight_sampling(model.apply)(fold_in(key, i), model.posterior, x)`: the same weights for every row, and
    the same numbers for every setting of `memory`. A row has the same answer alone, among others and in another order,
    up to rounding: other numbers of rows may be other programs. Only the error of a quantile of y may move by a few
    hundredths of itself, where the draws make separate peaks. Of an ensemble of K members, draw i is of member
    i % K, and each has as many: `draws` is rounded up to a multiple of K.

    Args:
        key: one typed JAX key.
        model: the Bayesian network.
        x: (rows, ...), finite; any number of rows.
        method: "draws"; "last_layer", draws of all layers but the last, which is integrated out in closed form, so that
            fewer draws give the same error; or "moments", no draws at all: see `bbb.moments` for what is exact. Both
            closed forms need a Gaussian likelihood. The quantiles of "moments" are those of a Gaussian of that mean
            and std.
        draws: how many draws of the weights; or "auto", as many as `tolerance` needs.
        tolerance: with "auto", the largest Monte Carlo standard error allowed at any row, in units of y, of the means,
            the standard deviations and the quantiles asked for, of f and of y.
        sampling: "independent" draws; or "antithetic" ones, where draw 2i + 1 mirrors draw 2i (its noise has the other
            sign). Mirrored draws estimate means better, and spreads a little worse; the errors given account for it.
            Of an ensemble of K, the second K draws of each 2K mirror the first.
        levels: intervals that will be wanted, such as (0.95,). Needed where the draws are too many to keep.
        quantiles: likewise, single quantiles, such as (0.1, 0.9).
        rows: "apart", where the network answers each row by itself, which lets rows be cut into tiles; or "together",
            for one whose rows meet, such as by a mean over rows: all rows at once, without padding, by draws and
            without a mesh.
        memory: bound on the working memory, in bytes or such as "512MB": of draws, weights and the network's own
            arrays, which are counted before anything is computed. Draws are kept, so that any quantile can be asked
            for later, if they fit in a quarter of it. With a mesh, each device may take as much.
        mesh: devices to spread the draws over, along an axis "draws", and the rows, along an axis "rows"; either may be
            absent. Without one, all devices of this process share the draws. Draws and quantiles are the same numbers
            on any mesh. One of several hosts is called alike in all their processes, and so is a quantile that is asked
            for later; each gets all of the answer.
        partition: for parameters too large for one device, a tree of `jax.sharding.PartitionSpec`s that is a prefix of
            the parameters; its names are further axes of the mesh. Sums are then cut, and results the same to rounding.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        InputError, ShapeError: for a mesh of other axes, or a partition that does not fit.
        InputError: if "auto" would need more than `MOST_DRAWS` draws.
        NonFiniteOutputError: if an answer is NaN or infinite in the dtype of the outputs; it names the first row.
        HostError: if another process of several is lost, as far as JAX reports that.
        UnknownPrimitiveError: if a closed form does not know an operation of the network.
    """
    check_model(model)
    traceable = "bbb.weight_sampling(model.apply) or bbb.moments(model.apply)"
    _check.outside("predict", traceable, key=key, model=model, x=x, tolerance=tolerance)
    wanted = [p for level in _check.levels("level", levels) for p in tails(level)]
    wanted += _check.levels("quantile", quantiles)
    check_predicts(model.likelihood, "predict", bool(wanted))
    _check_method(method, model.likelihood)
    _check_draws(draws, tolerance, sampling)
    _check_rows(rows, method, mesh)
    if method == "moments":
        if draws == "auto":
            _check.fail(_check.InputError, "no tolerance with a closed form", f"{tolerance:g}", "Leave both out.")
        if mesh is not None or partition is not None:
            _check.fail(_check.InputError, "no mesh with a closed form", "one", 'Leave it out, or pass method="draws".')
        return _closed_form(model, _plan(key, model, x, 1, sampling, memory))
    over = _over(mesh, partition)
    laid = model if over is None else _placed(model, over, partition)

    def with_draws(count: int) -> Predictive:
        plan = _plan(key, model, x, count, sampling, memory, method, over, rows)
        with _mesh.joined(over):
            return _predict(key, laid, plan, tuple(sorted({resolved(p, plan.outputs.dtype) for p in wanted})))

    if draws != "auto":
        return with_draws(draws)  # type: ignore[arg-type]
    return _until(with_draws, float(tolerance), wanted)  # type: ignore[arg-type]


FIRST_DRAWS, MOST_DRAWS = 1_000, 1_024_000
"""Where draws="auto" begins, and where it gives up."""

LEAST_BEYOND, MOST_FIRST_DRAWS = 5, 64_000
"""How many draws its first guess has beyond each quantile that is wanted, unless they were more than so many in all."""

METHODS = ("draws", "last_layer", "moments")


def _check_method(method: str, likelihood: Likelihood) -> None:
    if not _check.is_word(method, METHODS):
        _check.fail(_check.InputError, f"method to be one of {', '.join(METHODS)}", repr(method), "Pass one of them.")
    if method != "draws" and not implements(likelihood, SupportsGaussianNoise):
        got, do = f"{type(likelihood).__name__} with method={method!r}", 'Pass method="draws".'
        _check.fail(_check.InputError, "a likelihood that adds Gaussian noise to the outputs", got, do)


def _check_draws(draws: int | str, tolerance: float | None, sampling: str) -> None:
    if not _check.is_word(sampling, GROUPS):
        _check.fail(_check.InputError, 'sampling to be "independent" or "antithetic"', repr(sampling), "Pass one.")
    if isinstance(draws, str) and draws != "auto":
        _check.fail(_check.InputError, 'draws to be a whole number or "auto"', repr(draws), 'Pass "auto".')
    if _check.is_word(draws, ("auto",)) != (tolerance is not None):
        got = f"draws={draws!r} and tolerance={tolerance!r}"
        _check.fail(_check.InputError, 'a tolerance with draws="auto", and only then', got, "Pass both or neither.")
    if tolerance is not None:
        _check.one_number("tolerance", tolerance)
    elif _check.positive_integer("draws", draws) % GROUPS[sampling]:
        _check.fail(_check.InputError, "an even number of antithetic draws", f"{draws}", f"Pass {int(draws) + 1}.")


def _check_rows(rows: str, method: str, mesh: Any) -> None:
    if not _check.is_word(rows, ("apart", "together")):
        _check.fail(_check.InputError, 'rows to be "apart" or "together"', repr(rows), "Pass one.")
    if rows == "together" and (method != "draws" or mesh is not None):
        got = "a mesh" if mesh is not None else f"method={method!r}"
        do = 'Leave it out, or pass rows="apart".'
        _check.fail(_check.InputError, 'draws, without a mesh, with rows="together"', got, do)


def _until(with_draws: Callable[[int], Predictive], tolerance: float, wanted: Sequence[float]) -> Predictive:
    """Draw until every Monte Carlo error is within the tolerance: a first guess, then what it says is needed.

    Numbers of draws are 1,000 times a power of two, so that few programs are compiled. More draws hold the fewer.
    The error of a quantile is itself an estimate: it counts with twice its own noise on top, and the first guess has a
    few draws beyond each quantile, so that no error that happens to be small ends the search.
    """
    farthest = min((min(p, 1 - p) for p in wanted), default=0.5)
    draws = FIRST_DRAWS
    while draws * farthest < LEAST_BEYOND and draws < MOST_FIRST_DRAWS:
        draws *= 2
    while True:
        predictive = with_draws(draws)
        noise = [0.0, 0.0, *(stretch(p, predictive.draws).noise for p in wanted)]
        errors = [
            (float(np.max(error)), share)
            for marginal in (predictive.f, predictive.y)
            for error, share in zip(marginal.mcse(wanted), noise, strict=False)  # classes have one error alone
        ]
        worst = max(error for error, _ in errors)
        surely = max(error * (1 + 2 * share) for error, share in errors)
        if surely <= tolerance or (draws == MOST_DRAWS and worst <= tolerance):
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


AXES = ("rows", "draws")
"""The axes of a mesh that have a meaning here."""


def _over(mesh: Any, partition: Tree) -> Mesh | None:
    """Check the mesh and return it with both axes, or None where there is no mesh."""
    if mesh is not None:
        return _mesh.of_axes(mesh, AXES, partition)
    if partition is not None:
        _check.fail(_check.InputError, "a mesh with a partition", "none", 'Pass mesh=jax.make_mesh((2,), ("model",)).')
    return None


def _placed(model: BNN, mesh: Mesh, partition: Tree) -> BNN:
    """Return a model laid out over a mesh: its parameters as `partition` says, all else on every device."""
    several = model.members if model.posterior.is_mixture else None
    where = _mesh.layout(partition, model.posterior.params, mesh, AXES, several)
    posterior = _mesh.spread(mesh, model.posterior, where, P())
    return dataclasses.replace(model, posterior=posterior, likelihood=_mesh.put(mesh, model.likelihood, P()))


def _closed_form(model: BNN, plan: "_Plan") -> Predictive:
    """Return the moments of tiles of rows, padded to a few sizes; quantiles are a Gaussian's."""
    if model.members > 1:
        return _mixed([_closed_form(model.member(k), plan) for k in range(model.members)])
    form, likelihood = moments(model.apply), cast(SupportsGaussianNoise, model.likelihood)
    exactness = from_shapes(_exactness, model.apply, model.posterior, _one_row(plan.x))
    parts = []
    for part, rows in _padded_tiles(plan):
        f = form.unchecked(model.posterior, part)
        parts.append([np.asarray(leaf)[:rows] for pair in (f, likelihood.observed(*f)) for leaf in pair])
    found = [np.concatenate(leaves) for leaves in zip(*parts, strict=True)]
    for what, values in zip(("mean of f", "variance of f", "mean of y", "variance of y"), found, strict=True):
        check_finite(model, f"the {what}", values)
    f_mean, f_variance, y_mean, y_variance = found
    return Predictive(
        f=_gaussian(f_mean, np.sqrt(f_variance)),
        y=_gaussian(y_mean, np.sqrt(y_variance)),
        draws=0,
        method="moments",
        assumptions=tuple(str(assumption) for assumption in exactness.assumptions),
        x=lone_column(plan.x),
    )


def _mixed(members: list[Predictive]) -> Predictive:
    """Return the moments of a mixture of closed forms in equal parts."""

    def moments_of(parts: list[Marginal]) -> Marginal:
        means = np.stack([part.mean for part in parts])
        variance = np.mean([np.square(part.std) for part in parts], axis=0) + np.var(means, axis=0)
        return _gaussian(np.mean(means, axis=0), np.sqrt(variance))

    f, y = (moments_of([getattr(member, name) for member in members]) for name in ("f", "y"))
    return dataclasses.replace(members[0], f=f, y=y)


def _exactness(apply: Apply, posterior: Posterior, x: Tree) -> Exactness:
    return moments(apply).exactness(posterior, x)


def _one_row(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)


def _gaussian(mean: np.ndarray, std: np.ndarray) -> Marginal:
    def quantile(p: float) -> Estimate:
        return mean + std * np.asarray(ndtri(p), std.dtype), np.zeros_like(std)

    nothing = np.zeros_like(std)
    no_error = Moments(mean, std**2, nothing, nothing, nothing)
    return Marginal(mean=mean, std=std, draws=0, moments=no_error, _table={}, _later=quantile)


def _predict(key: jax.Array, model: BNN, plan: "_Plan", ps: tuple[float, ...]) -> Predictive:
    """Evaluate tile by tile, keep what fits, and join what each tile gave."""
    kept, parts = [], []
    for pieces, rows in _tiles(key, model, plan):
        parts.append(_summaries(model, plan, pieces, rows, moments_too=True, f_ps=ps, y_ps=ps))
        if plan.keeps:
            kept.append((pieces, rows))
        del pieces  # before the next tile is evaluated, not after
    found = _join(parts)
    check_summary(model, found)

    def later(which: str) -> Any:
        def compute(p: float) -> Estimate:
            if which == "y":
                check_quantiles(model.likelihood, "a quantile of y")
            asked = {f"{which}_ps": (p,)}
            again = _join([_summaries(model, plan, pieces, rows, **asked) for pieces, rows in kept])
            found = getattr(again, f"{which}_quantiles")[0]
            check_finite(model, f"the quantiles of {which}", found[0])
            return found

        return compute if plan.keeps else None

    f = _marginal(found.f, plan.draws, dict(zip(ps, found.f_quantiles, strict=True)), later("f"))
    if isinstance(found.y, Moments):
        y: Any = _marginal(found.y, plan.draws, dict(zip(ps, found.y_quantiles, strict=True)), later("y"))
    else:
        y = ClassMarginal(**found.y._asdict(), draws=plan.draws)
    return Predictive(f, y, plan.draws, plan.method, x=lone_column(plan.x))


def _summaries(model: BNN, plan: "_Plan", pieces: Tree, rows: int, **what: Any) -> Tree:
    """Summarise a tile, some rows at a time; leaves (rows, ...)."""
    how = {"draws": plan.draws, "group": plan.group, "rows": plan.summary, **what}
    if plan.mesh is not None:
        return jax.tree.map(lambda leaf: leaf[:rows], _summaries_over(plan.mesh, plan, model, pieces, how))
    firsts = [np.int32(first) for first in range(0, rows, plan.summary)]
    found = _spread.over_threads(_summarise, firsts, model.likelihood, pieces, **how)
    return jax.tree.map(lambda leaf: leaf[:rows], _join(found))


def _summaries_over(mesh: Mesh, plan: "_Plan", model: BNN, pieces: Tree, how: dict[str, Any]) -> Tree:
    """Summarise a tile that is spread over a mesh by rows: each device its own, some at a time; leaves (tile, ...)."""
    firsts = [np.int32(first) for first in range(0, plan.tile // mesh.shape["draws"], plan.summary)]
    found = [_summarise_over(first, model.likelihood, pieces, mesh=mesh, **how) for first in firsts]
    devices = mesh.shape["rows"] * mesh.shape["draws"]

    def in_order(*blocks: np.ndarray) -> np.ndarray:  # a block has some rows of each device
        stacked = np.stack([block.reshape(devices, plan.summary, *block.shape[1:]) for block in blocks], axis=1)
        return stacked.reshape(-1, *stacked.shape[3:])

    return jax.tree.map(in_order, *_mesh.fetched(found, mesh))


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


def draws(
    key: jax.Array,
    model: BNN,
    x: ArrayLike,
    *,
    draws: int = 10_000,
    sampling: str = "independent",
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
    partition: Tree = None,
) -> jax.Array:
    """Return the raw draws of the function, (draws, rows, ...): what `predict` summarises, number for number.

    `memory` bounds the working memory; the result itself comes on top, on the first device. For `sampling`, `rows`,
    `mesh` and `partition`, see `predict`; also for the draws of an ensemble, whose number is rounded up to a multiple
    of the members'.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a draw is NaN or infinite; it names the first row.
    """
    _check.outside("draws", "jax.vmap(bbb.weight_sampling(model.apply), ...) over keys", key=key, model=model, x=x)
    _check_draws(_check.positive_integer("draws", draws), None, sampling)
    _check_rows(rows, "draws", mesh)
    over = _over(mesh, partition)
    plan = _plan(key, model, x, draws, sampling, memory, over=over, rows=rows)
    if over is not None:
        model = _placed(model, over, partition)
        with _mesh.joined(over):
            parts = [_mesh.fetched(piece, over)[: plan.draws, :rows] for piece, rows in _tiles(key, model, plan)]
        found = jax.device_put(np.concatenate(parts, axis=1))
    else:
        joined = [_joined(pieces, plan.draws)[:, :rows] for pieces, rows in _tiles(key, model, plan)]
        found = jnp.concatenate(joined, axis=1)
    if not _is_finite(found):  # one number comes back; which row it is, is looked up only then
        check_finite(model, "the network's outputs", np.moveaxis(np.asarray(found), 1, 0))
    return found


@jit
def _is_finite(values: jax.Array) -> jax.Array:
    return jnp.isfinite(values).all()


def _joined(pieces: list[jax.Array], draws: int) -> jax.Array:
    return jnp.concatenate(pieces)[:draws]


def _marginal(m: Moments, draws: int, table: dict[float, Estimate], later: Any) -> Marginal:
    return Marginal(mean=m.mean, std=np.sqrt(m.variance), draws=draws, moments=m, _table=table, _later=later)


def _join(parts: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)


class _Plan(NamedTuple):
    x: jax.Array
    outputs: jax.ShapeDtypeStruct
    draws: int
    group: int
    tile: int  # rows whose draws are held at once: a multiple of `width` and of `summary`; of a mesh, for each "rows"
    keeps: bool  # whether all draws are kept, for quantiles that were not asked for
    # The sizes that follow are functions of shapes alone where results could hang on them: never of `memory`.
    width: int  # rows evaluated at once
    summary: int  # rows summarised at once
    share: int  # draws of one worker
    chunk: int  # draws whose noise is drawn at once
    batch: int  # draws evaluated at once
    method: str
    network: "_Network"
    large: bool  # whether weights outgrow the caches
    mesh: Mesh | None  # of axes "draws" and "rows"

    @property
    def columns(self) -> int:
        """How many tiles are worked on at once."""
        return 1 if self.mesh is None else self.mesh.shape["rows"]


@dataclasses.dataclass(frozen=True)
class _Network:
    """A network as `(params, posterior, x) -> outputs`, which takes no notice of the posterior."""

    apply: Apply

    def __call__(self, params: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        del posterior
        return self.apply(params, x)


def _plan(
    key: jax.Array,
    model: BNN,
    x: ArrayLike,
    draws: int,
    sampling: str,
    memory: int | str,
    method: str = "draws",
    over: Mesh | None = None,
    rows: str = "apart",
) -> _Plan:
    """Check the arguments, and choose how to cut the work."""
    _check.key(key)
    draws = _check.positive_integer("draws", draws)
    limit = _check.memory(memory)
    x = rows_for(model, "x", x)
    posterior = model.posterior.component(0)
    params = posterior.params
    outputs = _check.output_shape(model.apply, params, x)
    network = _network(model.apply, posterior, x, method)
    arrays = 1 if method == "draws" else 2  # a mean and a variance
    lanes, columns = (1, 1) if over is None else (over.shape["draws"], over.shape["rows"])
    group, workers = GROUPS[sampling] * model.members, _spread.workers() if over is None else lanes
    draws = math.ceil(draws / group) * group
    per_row = arrays * draws * math.prod(outputs.shape[1:])
    weights, itemsize = count(params), outputs.dtype.itemsize
    width, summary, row_bytes = _widths(model.apply, params, x, per_row, itemsize, rows)
    # The tile, and four arrays as large as what is summarised at once; and the weights of a draw, with their making.
    # Of a mesh, a device holds as much of a tile whether it has some of the draws or, later, some of the rows.
    unit = math.lcm(width, summary * lanes)
    fixed = (unit // lanes + 4 * summary) * per_row * itemsize
    at_once = jax.ShapeDtypeStruct((width, *x.shape[1:]), x.dtype)
    active = activation_bytes(network, params, posterior, at_once) * (workers if over is None else 1)
    fixed += active
    each = 4 * weights * itemsize * (workers if over is None else 1)
    if fixed + each > limit:
        _refuse_memory(fixed + each, active, limit, draws, weights)
    if rows == "apart":  # looked for once the memory is known to do: a network may be tried
        do = 'Pass rows="together" to predict or draws, which evaluates all rows at once.'
        refuse_meeting(model.apply, params, x, "rows are evaluated in tiles", do)
    own = math.ceil(x.shape[0] / columns)
    held = width if rows == "together" else _held(own, width, columns)
    affordable = min((limit - fixed) // (4 * itemsize), HELD_ELEMENTS) // (unit // lanes * per_row)
    # of rows that belong together, the unit is all of them
    tile = unit * max(1, min(math.ceil(held / unit), affordable))
    keeps = math.ceil(own / tile) * tile // lanes * per_row * itemsize <= limit // 4
    share = math.ceil(draws / workers / group) * group
    chunk = min(share, max(1, NOISE_ELEMENTS // weights), max(1, (limit - fixed) // each))
    chunk = math.ceil(share / math.ceil(share / chunk) / group) * group
    # An accelerator wants many draws at once; a core, what stays in its cache.
    batch = 1 if jax.default_backend() == "cpu" else max(1, min(chunk, (limit - fixed) // (4 * width * row_bytes)))
    sizes = tile, keeps, width, summary, share, chunk, batch
    return _Plan(x, outputs, draws, group, *sizes, method, network, weights > SMALL, over)


def _network(apply: Apply, posterior: Posterior, x: jax.Array, method: str) -> Any:
    """Return what makes outputs of a draw of the weights: the network, or the moments that its last layer gives it."""
    if method != "last_layer":
        return _Network(apply)
    gaussians = independent(posterior, "last_layer")
    return conditional_moments(apply, from_shapes(last_layer, apply, gaussians, _one_row(x)))


def _widths(apply: Apply, params: Any, x: jax.Array, per_row: int, itemsize: int, rows: str) -> tuple[int, int, int]:
    """Return how many rows to evaluate at once and to summarise at once, and the bytes of a row's widest array."""
    if rows == "together":
        row_bytes = math.ceil(from_shapes(_widest_row, apply, params, x) * itemsize / x.shape[0])
        return x.shape[0], x.shape[0], row_bytes
    row_bytes = from_shapes(_widest_row, apply, params, _one_row(x)) * itemsize
    width = _width(x.shape[0], per_row, row_bytes)
    most = max(SUMMARY_ELEMENTS, 8 * per_row)
    return width, max(size for size in WIDTHS if size <= width and size * per_row <= most), row_bytes


def _held(own: int, width: int, columns: int) -> int:
    """Return how many rows to hold the draws of at once; no column of a mesh takes the rows of another."""
    held = next((size for size in WIDTHS if size >= max(own, width)), WIDTHS[-1])
    return min(held, own) if columns > 1 else held


def _refuse_memory(needed: int, active: int, limit: int, draws: int, weights: int) -> NoReturn:
    """Raise for too small a limit, naming what needs more of it: the draws or the activations."""
    what = f"{draws:,} draws of a network of {weights:,} weights"
    do = "Pass more memory or fewer draws."
    if 2 * active > needed:
        what = f"{what}, whose activations take {active:,}"
        do = "Pass more memory, or a network of smaller arrays: look at its padding and its widest layer."
    _check.fail(_check.InputError, f"memory of at least {needed:,} bytes for {what}", f"{limit:,}", do)


def _widest_row(apply: Apply, params: Tree, x: Tree) -> int:
    """Count the elements of the largest array that the network makes of one row."""
    jaxpr = jax.make_jaxpr(apply)(params, x)
    made: Iterator[Any] = (place.aval for equation in jaxpr.eqns for place in equation.outvars)
    return max((math.prod(array.shape) for array in made), default=1)


def _width(rows: int, per_row: int, row_bytes: int) -> int:
    """Return how many rows to evaluate at once: on a CPU, as many as keep activations in cache.

    Weights that outgrow the cache are read once for each so many rows, which is often enough: with 64 rows a core
    multiplies faster than with 1,000, and fewer of them are padding.
    """
    on_cpu = jax.default_backend() == "cpu"
    fitting = [
        width
        for width in WIDTHS
        if width * per_row <= MOST_ELEMENTS
        and width * row_bytes <= MOST_BYTES
        and (width <= 64 or not on_cpu or width * row_bytes <= CACHE_BYTES)
    ] or [WIDTHS[0]]
    return next((width for width in fitting if width >= rows), fitting[-1])


def _padded_tiles(plan: _Plan) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the rows of x in tiles, the last padded to full size, and how many rows of each are not padding.

    Of a mesh, the tiles of all its columns come as one.
    """
    x = np.asarray(plan.x)  # cut and padded by NumPy: JAX would compile a program for every number of rows
    size = plan.tile * plan.columns
    for start in range(0, len(x), size):
        part = x[start : start + size]
        rows = part.shape[0]
        if rows < size:  # pad with a row that is known to be fit for the network
            part = np.concatenate([part, np.repeat(part[-1:], size - rows, axis=0)])
        yield part, rows


def _tiles(key: jax.Array, model: BNN, plan: _Plan) -> Iterator[tuple[list[Tree], int]]:
    """Yield the outputs of each tile of rows, and how many rows are not padding.

    They come in pieces (share, tile, ...); of a mesh, as one array (draws and padding, tiles, ...), spread by rows.
    """
    how: dict[str, Any] = {"width": plan.width, "draws": plan.share, "chunk": plan.chunk, "batch": plan.batch}
    how |= {"group": plan.group, "network": plan.network, "large": plan.large}
    if plan.mesh is not None:
        yield from _tiles_over(plan.mesh, key, model, plan, how)
        return
    firsts = [np.int32(first) for first in range(0, plan.draws, plan.share)]
    for part, rows in _padded_tiles(plan):
        args = (key, model.posterior, part, np.int32(math.ceil(rows / plan.width)))
        yield _spread.run(_evaluate, firsts, *args, **how), rows


def _tiles_over(
    mesh: Mesh, key: jax.Array, model: BNN, plan: _Plan, how: dict[str, Any]
) -> Iterator[tuple[list[Tree], int]]:
    """Evaluate each device's draws of its column's rows; then give each device all draws of some of those rows."""
    firsts = _mesh.put(mesh, plan.share * np.arange(mesh.shape["draws"], dtype=np.int32), P("draws"))
    key = _mesh.put(mesh, key, P())
    starts = plan.tile * np.arange(plan.columns)
    for part, rows in _padded_tiles(plan):
        filled = np.ceil(np.clip(rows - starts, 0, plan.tile) / plan.width).astype(np.int32)
        own = _mesh.put(mesh, (part, filled), P("rows"))
        drawn = _evaluate_over(firsts, key, model.posterior, *own, mesh=mesh, **how)
        yield _mesh.laid_out(drawn, mesh, P(None, AXES)), rows


@partial(jit, static_argnames=("mesh", "network", "width", "draws", "chunk", "batch", "group"))
def _evaluate_over(
    firsts: jax.Array, key: jax.Array, posterior: Any, x: jax.Array, filled: jax.Array, *, mesh: Mesh, **how: Any
) -> Tree:
    """Evaluate on every device of a mesh: (draws, rows, ...), cut along both."""

    def own(first: jax.Array, key: jax.Array, posterior: Any, x: jax.Array, filled: jax.Array) -> Tree:
        return _evaluate(first[0], key, posterior, x, filled[0], **how)

    specs = (P("draws"), P(), P(), P("rows"), P("rows"))
    over = jax.shard_map(
        own, mesh=mesh, in_specs=specs, out_specs=P("draws", "rows"), axis_names=set(AXES), check_vma=False
    )
    return over(firsts, key, posterior, x, filled)


@partial(jit, static_argnames=("network", "width", "draws", "chunk", "batch", "group"))
def _evaluate(
    first: jax.Array,
    key: jax.Array,
    posterior: Posterior,
    x: jax.Array,
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
    parts = x.reshape(-1, width, *x.shape[1:])
    like, members = posterior.component(0), posterior.components
    shapes = jax.eval_shape(network, like.params, like, parts[0])

    def one(drawn: tuple[Tree, jax.Array | None]) -> Tree:
        noise, k = drawn
        member = posterior.component(0 if k is None else k)
        params = member.weights(noise)
        if len(parts) == 1:
            return network(params, member, parts[0])

        def part(i: jax.Array, done: Tree) -> Tree:
            return jax.tree.map(lambda all_, new: all_.at[i].set(new), done, network(params, member, parts[i]))

        empty = jax.tree.map(lambda leaf: jnp.zeros((len(parts), *leaf.shape), leaf.dtype), shapes)
        done = lax.fori_loop(0, filled, part, empty)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), done)

    def some(start: jax.Array) -> jax.Array:
        firsts = start + group * jnp.arange(chunk // group, dtype=jnp.int32)
        index = (firsts[:, None] + jnp.arange(members, dtype=jnp.int32)[None]).reshape(-1)
        noise = jax.vmap(lambda i: like.noise(jax.random.fold_in(key, i)))(index)
        if group == 2 * members:
            noise = jax.tree.map(lambda e: _mirrored(e, members), noise)
        drawn = noise, jnp.arange(chunk, dtype=jnp.int32) % members if members > 1 else None
        return lax.map(one, drawn) if batch == 1 else lax.map(one, drawn, batch_size=batch)

    drawn = lax.map(some, first + jnp.arange(0, draws, chunk, dtype=jnp.int32))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:draws], drawn)


def _mirrored(noise: jax.Array, members: int) -> jax.Array:
    """Follow every draw of each member by one of the other sign: (draws, ...) becomes (2 · draws, ...)."""
    blocks = noise.reshape(-1, 1, members, *noise.shape[1:])
    return jnp.concatenate([blocks, -blocks], axis=1).reshape(-1, *noise.shape[1:])
