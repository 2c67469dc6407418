"""The settings of learning from a table: its likelihood, prior and network."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from bbb import priors
from bbb.core.tree import Tree
from bbb.inference import activation_of
from bbb.likelihoods.classes import Categorical
from bbb.likelihoods.counts import NegativeBinomial, Poisson
from bbb.likelihoods.gaussian import Gaussian, HeteroscedasticGaussian
from bbb.likelihoods.protocol import Likelihood
from bbb.likelihoods.student_t import StudentT
from bbb.networks import nn
from bbb.tables.encoding import REFUSE
from bbb.train.data.rows import count_held

AUTO = "auto"
"""The word that leaves a choice to the target."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of learning from a table; sizes and rates refer to standardised columns.

    By default the network has one hidden layer. It is trained on the bound by Adam with a learning rate that falls to
    zero on a cosine, while the weight of the KL divergence rises over most of the steps: on rows held out of the
    training rows of three UCI sets, this warm-up gained 0.2 to 1 nat per row. Measurements then get a Laplace posterior
    by the evidence: `python -m benchmarks.tabular` has the scores of both. The prior is N(0, 2/fan-in) on
    weights, the scale at which such a network preserves the variance of its inputs (He et al. 2015, arXiv 1502.01852,
    eq. 10), and N(0, 1) on biases. On the training rows of two UCI sets, priors of about this scale that shrink with
    the fan-in reached a higher bound than N(0, 1).

    Attributes:
        hidden: the number of units of the hidden layer, or of each of several, such as (64, 64).
        activation: one of `nn.ACTIVATIONS`, after each hidden layer, or "auto": "gelu" with a posterior by the
            evidence, "relu" with independent Gaussians, whose bound is then exact.
        epochs: passes over the rows.
        batch_size: rows per step.
        learning_rate: Adam's learning rate at the start.
        draws_per_step: draws of the weights per step. Not used with one hidden layer of "relu" and a "gaussian"
            likelihood, where `bbb.objectives.exact_elbo_cost` needs no draws.
        kl_warm_up: the share of the steps over which the weight of the KL divergence rises from 0 to 1.
        noise_std: the starting value of the learned noise, in standard deviations of the target.
        likelihood: one of `LIKELIHOODS`, or "auto" to choose one by the target: see `kind_of`.
        prior: one of `PRIORS`.
        restarts: the number of posteriors to learn, each from its own start; they predict as one mixture.
        posterior: one of `bbb.inference.METHODS`: "mean_field", as it is trained; "laplace", around its means; or
            "hmc", draws of chains that start there: these two with a prior and a noise by the evidence, where that does
            not take minutes. "auto" is "laplace" with a "gaussian" likelihood and a Gaussian prior, else "mean_field".
        validation: the share of rows to hold out, so that training stops at the best log score on them; 0 holds out
            none. They are no data of the posterior, whichever it is.
        calibrate: the share of rows to hold out of everything, so that intervals of a new row, or sets of classes, hold
            it with the probability asked for, also where the model is wrong: see `TabularModel.calibrated`; 0 holds out
            none, and intervals are right as far as the model is.
        missing: what is done about missing values in the columns to predict from: "refuse"; "median", the median of the
            training rows, or of words the most frequent; or "indicator", that and a column of 0 and 1 that says so for
            each column with missing values: see `bbb.tables.encoding`.
    """

    hidden: int | Sequence[int] = 50
    activation: str = AUTO
    epochs: int = 500
    batch_size: int = 32
    learning_rate: float = 0.01
    draws_per_step: int = 4
    kl_warm_up: float = 0.8
    noise_std: float = 0.5
    likelihood: str = AUTO
    prior: str = "fan-in"
    restarts: int = 1
    validation: float = 0.0
    posterior: str = AUTO
    missing: str = REFUSE
    calibrate: float = 0.0

    def chosen(self, y: np.ndarray) -> Self:
        """Return the recipe with the likelihood, the posterior and the activation for a target in place of "auto"."""
        likelihood, posterior, activation = self.likelihood, self.posterior, self.activation
        if likelihood == AUTO:
            likelihood = kind_of(y)
        if posterior == AUTO:
            posterior = "laplace" if likelihood == "gaussian" and self.prior in GAUSSIAN_PRIORS else "mean_field"
        if activation == AUTO:
            activation = activation_of(posterior)
        return dataclasses.replace(self, likelihood=likelihood, posterior=posterior, activation=activation)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of units of each hidden layer."""
        return (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)

    def rows_a_step(self, rows: int) -> int:
        """Return the number of rows per step for a table of `rows` rows."""
        rows -= count_held(self.calibrate, rows) if self.calibrate else 0
        held = count_held(self.validation, rows) if self.validation else 0
        return min(self.batch_size, rows - held)


@dataclasses.dataclass(frozen=True)
class Head:
    """The last layers of a network for a kind of target: from outputs near N(0, 1) to those of the likelihood.

    Attributes:
        outputs: the number of outputs of the last linear layer.
        scale: the layers after it.
        likelihood: the likelihood.
    """

    outputs: int
    scale: tuple[nn.Layer, ...]
    likelihood: Any


def _number_head(make: Callable[[float], Likelihood]) -> Callable[[np.ndarray, float], Head]:
    def head(y: np.ndarray, noise_std: float) -> Head:
        mean, std = float(np.mean(y)), float(np.std(y))
        return Head(1, (nn.affine([mean / std], [std]),), make(noise_std * std))

    return head


def _two_headed(y: np.ndarray, noise_std: float) -> Head:
    mean, std = float(np.mean(y)), float(np.std(y))
    units = nn.affine([mean / std, math.log(noise_std * std)], [std, 1.0])
    return Head(2, (units,), HeteroscedasticGaussian())


def _count_head(make: Callable[[], Likelihood]) -> Callable[[np.ndarray, float], Head]:
    def head(y: np.ndarray, noise_std: float) -> Head:
        del noise_std
        return Head(1, (nn.affine([math.log(float(np.mean(y)))], [1.0]),), make())

    return head


def _class_head(y: np.ndarray, noise_std: float) -> Head:
    del noise_std
    return Head(int(np.max(y)) + 1, (), Categorical())


LIKELIHOODS: dict[str, Callable[[np.ndarray, float], Head]] = {
    "gaussian": _number_head(lambda std: Gaussian(std, learn=True)),
    "student-t": _number_head(lambda std: StudentT(std, learn=True, learn_df=True)),
    "heteroscedastic": _two_headed,
    "poisson": _count_head(Poisson),
    "negative-binomial": _count_head(lambda: NegativeBinomial(learn=True)),
    "categorical": _class_head,
}
"""Likelihoods by name: each makes the last layers from the target and the starting noise."""


PRIORS: dict[str, Callable[[Tree], Any]] = {
    "fan-in": priors.fan_in,
    "normal": lambda _: priors.Normal(0.0, 1.0),
    "learned": lambda _: priors.EmpiricalNormal(),
    "laplace": lambda _: priors.Laplace(0.0, 1.0),
    "mixture": lambda _: priors.ScaleMixture(),
}
"""Priors by name: N(0, 2/fan-in), N(0, 1), N(0, s²) of learned s for each array, Laplace(0, 1), and two Gaussians."""


GAUSSIAN_PRIORS = ("fan-in", "normal", "learned")
"""Those of which the evidence finds the scales."""


def hidden_layers(inputs: int, recipe: Recipe) -> Iterator[nn.Layer]:
    """Yield the hidden layers of a network of so many inputs, each followed by its activation."""
    for width in recipe.widths:
        yield nn.linear(inputs, width)
        yield nn.ACTIVATIONS[recipe.activation]
        inputs = width


def kind_of(y: np.ndarray) -> str:
    """Choose a likelihood: words, or 0 and 1 only, are classes; whole numbers from 0, counts; others, measurements.

    Whole numbers whose minimum is not 0, such as grades from 3 to 8, are treated as measurements.
    """
    if y.dtype.kind == "U" or np.array_equal(np.unique(y), (0, 1)):
        return "categorical"
    return "poisson" if np.all(y == np.round(y)) and np.min(y) == 0 else "gaussian"
