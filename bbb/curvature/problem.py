"""What a Laplace approximation starts from: a model at its means, rows in tiles, and how many of them at once."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.ability import implements
from bbb.core.noise import at_least_float32
from bbb.core.rows import count_rows, is_shared, one_row
from bbb.core.shapes import from_shapes
from bbb.core.tiles import rounded_up
from bbb.core.tree import Tree, count, from_vector, is_none, map_present, names, to_vector, widest_dtype
from bbb.data import data_for, weights_for
from bbb.errors import InputError, ShapeError, fail
from bbb.likelihoods.protocol import allows_missing, check_fisher
from bbb.model import BNN, check_model
from bbb.moments.conditional import last_layer
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.verbs import marginals
from bbb.priors.protocol import SupportsFitting, check_curvature
from bbb.tracing import purity
from bbb.tracing.memory import activation_bytes
from bbb.tracing.network import Apply
from bbb.tracing.products import Site, sites
from bbb.tracing.rows import refuse_mixed_rows

MAX_ROWS = 4096
"""Most rows of the square root of the Gauss-Newton that are computed at once, unless there are more weights."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """A model at the means of its posterior, and its data in tiles of one size; a pytree, of which `apply` is static.

    Attributes:
        apply: the network.
        params: the means, with every leaf.
        random: the leaves of them that are random, None in the place of the rest: d weights.
        prior: with `curvature` and `log_prob`.
        likelihood: with `fisher_root`.
        x: (tiles, size, ...), filled up with copies of the last row to one of a few sizes, so that folds which differ
            by a row share their programs.
        y: likewise.
        real: (tiles, size), how often a row counts: once, or as its weight says; 0 for a copy.
    """

    apply: Apply = dataclasses.field(metadata={"static": True})
    params: Tree
    random: Tree
    prior: Any
    likelihood: Any
    x: Tree
    y: jax.Array
    real: jax.Array

    @property
    def spread(self) -> jax.Array:
        """√ of how often rows count, (tiles, size): what those of the Gauss-Newton's square root are multiplied by."""
        return jnp.sqrt(self.real)

    @property
    def weights(self) -> int:
        """The number of random weights, d."""
        return count(self.random)

    @property
    def log_scale(self) -> jax.Array:
        """The logarithm of the standard deviations that the prior alone would give the weights, (d,)."""
        return -0.5 * jnp.log(to_vector(self.prior.curvature(self.random), self.real.dtype))

    @property
    def wide(self) -> Tree:
        """The same, as a tree like `random`."""
        return from_vector(self.log_scale, self.random)

    def network(self, random: Tree, x: jax.Array) -> jax.Array:
        """Return the outputs at x of these random leaves and the other leaves of the means."""
        return self.apply(filled(random, self.params), x)


def filled(random: Tree, params: Tree) -> Tree:
    """Return the leaves that are random, and those of `params` where these are None."""
    return jax.tree.map(lambda leaf, rest: rest if leaf is None else leaf, random, params, is_leaf=is_none)


class Form(NamedTuple):
    """What of a problem a program is compiled for, besides the shapes of its arrays.

    Attributes:
        in_rows: whether the Gauss-Newton is smaller as a matrix of rows, (r, r), than of weights, (d, d).
        outputs: of a row of data, k.
        sites: where each random leaf meets a row, if the structure asks for it.
    """

    in_rows: bool
    outputs: int = 1
    sites: tuple[Site, ...] = ()


class Size(NamedTuple):
    """How large a problem is.

    Attributes:
        weights: the random ones, d.
        rows: of the data times the outputs of each, r: rows of the square root of the Gauss-Newton.
        itemsize: bytes of a number.
        outputs: of a row of data, k.
        sites: where each random leaf meets a row, if the structure asks for it.
    """

    weights: int
    rows: int
    itemsize: int
    outputs: int = 1
    sites: tuple[Site, ...] = ()

    @property
    def form(self) -> Form:
        """What programs are compiled for: it is the same for many numbers of rows."""
        return Form(self.rows < self.weights, self.outputs, self.sites)

    @property
    def filled_rows(self) -> int:
        """Rows with those of the copies that fill up a tile of all data."""
        return self.outputs * rounded_up(-(-self.rows // self.outputs))


class Needs(NamedTuple):
    """How much memory a structure needs.

    Attributes:
        structure: its word.
        held: how many numbers it holds for a problem of a size, besides those of the rows that are computed at once.
        of_row: how many numbers it takes for each row of data that is evaluated, beside the network's arrays; None if
            it computes products of the Jacobian with vectors alone, and no gradients of each output.
        most: how many rows of the root of the Gauss-Newton are computed at once, for a problem of a size.
        sites: whether it asks where leaves meet a row.
    """

    structure: str
    held: Callable[[Size], int]
    of_row: Callable[[Size], int] | None
    most: Callable[[Size], int] = lambda _: MAX_ROWS
    sites: bool = False


def problem_of(
    verb: str,
    model: BNN,
    x: Any,
    y: ArrayLike,
    needs: Needs,
    batch_size: int | None,
    memory: int | str,
    sample_weight: ArrayLike | None = None,
) -> tuple[Problem, Size]:
    """Check the arguments of a verb, and cut the data into tiles.

    Raises:
        InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, or too little memory.
    """
    check_model(model)
    x, y = data_for(model, x, y)  # first: it refuses ensembles, whose likelihoods of members have other abilities
    _refuse_shared(verb, x)
    weights = weights_for(model, sample_weight, count_rows(y))
    likelihood: Any = check_fisher(model.likelihood, verb)
    if allows_missing(likelihood):  # rows without any target are as none
        counts = likelihood.observed_rows(y)
        weights = counts if weights is None else weights * counts.astype(weights.dtype)
    prior = prior_of(model, verb)
    limit = checks.memory(memory)
    if batch_size is not None:
        checks.positive_integer("batch_size", batch_size)
    params = model.posterior.params
    random = random_of(model, x, needs.structure)
    outputs = purity.output_shape(model.apply, params, x)
    _check_root(model.apply, likelihood, outputs)
    dtype = at_least_float32(widest_dtype(random))
    a_row = math.prod(outputs.shape[1:])
    where = sites_of(model.apply, params, random, x) if needs.sites else ()
    size = Size(count(random), count_rows(x) * a_row, jnp.dtype(dtype).itemsize, a_row, where)
    rows = _rows_at_once(model, x, size, needs, batch_size, limit)
    do = "Leave out what mixes rows: the curvature is a sum over rows, each by itself."
    refuse_mixed_rows(model.apply, params, x, f"{verb}, which sums over rows", do)
    tiles = _tiled(x, y, weights, rows=rows, dtype=dtype)
    return Problem(model.apply, params, random, prior, likelihood, *tiles), size


def _refuse_shared(verb: str, x: Tree) -> None:
    """Raise for data that all rows share, which no tile of rows has."""
    if any(is_shared(leaf) for leaf in jax.tree.leaves(x, is_leaf=is_shared)):
        do = "Close over it in apply, or train with another posterior."
        fail(InputError, f"x of rows alone, for {verb}", "a tree with bbb.networks.Shared", do)


def prior_of(model: BNN, verb: str) -> Any:
    """Return the prior of a model, with the scales that are best for its posterior if they follow from that.

    Raises:
        InputError: if its log density has no curvature.
    """
    prior: Any = model.prior
    if implements(prior, SupportsFitting):
        prior = prior.fitted(marginals(model.posterior.component(0), verb))
    return check_curvature(prior, verb)


def random_of(model: BNN, x: Tree, structure: str) -> Tree:
    """Return the leaves of a model's means that are random, of the last layer alone if the structure says so.

    Raises:
        InputError: if the outputs are not linear in any of them, and the structure is "last_layer".
    """
    random = model.posterior.random_leaves(model.posterior.params)
    if structure != "last_layer":
        return random
    zeros = map_present(lambda leaf: np.zeros(leaf.shape, leaf.dtype), random)  # NumPy compiles nothing
    gaussians = MeanField(model.posterior.params, zeros)
    row = one_row(x)
    try:
        chosen = from_shapes(last_layer, model.apply, gaussians, row)
    except InputError as error:
        do = 'Pass structure="full", "low_rank" or "diag".'
        got = "one whose outputs are not linear in any of its random leaves"
        raise InputError(f"Expected a network whose last layer is linear in its weights, got {got}. {do}") from error
    keep = iter([name in chosen for name in names(model.posterior.params)])
    every = jax.tree.map(lambda _: next(keep), model.posterior.params)
    return map_present(lambda leaf, kept: leaf if kept else None, random, every)


def sites_of(apply: Apply, params: Tree, random: Tree, x: Any) -> tuple[Site, ...]:
    """Return where the random leaves of a network meet a row; nothing is computed."""
    return sites(lambda some, x: apply(filled(some, params), x), random, one_row(x))


def _root_shape(apply: Apply, likelihood: Any, outputs: jax.ShapeDtypeStruct) -> tuple[int, ...] | None:
    del apply  # what is cached for shapes is asked of a network
    found = jax.eval_shape(lambda likelihood, outputs: likelihood.fisher_root(outputs), likelihood, outputs)
    return getattr(found, "shape", None)


def _check_root(apply: Apply, likelihood: Any, outputs: jax.ShapeDtypeStruct) -> None:
    """Raise if a likelihood's `fisher_root` does not return (rows, k, k)."""
    k = math.prod(outputs.shape[1:])
    shape = from_shapes(_root_shape, apply, likelihood, outputs)
    if shape != (outputs.shape[0], k, k):
        do = "Return the square root of the information in all outputs of each row."
        fail(ShapeError, f"fisher_root of shape {(outputs.shape[0], k, k)}", f"{shape}", do)


def _rows_at_once(model: BNN, x: Tree, size: Size, needs: Needs, batch_size: int | None, limit: int) -> int:
    """Return how many rows of data to evaluate at once; raise if too little memory is given for one of them."""
    n = count_rows(x)
    fixed, each = fewest_bytes(model, x, size, needs)
    least = fixed + each * min(n, batch_size or 1)
    if least > limit:
        others = [f'"{word}"' for word in ("low_rank", "last_layer", "diag") if word != needs.structure]
        what = f"the structure {needs.structure!r} of {size.weights:,} weights and {size.rows:,} outputs of rows"
        do = f"Pass more memory, a smaller batch_size or rank, or structure={' or '.join(others)}."
        fail(InputError, f"memory of at least {least:,} bytes for {what}", f"{limit:,}", do)
    if batch_size is not None:
        return min(rounded_up(n), batch_size)
    most = min(max(1, needs.most(size) // size.outputs), (limit - fixed) // each)
    tiles = math.ceil(n / most)
    return min(rounded_up(math.ceil(n / tiles)), most)


def fewest_bytes(model: BNN, x: Tree, size: Size, needs: Needs) -> tuple[int, int]:
    """Return how many bytes a structure takes for all data, and how many for each row that is evaluated at once."""
    active = activation_bytes(model.apply, model.posterior.params, one_row(x))
    each = 4 * active
    if needs.of_row is not None:  # each output has gradients of its own
        each = needs.of_row(size) * size.itemsize + (size.outputs + 2) * active
    return needs.held(size) * size.itemsize, each


def _tiled(x: Tree, y: Any, weights: Any, *, rows: int, dtype: Any) -> tuple[Tree, jax.Array, jax.Array]:
    """Return x and y in tiles, (tiles, rows, ...), the last filled up with copies of the last row; and `real`.

    Arrays are cut and filled up by NumPy, as JAX would compile a program for every number of rows.
    """
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((x, y, weights)))
    of: Any = jnp if traced else np
    n = count_rows(y)
    tiles = math.ceil(n / rows)

    def tiled(array: Any) -> Any:
        given = of.asarray(array)
        last = of.broadcast_to(given[-1:], (tiles * rows - n, *given.shape[1:]))
        return of.concatenate([given, last]).reshape(tiles, rows, *given.shape[1:])

    real = (of.arange(tiles * rows) < n).astype(dtype).reshape(tiles, rows)
    real = real if weights is None else real * tiled(weights.astype(dtype))
    found = jax.tree.map(tiled, x), tiled(y), real
    return found if traced else jax.device_put(found)
