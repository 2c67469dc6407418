"""The training that both estimators share: weighted rows, and one program for many numbers of rows."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax

from bbb.core.tree import pytree_dataclass
from bbb.likelihoods.classes import Categorical
from bbb.model import BNN
from bbb.objectives.objective import exact_elbo_cost, has_exact_elbo
from bbb.sklearn.weights import Rows
from bbb.train.api import fit
from bbb.train.options import Objective

MIN_ROWS = 256
"""The least number of rows that a training program is compiled for; others are powers of two above it."""


BATCH, EXACT_BATCH = 32, 64
"""The default batch size with draws, and with the exact bound. Without the noise of draws, the latter fits closer.
On rows held out of the training rows of yacht and energy (20 splits), it scored 0.13 ± 0.06 and 0.02 ± 0.01 nats per
row less than draws did with 32 rows, and 0.02 ± 0.10 less and 0.00 ± 0.01 more with 64."""


@pytree_dataclass(data=("likelihood",))
class WeightedRows:
    """A likelihood that multiplies each row's log density by a weight, the last column of y.

    Attributes:
        likelihood: the likelihood of the observation, the other columns of y.
    """

    likelihood: Any

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the parameters of the likelihood."""
        return self.likelihood.learn

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y, made by `repeated`, in the dtype of the outputs."""
        return y.astype(outputs.dtype)

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Compute weight · log p(observation | outputs) in nats, (rows,)."""
        observed = y[:, 0].astype(int) if isinstance(self.likelihood, Categorical) else y[:, :-1]
        return y[:, -1] * self.likelihood.log_prob(observed, outputs)

    def expected_log_prob(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Compute weight · E[log p(observation | f)] in nats, (rows,), as `Gaussian.expected_log_prob` does."""
        return y[:, -1] * self.likelihood.expected_log_prob(y[:, :-1], mean, variance)


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings of a training; `exact` asks for the exact bound, where there is one."""

    steps: int
    batch_size: int | None
    learning_rate: float
    draws: int
    exact: bool


@functools.lru_cache(maxsize=64)
def _optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return Adam with a learning rate that falls to 0 on a cosine; cached, as training is compiled for the object."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


def repeated(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows repeated up to a power of two, at least `MIN_ROWS`, and y with a last column of weights.

    The weights of a row's copies sum to that of the row, by default 1, so that the bound is that of the given rows and
    every minibatch is full of real rows, while programs are compiled for only a few numbers of rows.
    """
    size = max(MIN_ROWS, 1 << (len(x) - 1).bit_length())
    index = np.arange(size) % len(x)
    shares = 1 / np.bincount(index)[index]
    return x[index], np.column_stack([y[index], shares if weights is None else weights[index] * shares])


def trained(key: jax.Array, model: BNN, rows: Rows, training: Training, kl_weight: Any) -> tuple[BNN, np.ndarray]:
    """Train on standardised rows; return the model and the loss of each step, (steps,), in nats over all rows."""
    likelihood: Any = WeightedRows(model.likelihood)
    weighted = dataclasses.replace(model, likelihood=likelihood)
    exact = training.exact and has_exact_elbo(model, rows.X)
    after, history = fit(
        key,
        weighted,
        *repeated(rows.X, rows.y, rows.weights),
        objective=Objective(exact_elbo_cost, kl_weight=kl_weight)
        if exact
        else Objective(kl_weight=kl_weight, draws=training.draws),
        steps=training.steps,
        optimizer=_optimizer(training.learning_rate, training.steps),
        batch_size=training.batch_size or (EXACT_BATCH if exact else BATCH),
        progress=False,
    )
    return dataclasses.replace(after, likelihood=after.likelihood.likelihood), history.loss  # type: ignore[attr-defined]
