"""Networks with random weights: `forward(key, posterior, x) -> outputs` from `apply(params, x) -> outputs`.

Every forward keeps chance apart from arithmetic, so that noise can be drawn for many calls at once:

    noise(key, posterior, x) -> noise             all the random numbers of one call
    evaluate(noise, posterior, x) -> outputs      no randomness
    forward(key, posterior, x) = evaluate(noise(key, posterior, x), posterior, x)

Noise is symmetric: with the sign of every array turned, it is as likely, and gives the mirrored draw.

`weight_sampling` gives all rows one draw of the weights. `local_reparam` and `flipout` give each row its own, so that
the rows of a batch average their noise away and gradients vary less. They find the uses of weights by tracing the
network; where they cannot serve, the weight is drawn once for all rows, and `explain` says so.
"""

import dataclasses
import math
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.noise import standard_normal
from bbb.core.rows import row_count, rows_mask
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree, is_none, names
from bbb.errors import ShapeError, fail
from bbb.forwards.calls import NetworkForward
from bbb.forwards.row_rules import RowRules
from bbb.forwards.rules import FlipoutRules, LocalRules, Rules
from bbb.forwards.values import Data, NoiseRequest, Note, Take, Weight
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import independent
from bbb.tracing import interpreter
from bbb.tracing.network import Apply, traced
from bbb.tracing.row_axes import find_rows
from bbb.tracing.row_paths import alone


@dataclasses.dataclass(frozen=True)
class RowSampling(NetworkForward):
    """What `local_reparam` and `flipout` share: noise for each row, where the traced network allows it."""

    rules: ClassVar[type[Rules]]
    verb: ClassVar[str]

    def noise(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        """Draw standard normal numbers and random signs, of the shapes that the network asks for: a tuple of arrays."""
        return _draw(key, self._orders(self._independent(posterior), x))

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> Tree:
        """Run the network, with the noise where weights meet the data.

        Raises:
            InputError: if JAX cannot trace the network, or what it returns is not an array or a tree of arrays.
            ShapeError: if the noise was drawn for another posterior or another x.
        """
        return self._given(noise, self._independent(posterior), x, _ignore)

    def follow(self, posterior: Posterior, x: jax.Array, note: Note) -> None:
        """Call `note` with what becomes of each weight, as `explain` wants to know; nothing is computed."""
        self._abstractly(self._independent(posterior), x, _zeros, note)

    def _independent(self, posterior: Posterior) -> MeanField:
        """Return the Gaussians to draw from, of a posterior whose weights do not depend on each other.

        Raises:
            InputError: for any other posterior: what one weight adds to a row says something about another's.
        """
        return independent(posterior, self.verb)

    def _given(self, noise: Tree, posterior: MeanField, x: Tree, note: Note) -> Tree:
        given = iter(noise)
        outputs = self._run(posterior, x, lambda order: _next(given, order), note)
        if next(given, None) is not None:
            _misfit("the noise of one call", "more arrays")
        return outputs

    def _orders(self, posterior: MeanField, x: Tree) -> list[NoiseRequest]:
        """Return what noise is needed, by running the network abstractly."""
        orders: list[NoiseRequest] = []

        def take(order: NoiseRequest) -> jax.Array:
            orders.append(order)
            return _zeros(order)

        self._abstractly(posterior, x, take, _ignore)
        return orders

    def _abstractly(self, posterior: MeanField, x: Tree, take: Take, note: Note) -> None:
        jax.eval_shape(lambda posterior, x: self._run(posterior, x, take, note), posterior, x)

    def _run(self, posterior: MeanField, x: Tree, take: Take, note: Note) -> Tree:
        network = traced(self.apply, posterior.mean, x)
        where = find_rows(network, self.apply, posterior.mean, x) if self.rules.needs_rows else None
        rules = self.rules(take, note, row_count(x), where)
        return _settled(network, [*_weights(posterior), *map(Data, jax.tree.leaves(x))], rules)


@dataclasses.dataclass(frozen=True)
class LocalReparam(RowSampling):
    """Noise in the pre-activations: see `local_reparam`."""

    rules = LocalRules
    verb = "local_reparam"

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> Tree:
        """Run the network, with the noise where weights meet the data.

        Raises:
            InputError: if JAX cannot trace the network, or what it returns is not an array or a tree of arrays.
            ShapeError: if the noise was drawn for another posterior or another x.

        Warns:
            ApproximationWarning: if a weight meets a row more than once.
        """
        found: dict[int, str] = {}
        outputs = self._given(noise, self._independent(posterior), x, partial(_keep_approximate, found))
        _warn(found, posterior)
        return outputs


@dataclasses.dataclass(frozen=True)
class Flipout(RowSampling):
    """Noise in the weights, turned by the signs of each row: see `flipout`."""

    rules = FlipoutRules
    verb = "flipout"

    def _run(self, posterior: MeanField, x: Tree, take: Take, note: Note) -> Tree:
        """Run all rows at once, if that is exact and turns every weight, and otherwise row by row, where rows allow."""
        found: list[str] = []
        run = super()._run
        jax.eval_shape(lambda q, x: run(q, x, _zeros, lambda *told: found.append(told[-1])), posterior, x)
        one = alone(self.apply, posterior.mean, x) if {*found} - {"exact"} and row_count(x) else None
        if one is None:
            return run(posterior, x, take, note)
        return _row_by_row(one, posterior, x, take, note)


class ApproximationWarning(UserWarning):
    """A forward is approximate in a network: `local_reparam`, where a weight meets a row more than once."""


def warn_if_approximate(forward: Any, posterior: Posterior, x: Tree) -> None:
    """Warn of a forward that is only approximate in its network; nothing is computed.

    Warns:
        ApproximationWarning: of `local_reparam`, if a weight meets a row more than once.
    """
    if isinstance(forward, LocalReparam):
        _warn(from_shapes(_approximate, forward, posterior, x), posterior)


def _approximate(forward: LocalReparam, posterior: Posterior, x: Tree) -> dict[int, str]:
    """Return at which places of a row a weight is met, by the place of its leaf, for those that are approximate."""
    found: dict[int, str] = {}
    forward.follow(posterior, x, partial(_keep_approximate, found))
    return found


def _keep_approximate(found: dict[int, str], leaf: int, route: str, reason: str, equation: Any, each_row: str) -> None:
    """Note what `explain` calls approximate, by the place of its leaf."""
    del route, reason, equation
    if each_row.startswith("approximate"):
        found[leaf] = each_row.removeprefix("approximate: ")


def _warn(found: dict[int, str], posterior: Posterior) -> None:
    if not found:
        return
    leaves = names(posterior.params)
    seen = "; ".join(f"{leaves[leaf]} at many ({size})" for leaf, size in sorted(found.items())[:4])
    more = f"; and {len(found) - 4} others" if len(found) > 4 else ""
    warnings.warn(
        f"Expected weights that meet each row at one place, for local_reparam to be exact, got {seen}{more}. "
        "Pass bbb.forwards.flipout(model.apply), which is exact there, or bbb.forwards.weight_sampling(model.apply).",
        ApproximationWarning,
        stacklevel=2,
    )


def _row_by_row(one: interpreter.Traced, posterior: MeanField, x: Tree, take: Take, note: Note) -> Tree:
    """Run the trace of one row for each: weights' noise is shared by the rows, and each has signs of its own."""
    rows = row_count(x) or 0
    parts, axes = jax.tree.leaves(x), [0 if has_rows else None for has_rows in rows_mask(x)]
    pairs = zip(parts, axes, strict=True)
    alone = [part if axis is None else part.reshape(rows, 1, *part.shape[1:]) for part, axis in pairs]

    def run(x: list[Any], take: Take, note: Note) -> Tree:
        return _settled(one, [*_weights(posterior), *x], RowRules(take, note))

    orders: list[NoiseRequest] = []

    def note_order(order: NoiseRequest) -> jax.Array:
        orders.append(order)
        return _zeros(order)

    first = [part if axis is None else part[0] for part, axis in zip(alone, axes, strict=True)]
    jax.eval_shape(lambda x: run(x, note_order, note), first)
    noise = [take(order if order.normal else order._replace(shape=(rows, *order.shape))) for order in orders]
    own = [None if order.normal else 0 for order in orders]

    def of_row(noise: list[jax.Array], x: list[Any]) -> Tree:
        given = iter(noise)
        return run(x, lambda _: next(given), _ignore)

    outputs = jax.vmap(of_row, in_axes=(own, axes))(noise, alone)
    return jax.tree.map(lambda leaf: leaf.reshape(rows, *leaf.shape[2:]), outputs)


def _settled(network: interpreter.Traced, values: list[Any], rules: Any) -> Any:
    """Run a traced network, and draw what of its outputs is not drawn yet."""
    outputs = interpreter.run(network, values, rules)
    return jax.tree.map(
        lambda v: rules.settle(v, None) if isinstance(v, interpreter.Lazy) else v, outputs, is_leaf=_lazy
    )


def _weights(posterior: MeanField) -> Iterator[Any]:
    """Yield what stands for each leaf: a Gaussian not drawn yet, or the array of a point estimate."""
    for i, (mean, log_std) in enumerate(leaf_pairs(posterior)):
        yield mean if log_std is None else Weight(jnp.asarray(mean), jnp.exp(log_std), (False,) * mean.ndim, i)


def leaf_pairs(posterior: MeanField) -> list[tuple[jax.Array, jax.Array | None]]:
    """Pair each leaf of the means with its log_std, or with None if it is a point estimate.

    None among the means is not a leaf: parameter trees may hold it, as those of equinox do.
    """
    means, log_stds = (jax.tree.leaves(tree, is_leaf=is_none) for tree in (posterior.mean, posterior.log_std))
    return [(mean, log_std) for mean, log_std in zip(means, log_stds, strict=True) if mean is not None]


def _lazy(value: Any) -> bool:
    return isinstance(value, interpreter.Lazy)


def _zeros(order: NoiseRequest) -> jax.Array:
    return jnp.zeros(order.shape, order.dtype)


def _ignore(*_: Tree) -> None:
    """Note nothing."""


def _next(given: Iterator[Any], order: NoiseRequest) -> Any:
    """Return the next array of the noise, which must be what is ordered."""
    array = next(given, None)
    if array is None:
        _misfit(f"noise of shape {order.shape}", "no more arrays")
    if jnp.shape(array) != order.shape:
        _misfit(f"noise of shape {order.shape}", f"shape {jnp.shape(array)}")
    return array


def _misfit(expected: str, got: str) -> NoReturn:
    do = "Draw the noise with this forward's own noise(key, posterior, x), for this very x and a network that is pure."
    fail(ShapeError, expected, got, do)


def _draw(key: jax.Array, orders: list[NoiseRequest]) -> tuple[jax.Array, ...]:
    """Draw what is ordered; small arrays share a draw, and all signs do."""
    for_normals, for_signs = jax.random.split(key)
    shapes = [jax.ShapeDtypeStruct(order.shape, order.dtype) for order in orders if order.normal]
    normals = iter(standard_normal(for_normals, shapes) if shapes else ())
    signs = iter(_random_signs(for_signs, [order for order in orders if not order.normal]))
    return tuple(next(normals if order.normal else signs) for order in orders)


def _random_signs(key: jax.Array, orders: list[NoiseRequest]) -> list[jax.Array]:
    """Draw −1 or 1, with one random bit for each."""
    sizes = np.cumsum([0, *(math.prod(order.shape) for order in orders)])
    words = jax.random.bits(key, (-(-int(sizes[-1]) // 32), 1), np.uint32)
    bits = ((words >> jnp.arange(32, dtype=np.uint32)[None]) & np.uint32(1)).reshape(-1)
    return [
        2 * bits[start:end].astype(order.dtype).reshape(order.shape) - 1
        for order, start, end in zip(orders, sizes[:-1], sizes[1:], strict=True)
    ]


def local_reparam(apply: Apply) -> LocalReparam:
    """Return the network made random by sampling pre-activations, of each row independently, in place of weights.

    Exact where a weight meets each row once, and otherwise an approximation: an `ApproximationWarning` names the
    weights at the call, and `explain` says for each what it is.

    Data x times a weight N(μ, σ²) is Gaussian, with mean x·μ and variance x²·σ²; a bias added to it joins the same
    Gaussian. Its draw costs no draw of the weights, and rows of a batch that are independent make gradients vary less.
    Each row is distributed as under `weight_sampling`; different rows no longer share their weights.

    Where one weight serves several places of a row, these are drawn independently too, which is an approximation: a
    convolution, or a dense layer applied to (rows, time, features). The distribution at each place is right, but what
    later layers make of several of them together mostly spreads too little: by 3 to 11 % in
    small convolutional networks, and to 0.50 of what it should in a mean over nine times (0.81 in attention, 1.08 in a
    recurrence). Of n places, a weighted sum of what one layer gives spreads at least 1/√n as much as it should.
    `flipout` and `weight_sampling` are exact. The same holds for a network that mixes rows.

    A weight that is used twice, or other than in one product with data, is drawn once and shared by all rows, which is
    always right: `explain` lists which.

    Source: Kingma et al. 2015, arXiv 1506.02557, §2.2.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> forward = bbb.forwards.local_reparam(model.apply)
        >>> forward(jax.random.key(1), model.posterior, task.x).shape
        (20, 1)
    """
    return LocalReparam(apply)


def flipout(apply: Apply) -> Flipout:
    """Return the network made random by one draw of the weights, which random signs turn into another for every row.

    Data x times a weight N(μ, σ²) becomes x·μ + ((x∘s)·(σ∘ε))∘r: ε is shared by all rows, and s and r are signs of each
    row's inputs and outputs. Each row is distributed as under `weight_sampling`; rows are uncorrelated given their
    inputs, though not independent. A bias that is added to such a product takes part in it.

    Signs are of a row, so that all its places see the same weights: a convolution, or a dense layer applied to (rows,
    time, features), as in attention, is exact too. Where a weight is used otherwise than in one product with data, such
    as in the steps of a scan, twice, or in a function of it, the network is run row by row (`jax.vmap` of one row), and
    the signs are the weight's: w = μ + (σ∘ε)∘(s⊗r) for a matrix, with s and r of the row, wherever w is used. Products
    and choices of rows of a weight, also within a scan, need no copy of it; in anything else each row has its own,
    which takes memory for rows × weight: `explain` says "once for each row".

    That needs rows which are answered alike and each by itself, as far as the trace can tell. Where they meet, or the
    answer to one depends on its place or on how many there are, as with dropout, weights that are used otherwise are
    drawn once and shared by all rows, which is always right; and where such a network merges the axis of its rows with
    another, a dense layer gives each place signs of its own, and what later layers make of several of them together
    spreads too little. `explain` says of each weight which it is.

    Gradients vary less than with one draw for all rows. Of the cost itself, the part that rows share is the squares of
    their deviations, which are of one ε: near a minimum it may vary as much.

    Source: Wen et al. 2018, arXiv 1803.04386, §3.1.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> forward = bbb.forwards.flipout(model.apply)
        >>> forward(jax.random.key(1), model.posterior, task.x).shape
        (20, 1)
    """
    return Flipout(apply)
