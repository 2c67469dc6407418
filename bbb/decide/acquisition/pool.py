"""Rows whose draws are reduced to a number each, tile by tile, within a bound on the memory."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from bbb.core.ability import implements
from bbb.core.tree import Tree
from bbb.decide.acquisition.options import Options
from bbb.devices import hosts
from bbb.likelihoods.protocol import SupportsMoments
from bbb.model import BNN
from bbb.predictive.estimates import widened
from bbb.predictive.evaluation import tiles
from bbb.predictive.finite import check_finite
from bbb.predictive.plan import Plan, placed, placed_over, plan_of
from bbb.predictive.running import join, reduced


@dataclasses.dataclass
class Pool:
    """Rows of x and the draws of a model at them, which are kept if they fit, and else drawn again for each question.

    Attributes:
        key: of the draws.
        model: laid out over the devices.
        plan: how the work is cut.
        kept: the tiles, once they were drawn; None if they are too large to keep.
    """

    key: jax.Array
    model: BNN
    plan: Plan
    kept: Any = None

    @classmethod
    def of(cls, key: jax.Array, model: BNN, x: Any, options: Options) -> "Pool":
        """Check x, and plan its draws.

        Raises:
            InputError, ShapeError, NonFiniteInputError: for an x, a mesh or a bound on the memory that does not fit.
        """
        over = placed_over(options["mesh"], options["partition"])
        how: dict[str, Any] = {name: options.get(name) for name in ("draws", "sampling", "memory", "rows")}
        plan = plan_of(key, model, x, over=over, **how)
        return cls(key, model if over is None else placed(model, over, options["partition"]), plan)

    @property
    def columns(self) -> int:
        """How many numbers of a row the draws are of: see `expected`."""
        return math.prod(self._shape_of(expected)[2:])

    @property
    def labels(self) -> tuple[int, int]:
        """How many labels a row has, and of how many classes."""
        *several, classes = self._shape_of(probabilities)[2:]
        return math.prod(several), classes

    def _shape_of(self, function: Callable[[Any, jax.Array], jax.Array]) -> tuple[int, ...]:
        draws = jax.ShapeDtypeStruct((self.plan.draws, *self.plan.outputs.shape), self.plan.outputs.dtype)
        return jax.eval_shape(function, self.model.likelihood, draws).shape

    @property
    def dtype(self) -> Any:
        """The dtype in which draws are reduced."""
        return jax.eval_shape(widened, self.plan.outputs).dtype

    def reduced(self, by: Callable[[Tree, jax.Array], jax.Array], *given: Tree) -> np.ndarray:
        """Return `by((likelihood, *given), outputs)` of the draws of each row, (rows,); `by` is one of a module.

        Raises:
            NonFiniteOutputError: naming the first row for which it is NaN or infinite.
        """
        with hosts.joined(self.plan.mesh):
            held = (self.model.likelihood, *given)
            found = join([reduced(by, held, self.plan, pieces, rows) for pieces, rows in self._tiles()])
        check_finite(self.model, "the scores", found)
        return found

    def _tiles(self) -> Iterable[tuple[list[Tree], int]]:
        if self.kept is None and self.plan.keeps:
            self.kept = list(tiles(self.key, self.model, self.plan))
        return tiles(self.key, self.model, self.plan) if self.kept is None else self.kept


def expected(likelihood: Any, outputs: jax.Array) -> jax.Array:
    """Return what is expected of y at each draw, (draws, rows, ...): its mean; of classes, their probabilities."""
    if not implements(likelihood, SupportsMoments):
        return probabilities(likelihood, outputs)
    likelihood, outputs = widened((likelihood, outputs))
    return likelihood.mean(outputs)


def probabilities(likelihood: Any, outputs: jax.Array) -> jax.Array:
    """Return the probability of each class at each draw, (draws, rows, ..., classes)."""
    likelihood, outputs = widened((likelihood, outputs))
    return likelihood.probabilities(outputs)


def by_row(values: jax.Array) -> jax.Array:
    """Return draws with the numbers of a row on one axis, (draws, rows, columns)."""
    return values.reshape(*values.shape[:2], -1)


def centred(values: jax.Array) -> jax.Array:
    """Return draws, (draws, ...), less their mean, divided so that squares summed over draws are the variance."""
    return (values - values.mean(axis=0, keepdims=True)) / math.sqrt(max(values.shape[0] - 1, 1))
