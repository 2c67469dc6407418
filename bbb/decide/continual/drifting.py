"""Drift: how well a model predicts new rows before it learns from them, beside what it expects of rows of its own."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.core.jit import jit
from bbb.core.rows import count_rows, map_rows, some_rows
from bbb.core.tree import Tree
from bbb.data import data_for, weights_for
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import allows_missing, check_samples, log_prob_of_draws
from bbb.model import BNN, check_model
from bbb.predictive.evaluation import draws as draw
from bbb.tracing import purity

NOTABLE = 3.0
"""Standard deviations from what is expected, beyond which rows count as unlike those before."""


MOST_ROWS = 256
"""Rows that are scored at once, where memory allows."""


@dataclasses.dataclass(frozen=True, repr=False)
class Drift(display.Displayed):
    """How likely new rows were under the predictive of a model that had not seen them; log scores in nats a row.

    Attributes:
        log_score: the mean of log p(y | x) over the rows.
        std_error: its standard error, by the spread over the rows; infinite of one row.
        expected: the mean of `replicates`.
        expected_std: their standard deviation.
        replicates: (replicates,), the mean log scores of sets of y that the model itself drew at these x: all rows of
            a set from one draw of the weights, so that what the model does not know of them moves all together.
        rows: how many rows there are.
    """

    log_score: float
    std_error: float
    expected: float
    expected_std: float
    replicates: np.ndarray
    rows: int

    @property
    def deviations(self) -> float:
        """How many standard deviations the log score is above what the model expects of its own; below 0, below."""
        apart = self.log_score - self.expected
        return apart / self.expected_std if self.expected_std > 0 else math.copysign(math.inf, apart) if apart else 0.0

    @property
    def share_below(self) -> float:
        """The share of the replicates, and of these rows themselves, whose log score is no higher than theirs."""
        return (1 + int(np.sum(self.replicates <= self.log_score))) / (1 + len(self.replicates))

    @property
    def noticed(self) -> bool:
        """Whether the rows are less likely than the model's own by more than three standard deviations."""
        return self.deviations < -NOTABLE

    def __str__(self) -> str:
        """Return it in words."""
        where = f"{abs(self.deviations):.1f} standard deviations {'below' if self.deviations < 0 else 'above'}"
        found = f"{self.log_score:.3g} nats a row, {where} the {self.expected:.3g} that the model expects of its own"
        if self.noticed:
            return f"drift: {found}. These rows are not like those that it learned from, or it was too sure of them."
        if self.deviations > NOTABLE:
            return f"no drift, but {found}. Its noise is larger than that of these rows."
        return f"no drift: {found}."

    def _table_shown(self) -> display.Table:
        rows = [
            ("log score", f"{self.log_score:.4g} nats a row, standard error {self.std_error:.2g}"),
            ("expected", f"{self.expected:.4g} of rows of its own, standard deviation {self.expected_std:.2g}"),
            ("apart", f"{self.deviations:.1f} standard deviations; {self.share_below:.1%} score no higher"),
        ]
        return display.Table(f"Drift over {display.counted(self.rows, 'row')}", rows)


def drift(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    draws: int = 500,
    replicates: int = 100,
    memory: int | str = "512MB",
    sample_weight: ArrayLike | None = None,
) -> Drift:
    """Return how likely rows are under the predictive of a model, beside what it expects of rows of its own.

    Call it before the rows are used, as `update` does. The log score alone does not tell drift from rows that are hard:
    so at each x the model draws y itself, whole sets of them, and scores these too. Rows that score less than nearly
    all of these sets do not come from the model. Where x moves to where the model is unsure, it expects less, and says
    nothing: what is noticed is that y given x has changed, or that the model was too sure.

    Args:
        key: one typed JAX key.
        model: of one posterior or several.
        x: (rows, ...), as `fit` takes it.
        y: observed there.
        draws: of the weights, which the predictive is a mixture of.
        replicates: sets of y that the model draws, each from a draw of the weights of its own; at least 2.
        memory: bound on the working memory, such as "512MB": rows are scored in tiles, which change nothing.
        sample_weight: (rows,), how often each row counts; by default once.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, a network of several
            outputs, or a likelihood that cannot draw y.
        NonFiniteOutputError: if an output is NaN or infinite.

    Source: posterior predictive checks, Gelman, Meng and Stern 1996, "Posterior predictive assessment of model fitness
    via realized discrepancies", Statistica Sinica 6; of rows that were not learned from, prior predictive ones, Box
    1980, "Sampling and Bayes' inference in scientific modelling and robustness", J. R. Stat. Soc. A 143.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> found = bbb.decide.drift(jax.random.key(2), model, task.x, task.y, draws=100)
        >>> found.rows, bool(found.std_error > 0)
        (20, True)
    """
    checks.key(key)
    check_model(model)
    checks.outside("drift", key=key, model=model, x=x, y=y, sample_weight=sample_weight)
    check_scored(model)
    draws = checks.positive_integer("draws", draws)
    if checks.positive_integer("replicates", replicates) < 2:
        fail(InputError, "at least 2 replicates, which have a spread", "1", "Pass for example replicates=100.")
    limit = checks.memory(memory)
    x, y = data_for(model, x, y, several=True)
    weights = weights_for(model, sample_weight, count_rows(y))
    tile = _tile(model, x, draws + replicates, limit)
    x, y = map_rows(np.asarray, x), np.asarray(y)  # cut by NumPy, which compiles nothing
    scored = partial(_of_tile, key, model, draws=draws, replicates=replicates, memory=limit)
    starts = range(0, count_rows(y), tile)
    found = [scored(some_rows(x, slice(i, i + tile)), y[i : i + tile], i, tile) for i in starts]
    return _summary(np.concatenate(found, axis=1), None if weights is None else np.asarray(weights, np.float64))


def check_scored(model: BNN) -> None:
    """Raise for a model whose rows `drift` cannot score.

    Raises:
        InputError: for a network of several outputs, or a likelihood that cannot draw y.
    """
    if model.joint is not None:
        do = "Ask it of one output: model.head(path)."
        fail(InputError, "a network of one output, for drift", "one of several", do)
    check_samples(model.likelihood, "drift")


def _tile(model: BNN, x: Tree, draws: int, limit: int) -> int:
    """Return how many rows are scored at once: their outputs, with copies, take a quarter of the memory.

    It is a power of two where memory allows, so that few programs are compiled.
    """
    outputs = purity.output_shape(model.apply, model.posterior.component(0).params, x)
    a_row = 4 * draws * math.prod(outputs.shape[1:]) * outputs.dtype.itemsize
    return max(1, min(1 << (count_rows(x) - 1).bit_length(), MOST_ROWS, limit // (4 * a_row)))


def _of_tile(
    key: jax.Array,
    model: BNN,
    x: Tree,
    y: np.ndarray,
    first: int,
    tile: int,
    *,
    draws: int,
    replicates: int,
    memory: int,
) -> np.ndarray:
    """Return the log scores of the rows of a tile and of each replicate, (1 + replicates, rows)."""
    index = np.minimum(np.arange(tile), len(y) - 1)  # the last tile is filled up with its last row
    x, filled = some_rows(x, index), y[index]
    of_mixture, of_sets, of_noise = (jax.random.fold_in(key, use) for use in range(3))
    outputs = draw(of_mixture, model, x, draws=draws, memory=memory)
    own = draw(of_sets, model, x, draws=replicates, memory=memory)
    scores = _scores(of_noise, model.likelihood, outputs, own, filled, np.uint32(first))
    return np.asarray(scores, np.float64)[:, : len(y)]


@jit
def _scores(
    key: jax.Array, likelihood: Any, outputs: jax.Array, own: jax.Array, y: jax.Array, first: jax.Array
) -> jax.Array:
    """Return log (1/S)·Σ_s p(y | draw s) of y and of each set that the model draws, (1 + sets, rows).

    The noise of a row depends on its index alone.
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(len(y), dtype=jnp.uint32))
    one_row = jax.vmap(lambda k, row: likelihood.sample(k, row[:, None])[:, 0], in_axes=(0, 1), out_axes=1)
    sets = one_row(keys, own).astype(y.dtype)
    if allows_missing(likelihood):
        sets = jnp.where(jnp.isnan(y)[None], y[None], sets)

    def score(observed: jax.Array) -> jax.Array:
        return logsumexp(log_prob_of_draws(likelihood, observed, outputs), axis=0) - math.log(outputs.shape[0])

    return jnp.concatenate([score(y)[None], jax.lax.map(score, sets)])


def _summary(scores: np.ndarray, weights: np.ndarray | None) -> Drift:
    """Return the record of the scores of the rows and of each replicate, (1 + replicates, rows)."""
    means = np.average(scores, axis=1, weights=weights)
    counted = scores.shape[1] if weights is None else float(np.sum(weights))
    squares, own = float(np.average(np.square(scores[0] - means[0]), weights=weights)), means[1:]
    error = math.sqrt(squares / (counted - 1)) if counted > 1 else math.inf
    return Drift(float(means[0]), error, float(own.mean()), float(own.std(ddof=1)), own, scores.shape[1])
