"""How many draws, rows and members are evaluated at the same time."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from bbb import checks
from bbb.core.noise import SMALL
from bbb.core.rows import count_rows, one_row, with_rows
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree, count
from bbb.data import rows_for
from bbb.devices import layout, threads
from bbb.devices import mesh as mesh_module
from bbb.errors import InputError, fail
from bbb.forwards.linearization import Linearized
from bbb.forwards.sampling import WeightSampling, weight_sampling
from bbb.model import BNN
from bbb.moments.conditional import conditional_moments, last_layer
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import independent, noise_like
from bbb.predictive.sobol import MOST_DIMENSIONS, direction_numbers
from bbb.tracing import purity
from bbb.tracing.convolutions import ChannelsLast, convolves
from bbb.tracing.memory import activation_bytes
from bbb.tracing.network import Apply
from bbb.tracing.rows import refuse_mixed_rows

WIDTHS = (8, 64, 320, 1280)
"""How many rows are evaluated, held, or summarised at once: a few sizes, each a multiple of those before, so that few
programs serve any number of rows."""


MAX_ELEMENTS = 2**26
"""Most outputs (draws × rows × outputs a row) evaluated at once, unless eight rows are more."""


HELD_ELEMENTS = 2**23
"""Most outputs (draws × rows × outputs a row) held at once, unless what is evaluated at once is more."""


GROUPS = {"independent": 1, "antithetic": 2, "sobol": 1}
"""How many neighbouring draws are made together, for each way of sampling."""


NETS = 8
"""The least number of Sobol nets that errors are estimated from: they are then known to 27 %."""


CACHE_BYTES = 2**18
"""What the activations of one draw may take, to stay in a core's second-level cache."""


MAX_BYTES = 2**26
"""Most that the widest activation of one draw may take, unless that of eight rows is more."""


NOISE_ELEMENTS = 2**19
"""Random numbers drawn at once: enough to draw in bulk, few enough to stay in cache."""


SUMMARY_ELEMENTS = 2**20
"""Most outputs (draws × rows × outputs a row) summarised at once, unless eight rows are more."""


def check_draws(draws: int | str, tolerance: float | None, sampling: str) -> None:
    """Check the number of draws, the tolerance and the sampling."""
    if not checks.is_word(sampling, GROUPS):
        fail(InputError, f"sampling to be one of {', '.join(GROUPS)}", repr(sampling), "Pass one of them.")
    if isinstance(draws, str) and draws != "auto":
        fail(InputError, 'draws to be a whole number or "auto"', repr(draws), 'Pass "auto".')
    if checks.is_word(draws, ("auto",)) != (tolerance is not None):
        got = f"draws={draws!r} and tolerance={tolerance!r}"
        fail(InputError, 'a tolerance with draws="auto", and only then', got, "Pass both or neither.")
    if tolerance is not None:
        checks.one_number("tolerance", tolerance)
    elif checks.positive_integer("draws", draws) % GROUPS[sampling]:
        fail(InputError, "an even number of antithetic draws", f"{draws}", f"Pass {int(draws) + 1}.")


def check_held(posterior: Posterior, method: str, draws: int | str, sampling: str) -> None:
    """Raise for what asks a posterior that holds its draws for others than those."""
    if not posterior.holds_draws:
        return
    what = f"method={method!r}" if method != "draws" else f"sampling={sampling!r}"
    if draws == "auto":
        what = 'draws="auto"'
    if method != "draws" or sampling != "independent" or draws == "auto":
        expected = f"the draws of a posterior that holds them, {posterior.components:,} points"
        fail(InputError, expected, what, "Leave it out.")


def check_rows(rows: str, method: str, mesh: Any) -> None:
    """Check how rows are evaluated, with a method and a mesh."""
    if not checks.is_word(rows, ("apart", "together")):
        fail(InputError, 'rows to be "apart" or "together"', repr(rows), "Pass one.")
    if rows == "together" and (method != "draws" or mesh is not None):
        got = "a mesh" if mesh is not None else f"method={method!r}"
        do = 'Leave it out, or pass rows="apart".'
        fail(InputError, 'draws, without a mesh, with rows="together"', got, do)


AXES = ("rows", "draws")
"""The axes of a mesh that have a meaning here."""


def placed_over(mesh: Any, partition: Tree) -> Mesh | None:
    """Check the mesh and return it with both axes, or None where there is no mesh."""
    if mesh is not None:
        return mesh_module.of_axes(mesh, AXES, partition)
    if partition is not None:
        fail(InputError, "a mesh with a partition", "none", 'Pass mesh=jax.make_mesh((2,), ("model",)).')
    return None


def placed(model: BNN, mesh: Mesh, partition: Tree) -> BNN:
    """Return a model laid out over a mesh: its parameters as `partition` says, all else on every device."""
    several = model.members if model.posterior.is_mixture else None
    where = layout.layout(partition, model.posterior.params, mesh, AXES, several)
    posterior = layout.spread(mesh, model.posterior, where, P())
    return dataclasses.replace(model, posterior=posterior, likelihood=layout.put(mesh, model.likelihood, P()))


class Plan(NamedTuple):
    """What is evaluated, and how much of it at the same time."""

    x: Tree
    outputs: jax.ShapeDtypeStruct
    draws: int
    group: int  # neighbouring draws that are evaluated together
    dependent: int  # neighbouring draws that depend on each other, for Monte Carlo errors
    directions: np.ndarray | None  # of the Sobol points of a net: (bits, random numbers of a draw)
    tile: int  # rows whose draws are held at once: a multiple of `width` and of `summary`; of a mesh, for each "rows"
    keeps: bool  # whether all draws are kept, for quantiles that were not asked for
    # The sizes that follow are functions of shapes alone where results could hang on them: never of `memory`.
    width: int  # rows evaluated at once
    summary: int  # rows summarised at once
    share: int  # draws of one worker
    chunk: int  # draws whose noise is drawn at once
    batch: int  # draws evaluated at once
    method: str
    network: Callable[[Tree, Posterior, Tree], Tree]
    large: bool  # whether weights outgrow the caches
    mesh: Mesh | None  # of axes "draws" and "rows"

    @property
    def columns(self) -> int:
        """How many tiles are worked on at once."""
        return 1 if self.mesh is None else self.mesh.shape["rows"]


@dataclasses.dataclass(frozen=True)
class _Network:
    """The network that a model predicts with as `(params, posterior, x) -> outputs`, for one posterior of several."""

    forward: WeightSampling | Linearized

    def __call__(self, params: Tree, posterior: Posterior, x: Tree) -> jax.Array:
        return self.forward.at(params, posterior, x)


def plan_of(
    key: jax.Array,
    model: BNN,
    x: Any,
    draws: int,
    sampling: str,
    memory: int | str,
    method: str = "draws",
    over: Mesh | None = None,
    rows: str = "apart",
) -> Plan:
    """Check the arguments, and choose how to cut the work."""
    checks.key(key)
    draws = checks.positive_integer("draws", draws)
    limit = checks.memory(memory)
    x = rows_for(model, "x", x)
    check_held(model.posterior, method, draws, sampling)
    posterior = model.posterior.component(0)
    params = posterior.params
    outputs = purity.output_shape(model.apply, params, x)
    network = network_of(model, posterior, x, method)
    if convolves(model.apply, params, x):
        network = ChannelsLast(network)
    arrays = 2 if method == "last_layer" else 1  # a mean and a variance
    lanes, columns = (1, 1) if over is None else (over.shape["draws"], over.shape["rows"])
    draws, group, dependent = drawn_of(model.posterior, draws, sampling)
    directions = _directions(posterior, dependent // group) if sampling == "sobol" else None
    workers = threads.workers() if over is None else lanes
    per_row = arrays * draws * math.prod(outputs.shape[1:])
    weights, itemsize = count(params), outputs.dtype.itemsize
    width, summary, row_bytes = _widths(model.apply, params, x, per_row, itemsize, rows)
    row_bytes *= 1 + model.linearized  # each array has its derivative with it
    # The tile, and four arrays as large as what is summarised at once; and the weights of a draw, with their making.
    # Of a mesh, a device holds as much of a tile whether it has some of the draws or, later, some of the rows.
    unit = math.lcm(width, summary * lanes)
    fixed = (unit // lanes + 4 * summary) * per_row * itemsize
    at_once = with_rows(x, width)
    active = activation_bytes(network, params, posterior, at_once) * (workers if over is None else 1)
    fixed += active
    each = 4 * weights * itemsize * (workers if over is None else 1)
    if fixed + each > limit:
        _refuse_memory(fixed + each, active, limit, draws, weights)
    if rows == "apart":  # looked for once the memory is known to do: a network may be tried
        do = 'Pass rows="together" to predict or draws, which evaluates all rows at once.'
        refuse_mixed_rows(model.apply, params, x, "rows are evaluated in tiles", do)
    own = math.ceil(count_rows(x) / columns)
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
    return Plan(x, outputs, draws, group, dependent, directions, *sizes, method, network, weights > SMALL, over)


def drawn_of(posterior: Posterior, draws: int, sampling: str = "independent") -> tuple[int, int, int]:
    """Return how many draws are made, how many neighbours together, and how many depend on each other.

    A posterior that holds its draws has no others, each of which is evaluated once. Those of chains depend on their
    neighbours: Monte Carlo errors are those of the means of `BATCHES` batches or a few more, as equal ones as there are
    (batch means: Flegal and Jones 2010, Ann. Statist. 38, 1034); where they cannot be cut into equal ones, as if all
    draws were independent.

    Sobol points come in nets of a power of two, each scrambled by itself: `NETS` of them or up to twice as many for
    each member. Of an ensemble, draws of one net are made of all members in turn.
    """
    members = posterior.components
    if posterior.holds_draws:
        batches = (n for n in range(BATCHES, 2 * BATCHES + 1) if members % n == 0)
        return members, 1, members // next(batches, members)
    group = GROUPS[sampling] * members
    points = 2 ** max(0, (draws // (group * NETS)).bit_length() - 1) if sampling == "sobol" else 1
    dependent = group * points
    return math.ceil(draws / dependent) * dependent, group, dependent


def _directions(posterior: Posterior, points: int) -> np.ndarray:
    """Return the direction numbers of nets of so many points; refuse a posterior that cannot be drawn at such points.

    Raises:
        InputError: for a posterior whose noise is not known to be normal, or is of too many numbers.
    """
    do = 'Pass sampling="independent".'
    if not isinstance(posterior, GaussianPosterior):
        fail(InputError, 'a Gaussian posterior with sampling="sobol"', type(posterior).__name__, do)
    dimensions = count(noise_like(posterior))
    if dimensions > MOST_DIMENSIONS:
        got = f"{dimensions:,}"
        fail(InputError, f'at most {MOST_DIMENSIONS:,} random numbers a draw with sampling="sobol"', got, do)
    return direction_numbers(dimensions, points.bit_length() - 1)


BATCHES = 20
"""The least number of batches that errors of chains are estimated from: they are then known to 16 %."""


def network_of(model: BNN, posterior: Posterior, x: Tree, method: str) -> Any:
    """Return what makes outputs of a draw of the weights: the network, or the moments that its last layer gives it."""
    if method == "moments":  # which draws nothing: a linearised network may have no derivative in forward mode
        return _Network(weight_sampling(model.apply))
    if method == "draws":
        return _Network(model.forward)
    gaussians = independent(posterior, "last_layer")
    return conditional_moments(model.apply, from_shapes(last_layer, model.apply, gaussians, one_row(x)))


def _widths(apply: Apply, params: Any, x: Tree, per_row: int, itemsize: int, rows: str) -> tuple[int, int, int]:
    """Return how many rows to evaluate at once and to summarise at once, and the bytes of a row's widest array."""
    n = count_rows(x)
    if rows == "together":
        return n, n, math.ceil(from_shapes(_widest_row, apply, params, x) * itemsize / n)
    row_bytes = from_shapes(_widest_row, apply, params, one_row(x)) * itemsize
    width = _width(n, per_row, row_bytes)
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
    fail(InputError, f"memory of at least {needed:,} bytes for {what}", f"{limit:,}", do)


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
        if width * per_row <= MAX_ELEMENTS
        and width * row_bytes <= MAX_BYTES
        and (width <= 64 or not on_cpu or width * row_bytes <= CACHE_BYTES)
    ] or [WIDTHS[0]]
    return next((width for width in fitting if width >= rows), fitting[-1])
