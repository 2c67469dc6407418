"""The cost that torchbnn's users minimise, MSE or cross entropy + kl_weight·KL/P."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp

from bbb.core.tree import Tree, count, per_leaf
from bbb.errors import InputError, fail
from bbb.likelihoods.classes import Categorical
from bbb.likelihoods.protocol import allows_missing
from bbb.model import BNN
from bbb.objectives.objective import Cost
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import independent
from bbb.priors.divergence import kl
from bbb.priors.normal import Normal
from bbb.priors.protocol import Prior
from bbb.torchbnn.kl_weight import check_options


class LastLayerWarning(UserWarning):
    """Warn that torchbnn's `last_layer_only` counts the KL of a single bias."""


def mse_cost(
    model: BNN,
    outputs: jax.Array,
    y: jax.Array,
    row_weights: jax.Array,
    num_data: int | jax.Array,
    kl_weight: float | jax.Array,
) -> Cost:
    """Compute torchbnn's regression cost, MSE + kl_weight·KL/P, for `Objective(mse_cost, kl_weight=...)`.

    The mean squared error is averaged over draws, rows and outputs, in squared units of y. The likelihood is not used.
    Per row, the cost equals, up to a factor and a constant, a negative ELBO with noise `implied_noise_std`.
    """
    return TorchbnnCost("mse")(model, outputs, y, row_weights, num_data, kl_weight)


def cross_entropy_cost(
    model: BNN,
    outputs: jax.Array,
    y: jax.Array,
    row_weights: jax.Array,
    num_data: int | jax.Array,
    kl_weight: float | jax.Array,
) -> Cost:
    """Compute torchbnn's classification cost, CE + kl_weight·KL/P, for `fit(..., objective=cross_entropy_cost)`.

    The cross entropy is the mean over draws and rows of −log softmax(outputs)[y], in nats; y holds classes, and the
    model's likelihood must be `Categorical`. For what kl_weight means, see `explain_kl_weight`.
    """
    return TorchbnnCost("cross_entropy")(model, outputs, y, row_weights, num_data, kl_weight)


@dataclasses.dataclass(frozen=True)
class TorchbnnCost:
    """torchbnn's cost, loss + kl_weight·BKLLoss, with its options; equal costs share one compiled program.

    Attributes:
        loss: "mse" or "cross_entropy", torch's MSELoss() or CrossEntropyLoss(), a mean over rows.
        reduction: BKLLoss's reduction, "mean" (KL/P) or "sum" (KL).
        last_layer_only: BKLLoss's option of that name. It does not do what its name says, and it ignores the
            reduction: see `last_bias_kl`.

    Raises:
        InputError: if the loss or the reduction is unknown.
    """

    loss: str
    reduction: str = "mean"
    last_layer_only: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_options(self.loss, self.reduction)
        if self.last_layer_only:
            _warn_of_last_layer(stacklevel=4)

    @property
    def __name__(self) -> str:
        """The name of the cost in a history."""
        return f"{self.loss}_cost"

    def __call__(
        self,
        model: BNN,
        outputs: jax.Array,
        y: jax.Array,
        row_weights: jax.Array,
        num_data: int | jax.Array,
        kl_weight: float | jax.Array,
    ) -> Cost:
        """Compute loss + kl_weight·BKLLoss for outputs of shape (draws, rows, ...).

        Of rows with weights the loss is the weighted mean; that of a batch is over the batch's own weights, as torch
        divides by those of a batch's classes.
        """
        if allows_missing(model.likelihood):
            do = "Leave the objective out, to train by the likelihood."
            fail(InputError, f"complete targets for {self.__name__}", f"a {type(model.likelihood).__name__}", do)
        per_row = _LOSSES[self.loss](outputs, y)
        row_weights = row_weights.astype(per_row.dtype)  # the dtype of y may be an integer one
        loss = jnp.dot(per_row, row_weights) / jnp.sum(row_weights)
        if isinstance(num_data, jax.Array):  # what weights sum to: 0 for a batch of rows that do not count
            loss = jnp.where(num_data > 0, loss, 0)
        divergence = kl(model.posterior, model.prior)
        if self.last_layer_only:
            return Cost(loss + kl_weight * _last_bias_kl(model.posterior, model.prior), loss, divergence)
        weights = count(model.posterior.random_leaves(model.posterior.params)) if self.reduction == "mean" else 1
        return Cost(loss + kl_weight * divergence / weights, loss, divergence)


def _squares(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(outputs - y[None]), axis=(0, *range(2, outputs.ndim)))  # (rows,)


def _cross_entropies(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return -jnp.mean(jax.vmap(Categorical().log_prob, in_axes=(None, 0))(y, outputs), axis=0)  # (rows,)


_LOSSES = {"mse": _squares, "cross_entropy": _cross_entropies}


def last_bias_kl(posterior: MeanField, prior: Prior) -> jax.Array:
    """Compute the value of `BKLLoss(last_layer_only=True)`: the summed KL of one bias, in nats. Warns about it.

    torchbnn returns the last KL it computed before any reduction: that of the last layer's bias, or of its weight if it
    has no bias. All other weights then have no prior.

    Args:
        posterior: the posterior of a network of `bbb.nn`.
        prior: a `bbb.priors.Normal`.

    Raises:
        InputError: if the prior is not a `Normal`, or no layer of the parameters has a Gaussian weight.

    Warns:
        LastLayerWarning: always.

    Source: torchbnn 1.2, functional.py, `bayesian_kl_loss`.
    """
    _warn_of_last_layer(stacklevel=3)
    return _last_bias_kl(posterior, prior)


def _warn_of_last_layer(stacklevel: int) -> None:
    warnings.warn(
        "torchbnn's last_layer_only counts the KL of the last layer's bias alone, summed whatever the reduction is: "
        "no other weight is regularised by its prior. Use the whole KL (reduction='mean' or 'sum').",
        LastLayerWarning,
        stacklevel=stacklevel,
    )


def _last_bias_kl(posterior: Posterior, prior: Prior) -> jax.Array:
    posterior = independent(posterior, "last_bias_kl")
    if not isinstance(prior, Normal):
        got = f"a {type(prior).__name__}"
        do = "Use the whole KL, bbb.priors.kl."
        fail(InputError, "a prior.Normal, the one prior of torchbnn", got, do)
    centres = posterior.random_leaves(posterior.mean)
    means, stds = (per_leaf("prior", part, centres) for part in (prior.mean, prior.std))
    parts = zip(*map(_last_leaf, (centres, posterior.log_std, means, stds)), strict=True)
    ((mean, log_std, m0, s0),) = parts
    return Normal(m0, s0).kl(MeanField(mean, log_std))


def _last_leaf(tree: Tree) -> list[jax.Array]:
    """Return a list of one array: the last layer's bias, or its weight if it has no bias."""
    layers = [d for d in jax.tree.leaves(tree, is_leaf=lambda v: isinstance(v, dict)) if isinstance(d, dict)]
    found = [d[name] for d in layers for name in ("weight", "bias") if d.get(name) is not None]
    if not found:
        expected = "the parameters of a bbb.nn network with a Gaussian weight"
        fail(InputError, expected, "a tree without one", "Use the whole KL, bbb.priors.kl.")
    return found[-1:]
