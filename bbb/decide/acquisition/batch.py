"""Batches: rows that are worth asking for together."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from bbb import checks
from bbb.core.ability import implements
from bbb.core.rows import count_rows, some_rows
from bbb.core.tree import Tree
from bbb.decide.acquisition.criteria import Criterion, FarthestFirst, JointClasses, JointGaussian
from bbb.decide.acquisition.information import check_informs
from bbb.decide.acquisition.options import checked, refuse_columns
from bbb.decide.acquisition.pool import Pool
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsClasses
from bbb.model import BNN
from bbb.predictive.evaluation import draws as drawn

METHODS = ("batchbald", "k-center")


RESAMPLING = np.uint32(2**32 - 1)
"""What the key of the sampled configurations is folded with: the draws are folded with their indices."""


class Batch(NamedTuple):
    """Rows that are worth asking for together, in the order in which they were chosen.

    Attributes:
        rows: (count,), their indices.
        scores: (count,), what each adds to those before it: nats for "batchbald", and for "k-center" its distance to
            the nearest of them, in units of y, or as probabilities.
    """

    rows: np.ndarray
    scores: np.ndarray


def choose_batch(
    key: jax.Array,
    model: BNN,
    pool: Any,
    count: int,
    *,
    method: str = "batchbald",
    draws: int = 1_000,
    configurations: int = 1_024,
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
    partition: Tree = None,
) -> Batch:
    """Choose rows of a pool to ask for together, one after the other, each for what it adds to those before it.

    - "batchbald" maximises the mutual information of all their observations and the weights, in nats, so that rows that
      would say the same are not both chosen. The first is the row that alone tells most. Greedy choice reaches at least
      a share 1 − 1/e of the information of the best batch, since that is submodular. Of classes, the information is
      exact for these draws while the labels of the rows chosen have at most `configurations` joint values, and then
      estimated from so many of them; no batch can tell more than log(draws) nats. Of Gaussian noise it is that of
      Gaussian f with the covariance of the draws.
    - "k-center" covers the pool: each row is the farthest from those before it, and from rows of which everything is
      known. The distance of two rows is the root of Var_w (m(x, w) − m(x', w)), with m as in `variance`.

    Args:
        key: one typed JAX key.
        model: the Bayesian network, of one output; for "batchbald" of a class, or of one number with Gaussian noise.
        pool: (rows, ...), the rows that could be asked for, as `predict` takes x.
        count: how many to choose, at most the rows of the pool.
        method: "batchbald" or "k-center".
        draws: how many draws of the weights.
        configurations: the most joint values of labels that are looked at.
        memory: bound on the working memory, as in `predict`; the draws of the pool are kept if they fit in a quarter of
            it, and otherwise drawn again for each row that is chosen.
        mesh: devices, as in `predict`.
        partition: of parameters too large for one device, as in `predict`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a score is NaN or infinite.

    Source: Kirsch et al. 2019, arXiv 1906.08158; Sener & Savarese 2018, arXiv 1708.00489.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> batch = bbb.decide.choose_batch(jax.random.key(1), model, task.x, 3, draws=100)
        >>> len(set(batch.rows.tolist()))
        3
    """
    how: Any = {"method": "draws", "draws": draws, "memory": memory, "mesh": mesh, "partition": partition}
    given = checked("choose_batch", key, model, pool, how)
    if not checks.is_word(method, METHODS):
        fail(InputError, 'method to be "batchbald" or "k-center"', repr(method), "Pass one.")
    most = checks.positive_integer("configurations", configurations)
    if method == "batchbald":
        check_informs("choose_batch", model)
    rows = Pool.of(key, model, pool, given)
    count = _count(count, count_rows(rows.plan.x))
    criterion = _criterion(key, rows, method, count, most)
    found: list[int] = []
    scores: list[Any] = []
    for _ in range(count):
        each = rows.reduced(criterion.score, *criterion.state)
        each[found] = -np.inf
        found.append(int(np.argmax(each)))
        scores.append(each[found[-1]])
        if len(found) < count:
            row = some_rows(rows.plan.x, slice(found[-1], found[-1] + 1))
            outputs = drawn(key, model, row, draws=given["draws"], memory=memory, mesh=mesh, partition=partition)
            criterion = criterion.chosen(model.likelihood, outputs)
    return Batch(np.asarray(found), np.asarray(scores))


def _count(count: Any, rows: int) -> int:
    count = checks.positive_integer("count", count)
    if count > rows:
        fail(InputError, f"count to be at most the {rows} rows of the pool", f"{count}", "Pass fewer, or more rows.")
    return count


def _criterion(key: jax.Array, rows: Pool, method: str, count: int, most: int) -> Criterion:
    """Return the criterion of a method before any row is chosen."""
    draws, dtype, columns = rows.plan.draws, rows.dtype, rows.columns
    if method == "k-center":
        return FarthestFirst(np.zeros((count, draws, columns), dtype))
    if implements(rows.model.likelihood, SupportsClasses):
        labels, classes = rows.labels
        if labels != 1:
            refuse_columns("choose_batch by batchbald of classes", labels)
        ever = classes ** min(count - 1, 64)
        return JointClasses.start(jax.random.fold_in(key, RESAMPLING), draws, dtype, min(most, ever))
    if columns != 1:
        refuse_columns("choose_batch by batchbald", columns)
    return JointGaussian(np.zeros((count, draws), dtype))
