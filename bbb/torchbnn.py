"""Compatibility with torchbnn without importing torch: its cost, its `kl_weight` explained, and its state dicts.

All statements refer to torchbnn 1.2: `BKLLoss(reduction="mean")` is the summed KL divided by P, the number of Gaussian
weights. A state dict names the arrays of layer i of a `torch.nn.Sequential` "i.weight_mu", "i.weight_log_sigma" and so
on, and a plain layer's "i.weight"; it holds ε ("i.weight_eps") while the model is frozen, and never the prior.
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check, nn
from bbb._posterior_protocol import Posterior
from bbb._state_dict import StateDict, arrays_of, read, slots
from bbb._tree import Tree, count
from bbb.likelihood import Categorical, Likelihood
from bbb.model import BNN, bayesianize, check_model, check_numbers
from bbb.objective import Cost
from bbb.posterior import MeanField, independent, per_leaf
from bbb.prior import Normal, Prior, kl


class LastLayerWarning(UserWarning):
    """Warn that torchbnn's `last_layer_only` counts the KL of a single bias."""


# --- its cost --------------------------------------------------------------------------------------------------------


def mse_cost(
    model: BNN, outputs: jax.Array, y: jax.Array, row_weights: jax.Array, num_data: int, kl_weight: float | jax.Array
) -> Cost:
    """Compute torchbnn's regression cost, MSE + kl_weight·KL/P, for `Objective(mse_cost, kl_weight=...)`.

    The mean squared error is averaged over draws, rows and outputs, in squared units of y. The likelihood is not used.
    Per row, the cost equals, up to a factor and a constant, a negative ELBO with noise `implied_noise_std`.
    """
    return TorchbnnCost("mse")(model, outputs, y, row_weights, num_data, kl_weight)


def cross_entropy_cost(
    model: BNN, outputs: jax.Array, y: jax.Array, row_weights: jax.Array, num_data: int, kl_weight: float | jax.Array
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
        num_data: int,
        kl_weight: float | jax.Array,
    ) -> Cost:
        """Compute loss + kl_weight·BKLLoss for outputs of shape (draws, rows, ...)."""
        del num_data
        per_row = _LOSSES[self.loss](outputs, y)
        row_weights = row_weights.astype(per_row.dtype)  # the dtype of y may be an integer one
        loss = jnp.dot(per_row, row_weights) / jnp.sum(row_weights)
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
        prior: a `bbb.prior.Normal`.

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
        do = "Use the whole KL, bbb.kl."
        _check.fail(_check.InputError, "a prior.Normal, the one prior of torchbnn", got, do)
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
        _check.fail(_check.InputError, expected, "a tree without one", "Use the whole KL, bbb.kl.")
    return found[-1:]


# --- its kl_weight ---------------------------------------------------------------------------------------------------


def check_options(loss: Any, reduction: Any) -> None:
    """Check the names of a loss and of a reduction of torchbnn.

    Raises:
        InputError: if one is unknown.
    """
    if not _check.is_word(loss, ("mse", "cross_entropy")):
        _check.fail(_check.InputError, 'loss to be "mse" or "cross_entropy"', repr(loss), "Pass one of them.")
    if not _check.is_word(reduction, ("mean", "sum")):
        _check.fail(_check.InputError, 'reduction to be "mean" or "sum"', repr(reduction), "Pass one of them.")


@dataclasses.dataclass(frozen=True)
class KLWeight:
    """The meaning of a kl_weight of torchbnn; `str` explains it in words.

    Attributes:
        loss: "mse" or "cross_entropy".
        noise_std: the standard deviation of the Gaussian noise that the cost assumes, in units of y; None for classes.
        temperature: the factor of the KL in the equivalent negative ELBO. It is 1 for "mse", where every kl_weight
            corresponds to some noise; below 1, for "cross_entropy", the posterior is colder (more certain) than the
            Bayesian one.
        advice: the equivalent code in bbb.
    """

    loss: str
    noise_std: float | None
    temperature: float
    advice: str

    def __str__(self) -> str:
        """Return the meaning and the equivalent code in words."""
        if self.noise_std is not None:
            meaning = f"an ELBO whose observations have Gaussian noise of std {self.noise_std:.4g} (in units of y)"
        else:
            meaning = f"an ELBO whose KL is multiplied by {self.temperature:.4g}"
        return f"This kl_weight means {meaning}. {self.advice}"


def explain_kl_weight(
    kl_weight: float,
    num_data: int,
    outputs: int,
    weights: int,
    loss: str = "mse",
    reduction: str = "mean",
) -> KLWeight:
    """Return the meaning of kl_weight in loss + kl_weight·BKLLoss, and the equivalent code in bbb.

    With c = kl_weight/P (reduction "mean") or kl_weight ("sum"), N rows and D outputs per row,

        MSE + c·KL  = c·(N·D·MSE/(2v) + KL)     where v = c·N·D/2: a negative ELBO with noise of variance v
        CE + c·KL   = (N·CE + c·N·KL)/N         a negative ELBO with its KL multiplied by c·N

    Args:
        kl_weight: a positive number.
        num_data: N, the number of rows of the whole data set.
        outputs: D, the number of outputs per row; not used for "cross_entropy".
        weights: P, the number of Gaussian weights (pairs of a mean and a log sigma); not used for "sum".
        loss: "mse" or "cross_entropy".
        reduction: BKLLoss's reduction, "mean" or "sum".

    Raises:
        InputError: if kl_weight is not positive, a count is below 1, or the loss or the reduction is unknown.
    """
    check_options(loss, reduction)
    kl_weight = _check.one_number("kl_weight", kl_weight)
    for name, value in (("num_data", num_data), ("outputs", outputs), ("weights", weights)):
        _check.positive_integer(name, value)
    each = kl_weight / weights if reduction == "mean" else kl_weight
    if loss == "mse":
        std = math.sqrt(each * num_data * outputs / 2)
        return KLWeight(
            loss,
            std,
            1.0,
            f"The same in bbb: fit(...) with likelihood=bbb.likelihood.Gaussian({std:.4g}). If the noise of the data "
            "differs, the band says nothing about observations: write bbb.likelihood.Gaussian(std, learn=True).",
        )
    temperature = each * num_data
    return KLWeight(
        loss,
        None,
        temperature,
        f"The same in bbb: fit(..., objective=bbb.Objective(kl_weight={temperature:.4g})) with "
        "likelihood=bbb.likelihood.Categorical(). "
        "The Bayesian posterior has kl_weight=1.",
    )


def implied_noise_std(kl_weight: float, num_data: int, outputs: int, weights: int) -> float:
    """Compute the std of the noise that MSE + kl_weight·KL/P assumes, in units of y: √(kl_weight·N·D/(2P)).

    A negative ELBO with Gaussian noise of variance v is N·D·MSE/(2v) + KL + constant. Multiplied by kl_weight/P, its
    MSE has the factor 1 where v = kl_weight·N·D/(2P), for N rows, D outputs per row and P Gaussian weights.

    Raises:
        InputError: if kl_weight is not positive, or a count is below 1.
    """
    return float(explain_kl_weight(kl_weight, num_data, outputs, weights).noise_std)  # type: ignore[arg-type]


# --- its state dicts -------------------------------------------------------------------------------------------------


def from_state_dict(
    network: nn.Layer,
    state_dict: StateDict,
    *,
    prior: Prior,
    likelihood: Likelihood,
    names: Sequence[str] | None = None,
    std: Tree | None = None,
) -> BNN:
    """Return a model made from a state dict of torchbnn's BayesLinear, BayesConv2d and BayesBatchNorm2d.

    torch's plain Linear, Conv, BatchNorm and LayerNorm are read too, as point estimates.

    Args:
        network: the same layers of `bbb.nn`, in the order in which torch's `forward` uses them, including those without
            arrays (`bbb.nn.relu` for ReLU, `bbb.nn.flatten` for Flatten); Sequentials may be nested.
        state_dict: the result of `model.state_dict()`, or the path of a safetensors file of it. A frozen model's ε
            is read by `frozen_noise`.
        prior: the prior that the layers were made with, which the state dict does not hold:
            `bbb.prior.Normal(0.0, 0.1)`, or one number for each layer,
            `bbb.prior.Normal((0.0, (), 0.0), (0.1, (), 0.2))`.
        likelihood: a likelihood, such as `bbb.likelihood.Gaussian(std=0.5)`.
        names: for a module with named members, the member of each layer with arrays, such as ("fc1", "fc2") for
            "fc1.weight_mu" and so on, or ("features.0", "classifier"). By default layer i is "i", as in a
            `Sequential`. If a state dict would fit under other names, the error says which names to pass.
        std: the standard deviations of a plain network, which has no Gaussian weights, as for `bayesianize`.

    Raises:
        InputError: if a key is missing or unexpected; if an array is not a finite floating-point one, is masked or
            holds no numbers; if a number leads to infinities or to a standard deviation of 0; if `names` are not one
            for each layer with arrays; if a plain network comes without a `std`, since nothing would be random; or if
            a network with Gaussian weights comes with one.
        ShapeError: if the shape of an array differs from the layer's.
        ModelFileError: if the file cannot be read.
    """
    _check.outside("from_state_dict", state_dict=state_dict)
    mean, log_std = read(network, state_dict, names)[:2]
    is_plain = not jax.tree.leaves(log_std)
    if is_plain and std is None:
        do = "Pass std=0.02, to give its weights Gaussians of that standard deviation."
        _check.fail(_check.InputError, "a state dict with at least one Gaussian weight", "one of a plain network", do)
    if is_plain:
        return bayesianize(network.apply, mean, prior=prior, likelihood=likelihood, std=std)
    if std is not None:
        got, do = "one with Gaussian weights", "Leave std out."
        _check.fail(_check.InputError, "a state dict of a plain network, with std", got, do)
    model = bayesianize(network.apply, mean, prior=prior, likelihood=likelihood)
    model = dataclasses.replace(model, posterior=MeanField(mean, log_std))
    check_numbers(model)
    return model


def frozen_noise(network: nn.Layer, state_dict: StateDict, names: Sequence[str] | None = None) -> Tree:
    """Return the ε of a frozen torchbnn model, a tree like `posterior.log_std`.

    `bbb.weight_sampling(network.apply).evaluate(noise, model.posterior, x)` then equals the frozen model's output. For
    `names`, see `from_state_dict`.

    Raises:
        InputError: as for `from_state_dict`, and if the model was not frozen.
    """
    _check.outside("frozen_noise", state_dict=state_dict)
    _, log_std, noise = read(network, state_dict, names)
    for name, value, eps in arrays_of(network, slots(network, names), log_std, noise):
        if value is not None and eps is None:
            _check.fail(
                _check.InputError,
                f"'{name}_eps' in the state dict of a frozen model",
                "none",
                "Call torchbnn.utils.freeze(model) before model.state_dict(), or draw with bbb.sample.",
            )
    return noise


def to_state_dict(model: BNN, noise: Tree = None, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return a model's arrays under torchbnn's names, for `load_state_dict` once each is a torch tensor.

    Args:
        model: a model of a network of `bbb.nn`. Point estimates get the names of torch's plain layers.
        noise: ε, a tree like `posterior.log_std`; with it, the state dict is that of a frozen model.
        names: as for `from_state_dict`.

    Raises:
        InputError: if the network is not one of `bbb.nn` or has a layer without a counterpart in torch, if the model is
            an ensemble, or if `names` are not one for each layer with arrays.
        ShapeError: if the shapes of the noise differ from the posterior's.
    """
    check_model(model)
    _check.outside("to_state_dict", model=model, noise=noise)
    network = getattr(model.apply, "owner", getattr(model.apply, "__self__", None))
    if not isinstance(network, nn.Layer):
        got = f"a {type(model.apply).__name__}"
        _check.fail(_check.InputError, "a network of bbb.nn", got, "Only those have names in torchbnn.")
    posterior, places = independent(model.posterior, "to_state_dict"), slots(network, names)
    if noise is not None:
        _check.fits("noise", noise, "posterior", posterior.log_std)
    arrays: dict[str, np.ndarray] = {}
    for name, mean, log_std in arrays_of(network, places, posterior.mean, posterior.log_std):
        parts = {name: mean} if log_std is None else {f"{name}_mu": mean, f"{name}_log_sigma": log_std}
        arrays |= {part: _torch_array(part, value) for part, value in parts.items()}
    for name, _, eps in arrays_of(network, places, posterior.mean, noise) if noise is not None else ():
        if eps is not None:
            arrays[f"{name}_eps"] = np.array(eps)
    return arrays


def _torch_array(name: str, value: jax.Array) -> np.ndarray:
    array = np.array(value, order="C")
    return array.astype(np.int64) if name.endswith("num_batches_tracked") else array
