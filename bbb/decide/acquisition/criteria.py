"""What makes a row worth asking for besides those already chosen: one criterion, one class.

A criterion has `score(given, outputs)`, a function of draws at rows that is compiled once, the `state` that it is given
besides the likelihood, and `chosen(outputs)`, itself once a row is chosen, of its draws (draws, 1, ...).
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import entr

from bbb.core.jit import jit
from bbb.core.tree import Tree
from bbb.decide.acquisition.information import means_and_noise, varying_noise
from bbb.decide.acquisition.pool import by_row, centred, expected, probabilities


class Criterion(abc.ABC):
    """What the head of this module describes."""

    score: Callable[[Tree, jax.Array], jax.Array]

    @property
    @abc.abstractmethod
    def state(self) -> tuple[Tree, ...]:
        """What `score` is given besides the likelihood, of shapes that stay."""

    @abc.abstractmethod
    def chosen(self, likelihood: Any, outputs: jax.Array) -> Self:
        """Return the criterion once a row of these outputs is chosen."""


# Classes: the joint mutual information


def _classes_score(given: Any, outputs: jax.Array) -> jax.Array:
    """Return Σ_c p(c)·H[Σ_s p(s | c)·p_s] − mean_s H[p_s] of each row, in nats, over configurations c of the labels.

    It is what the label of a row would say about the weights besides the labels of the rows already chosen:
    I(y; w | labels) = H[y | labels] − E_w H[y | w]. Configurations are taken some at a time, which bounds the memory.
    """
    likelihood, weights, posteriors = given
    p = _probabilities(likelihood, outputs)

    def of_block(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        weight, posterior = block
        y = jnp.einsum("ms,src->mrc", posterior, p, precision="highest")
        return jnp.einsum("m,mr->r", weight, jnp.sum(entr(y), axis=-1), precision="highest")

    size = min(p.shape[0], weights.shape[0])
    missing = -weights.shape[0] % size
    blocks = jnp.pad(weights, (0, missing)).reshape(-1, size)
    nats = lax.map(of_block, (blocks, jnp.pad(posteriors, ((0, missing), (0, 0))).reshape(*blocks.shape, -1)))
    return jnp.maximum(nats.sum(axis=0) - jnp.mean(jnp.sum(entr(p), axis=-1), axis=0), 0)


@jit
def _probabilities(likelihood: Any, outputs: jax.Array) -> jax.Array:
    """Return the probability of each class of the one label of a row, (draws, rows, classes)."""
    return by_row(probabilities(likelihood, outputs))


@dataclasses.dataclass(frozen=True)
class JointClasses(Criterion):
    """The mutual information of the labels of a batch and the weights, given those of the rows already chosen.

    Attributes:
        key: of what is left to chance.
        weights: p(c) of each configuration c of the labels chosen so far, (configurations,).
        posteriors: p(draw | c), (configurations, draws).
        most: configurations kept; of more, as many are drawn, systematically.

    Source: Kirsch et al. 2019, arXiv 1906.08158, §3; here the joint entropy by the chain rule, one label at a time.
    """

    key: jax.Array
    weights: np.ndarray
    posteriors: np.ndarray
    most: int

    score = staticmethod(_classes_score)

    @classmethod
    def start(cls, key: jax.Array, draws: int, dtype: Any, most: int) -> "JointClasses":
        """Return the criterion before any row is chosen: one configuration, that of no labels."""
        return cls(key, np.ones(1, dtype), np.full((1, draws), 1 / draws, dtype), most)

    @property
    def state(self) -> tuple[np.ndarray, ...]:
        """The configurations, padded to the most there may be by some of weight 0."""
        missing = self.most - len(self.weights)
        return np.pad(self.weights, (0, missing)), np.pad(self.posteriors, ((0, missing), (0, 0)))

    def chosen(self, likelihood: Any, outputs: jax.Array) -> "JointClasses":
        """Return the configurations with each class of one more label, or a sample of them."""
        p = np.asarray(_probabilities(likelihood, outputs))[:, 0].astype(np.float64)
        joint = self.weights[:, None] * (self.posteriors @ p)
        where, weights = self._kept(joint.reshape(-1))
        configuration, label = np.divmod(where, p.shape[1])
        posteriors = self.posteriors[configuration] * p[:, label].T
        posteriors /= posteriors.sum(axis=1, keepdims=True)
        dtype, (key, _) = self.weights.dtype, jax.random.split(self.key)
        return JointClasses(key, weights.astype(dtype), posteriors.astype(dtype), self.most)

    def _kept(self, joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which configurations stay, and their weights: all that are possible, or a systematic sample."""
        possible = np.flatnonzero(joint > 0)
        if len(possible) <= self.most:
            return possible, joint[possible]
        start = float(jax.random.uniform(jax.random.split(self.key)[1]))
        ladder = np.cumsum(joint) / joint.sum()
        steps = (start + np.arange(self.most)) / self.most
        where = np.searchsorted(ladder, steps, side="right")  # a step of 0 is of the first that is possible
        return np.minimum(where, possible[-1]), np.full(self.most, 1 / self.most)


# Gaussian noise: the joint mutual information, if f is Gaussian


def _gaussian_score(given: Any, outputs: jax.Array) -> jax.Array:
    """Return ½·log(1 + Var[f | rows chosen]/noise) of each row, in nats, and what varying noise adds."""
    likelihood, directions = given
    means, noise = means_and_noise(likelihood, outputs)
    f = centred(means[..., 0])
    seen = jnp.einsum("bs,sr->br", directions, f, precision="highest")
    left = jnp.maximum(jnp.sum(jnp.square(f), axis=0) - jnp.sum(jnp.square(seen), axis=0), 0)
    return 0.5 * jnp.log1p(left / noise[..., 0].mean(axis=0)) + varying_noise(noise)


@dataclasses.dataclass(frozen=True)
class JointGaussian(Criterion):
    """The mutual information of the observations of a batch and the weights, ½·log det(I + C/noise).

    Each row that is chosen takes its direction out of the covariance C of f over the draws.

    Attributes:
        directions: one for each row that is chosen, in the space of the draws, and 0 for the rest: (count, draws).
        filled: how many are.

    Source: Kirsch et al. 2019, arXiv 1906.08158, §3; of a Gaussian process, Srinivas et al. 2010, arXiv 0912.3995, §2.
    """

    directions: np.ndarray
    filled: int = 0

    score = staticmethod(_gaussian_score)

    @property
    def state(self) -> tuple[np.ndarray, ...]:
        """The directions."""
        return (self.directions,)

    def chosen(self, likelihood: Any, outputs: jax.Array) -> "JointGaussian":
        """Return the criterion with the direction of one more row: a step of a Cholesky decomposition."""
        means, noise = (np.asarray(part, np.float64)[:, 0, 0] for part in means_and_noise(likelihood, outputs))
        f = (means - means.mean()) / np.sqrt(max(len(means) - 1, 1))
        new = f - self.directions.T @ (self.directions @ f)
        directions = self.directions.copy()
        directions[self.filled] = new / np.sqrt(max(new @ f, 0) + noise.mean())
        return JointGaussian(directions, self.filled + 1)


# Any likelihood: the distance to the nearest row of the batch


def _distance_score(given: Any, outputs: jax.Array) -> jax.Array:
    """Return the distance to the nearest centre, the root of the variance of the difference over the draws."""
    likelihood, centres, filled = given
    f = centred(by_row(expected(likelihood, outputs)))

    def nearer(b: jax.Array, nearest: jax.Array) -> jax.Array:
        square = jnp.sum(jnp.square(f - lax.dynamic_index_in_dim(centres, b, 0, keepdims=False)[:, None]), axis=(0, 2))
        return jnp.minimum(nearest, square)

    from_nothing = jnp.sum(jnp.square(f), axis=(0, 2))
    return jnp.sqrt(lax.fori_loop(0, filled, nearer, from_nothing))


@dataclasses.dataclass(frozen=True)
class FarthestFirst(Criterion):
    """The distance in function space to the nearest row of the batch, or to a row of which everything is known.

    Attributes:
        centres: the centred draws of the rows that are chosen, (count, draws, numbers of a row).
        filled: how many are.

    Source: Sener & Savarese 2018, arXiv 1708.00489, algorithm 1, with the draws of the function as the features, and
    the rows already labelled at the origin, where draws do not differ.
    """

    centres: np.ndarray
    filled: int = 0

    score = staticmethod(_distance_score)

    @property
    def state(self) -> tuple[Tree, ...]:
        """The centres, and how many there are."""
        return self.centres, np.int32(self.filled)

    def chosen(self, likelihood: Any, outputs: jax.Array) -> "FarthestFirst":
        """Return the criterion with one more centre."""
        centres = self.centres.copy()
        centres[self.filled] = np.asarray(_centre(likelihood, outputs))[:, 0]
        return FarthestFirst(centres, self.filled + 1)


@jit
def _centre(likelihood: Any, outputs: jax.Array) -> jax.Array:
    return centred(by_row(expected(likelihood, outputs)))
