"""torchbnn's world in bbb's terms, without importing torch: its cost, its `kl_weight` explained, its state dicts.

Facts are of torchbnn 1.2: `BKLLoss(reduction="mean")` is the KL summed and divided by P, the number of Gaussian
weights. A state dict names the arrays of layer i of a `torch.nn.Sequential` "i.weight_mu", "i.weight_log_sigma" and so
on, and a plain layer's "i.weight"; it holds ε ("i.weight_eps") while the model is frozen, and never the prior.
"""

import dataclasses
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _arrays, _check, nn
from bbb._tree import Tree, count
from bbb.likelihood import Categorical, Likelihood
from bbb.model import BNN, bayesianize, check_model
from bbb.objective import Cost
from bbb.posterior import MeanField, check_posterior, per_leaf
from bbb.prior import Normal, Prior, kl


class LastLayerWarning(UserWarning):
    """What torchbnn calls the last layer's KL is that of one bias."""


# --- its cost --------------------------------------------------------------------------------------------------------


def mse_cost(
    model: BNN, outputs: jax.Array, y: jax.Array, row_weights: jax.Array, num_data: int, kl_weight: Any
) -> Cost:
    """Give torchbnn's regression cost, MSE + kl_weight·KL/P, for `fit(..., objective=mse_cost, kl_weight=...)`.

    The mean squared error is over draws, rows and outputs, in squared units of y. The likelihood plays no part. Per
    row it is, up to a factor and a constant, a negative ELBO whose noise is `implied_noise_std`.
    """
    return TorchbnnCost("mse")(model, outputs, y, row_weights, num_data, kl_weight)


def cross_entropy_cost(
    model: BNN, outputs: jax.Array, y: jax.Array, row_weights: jax.Array, num_data: int, kl_weight: Any
) -> Cost:
    """Give torchbnn's classification cost, CE + kl_weight·KL/P, for `fit(..., objective=cross_entropy_cost, ...)`.

    The cross entropy is the mean over draws and rows of −log softmax(outputs)[y], in nats; y holds classes, and the
    model's likelihood must be `Categorical`. For what kl_weight means, see `explain_kl_weight`.
    """
    return TorchbnnCost("cross_entropy")(model, outputs, y, row_weights, num_data, kl_weight)


@dataclasses.dataclass(frozen=True)
class TorchbnnCost:
    """torchbnn's cost, loss + kl_weight·BKLLoss, with its options; equal ones compile once.

    Attributes:
        loss: "mse" or "cross_entropy", torch's MSELoss() or CrossEntropyLoss(), a mean over rows.
        reduction: of BKLLoss: "mean" (KL/P) or "sum" (KL).
        last_layer_only: of BKLLoss; it is not what its name says, and the reduction plays no part: see `last_bias_kl`.

    Raises:
        InputError: for an unknown loss or reduction.
    """

    loss: str
    reduction: str = "mean"
    last_layer_only: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown words."""
        _check_words(self.loss, self.reduction)
        if self.last_layer_only:
            _warn_of_last_layer(stacklevel=4)

    @property
    def __name__(self) -> str:
        """What a history calls it."""
        return f"{self.loss}_cost"

    def __call__(
        self, model: BNN, outputs: jax.Array, y: jax.Array, row_weights: jax.Array, num_data: int, kl_weight: Any
    ) -> Cost:
        """Give loss + kl_weight·BKLLoss, for outputs (draws, rows, ...)."""
        del num_data
        per_row = _LOSSES[self.loss](outputs, y)
        row_weights = row_weights.astype(per_row.dtype)  # of y's, which may be an integer one
        loss = jnp.dot(per_row, row_weights) / jnp.sum(row_weights)
        divergence = kl(model.posterior, model.prior)
        if self.last_layer_only:
            return Cost(loss + kl_weight * _last_bias_kl(model.posterior, model.prior), loss, divergence)
        weights = count(model.posterior.log_std) if self.reduction == "mean" else 1
        return Cost(loss + kl_weight * divergence / weights, loss, divergence)


def _squares(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(outputs - y[None]), axis=(0, *range(2, outputs.ndim)))  # (rows,)


def _cross_entropies(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return -jnp.mean(jax.vmap(Categorical().log_prob, in_axes=(None, 0))(y, outputs), axis=0)  # (rows,)


_LOSSES = {"mse": _squares, "cross_entropy": _cross_entropies}


def _check_words(loss: Any, reduction: Any) -> None:
    if loss not in _LOSSES:
        _check.fail(_check.InputError, 'loss to be "mse" or "cross_entropy"', repr(loss), "Pass one of them.")
    if reduction not in ("mean", "sum"):
        _check.fail(_check.InputError, 'reduction to be "mean" or "sum"', repr(reduction), "Pass one of them.")


def last_bias_kl(posterior: MeanField, prior: Prior) -> jax.Array:
    """Give what `BKLLoss(last_layer_only=True)` gives: the KL of one bias, in nats, summed; and warn of it.

    torchbnn keeps the last KL it computed, which is that of the last layer's bias (of its weight only if it has no
    bias), and returns it before any reduction. All other weights then have no prior.

    Args:
        posterior: of a network of `bbb.nn`.
        prior: a `bbb.prior.Normal`.

    Raises:
        InputError: for another prior, or parameters in which no layer with a Gaussian weight is found.

    Warns:
        LastLayerWarning: always.

    Source: torchbnn 1.2, functional.py, `bayesian_kl_loss`.
    """
    _warn_of_last_layer(stacklevel=3)
    return _last_bias_kl(posterior, prior)


def _warn_of_last_layer(stacklevel: int) -> None:
    warnings.warn(
        "torchbnn's last_layer_only counts the KL of the last layer's bias alone, summed whatever the reduction is: "
        "no other weight is held by its prior. Use the whole KL (reduction='mean' or 'sum').",
        LastLayerWarning,
        stacklevel=stacklevel,
    )


def _last_bias_kl(posterior: MeanField, prior: Prior) -> jax.Array:
    check_posterior(posterior)
    if not isinstance(prior, Normal):
        got = f"a {type(prior).__name__}"
        do = "Use the whole KL, bbb.kl."
        _check.fail(_check.InputError, "a prior.Normal, the one prior of torchbnn", got, do)
    centres = posterior.gaussian(posterior.mean)
    means, stds = (per_leaf("prior", part, centres) for part in (prior.mean, prior.std))
    parts = zip(*map(_last_leaf, (centres, posterior.log_std, means, stds)), strict=True)
    ((mean, log_std, m0, s0),) = parts
    return Normal(m0, s0).kl(MeanField(mean, log_std))


def _last_leaf(tree: Tree) -> list[jax.Array]:
    """Give the bias, or else the weight, of the last layer that has one, in a list."""
    layers = [d for d in jax.tree.leaves(tree, is_leaf=lambda v: isinstance(v, dict)) if isinstance(d, dict)]
    found = [d[name] for d in layers for name in ("weight", "bias") if d.get(name) is not None]
    if not found:
        expected = "the parameters of a bbb.nn network with a Gaussian weight"
        _check.fail(_check.InputError, expected, "a tree without one", "Use the whole KL, bbb.kl.")
    return found[-1:]


# --- its kl_weight ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class KLWeight:
    """What a kl_weight of torchbnn means; `str` says it in words.

    Attributes:
        loss: "mse" or "cross_entropy".
        noise_std: the standard deviation of the Gaussian noise that the cost assumes, in units of y; None for classes.
        temperature: what the KL of a true negative ELBO is multiplied by. It is 1 for "mse", where any kl_weight is
            some noise's; for "cross_entropy" below 1 it makes the posterior colder, that is more certain, than Bayes.
        advice: what to write in bbb.
    """

    loss: str
    noise_std: float | None
    temperature: float
    advice: str

    def __str__(self) -> str:
        """Say what it means, and what to write instead."""
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
    """Say what the kl_weight of loss + kl_weight·BKLLoss means, and what to write instead.

    With c = kl_weight/P (reduction "mean") or kl_weight ("sum"), N rows and D outputs a row,

        MSE + c·KL  = c·(N·D·MSE/(2v) + KL)     where v = c·N·D/2: a negative ELBO with noise of variance v
        CE + c·KL   = (N·CE + c·N·KL)/N         a negative ELBO with its KL multiplied by c·N

    Args:
        kl_weight: above 0.
        num_data: N, rows of the whole data set.
        outputs: D, outputs a row; of no effect on "cross_entropy".
        weights: P, Gaussian weights (pairs of a mean and a log sigma); of no effect on "sum".
        loss: "mse" or "cross_entropy".
        reduction: of BKLLoss, "mean" or "sum".

    Raises:
        InputError: for a kl_weight that is not positive, counts below 1, or an unknown word.
    """
    _check_words(loss, reduction)
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
            f"The same in bbb: fit(...) with likelihood=bbb.likelihood.Gaussian({std:.4g}). If the data's noise is "
            "another, the band is no statement about observations: write bbb.likelihood.Gaussian(std, learn=True).",
        )
    temperature = each * num_data
    return KLWeight(
        loss,
        None,
        temperature,
        f"The same in bbb: fit(..., kl_weight={temperature:.4g}) with likelihood=bbb.likelihood.Categorical(). "
        "The posterior of Bayes has kl_weight=1.",
    )


def implied_noise_std(kl_weight: float, num_data: int, outputs: int, weights: int) -> float:
    """Give the noise that MSE + kl_weight·KL/P assumes, in units of y: √(kl_weight·N·D/(2P)).

    A negative ELBO with Gaussian noise of variance v is N·D·MSE/(2v) + KL + constant. Multiplied by kl_weight/P, its
    MSE has the factor 1 where v = kl_weight·N·D/(2P): N rows, D outputs a row, P Gaussian weights.

    Raises:
        InputError: for a kl_weight that is not positive, or counts below 1.
    """
    return float(explain_kl_weight(kl_weight, num_data, outputs, weights).noise_std)  # type: ignore[arg-type]


# --- its state dicts -------------------------------------------------------------------------------------------------

StateDict = Mapping[str, Any] | str | os.PathLike[str]
"""Arrays by name, NumPy's, JAX's or torch's tensors; or the path of a safetensors file of them."""

_LAYERS = (nn.Linear, nn.Conv, nn.BatchNorm, nn.LayerNorm)
"""The layers with arrays that have a counterpart in torch, under the same names."""


def from_state_dict(network: nn.Layer, state_dict: StateDict, *, prior: Prior, likelihood: Likelihood) -> BNN:
    """Make a model of a state dict of torchbnn's BayesLinear, BayesConv2d and BayesBatchNorm2d in `Sequential`s.

    torch's plain Linear, Conv, BatchNorm and LayerNorm are read too, as point estimates, which have no Gaussian.

    Args:
        network: the same layers of `bbb.nn`, one for each module of the torch `Sequential`, also where it has no
            arrays (`bbb.nn.relu` for ReLU, `bbb.nn.flatten` for Flatten); Sequentials may be nested.
        state_dict: what `model.state_dict()` gave, or a safetensors file of it. An ε kept in it, if the model was
            frozen, is for `frozen_noise`.
        prior: what the layers were made with, which the state dict does not hold; `bbb.prior.Normal(0.0, 0.1)`, or one
            number for each layer, `bbb.prior.Normal((0.0, (), 0.0), (0.1, (), 0.2))`.
        likelihood: such as `bbb.likelihood.Gaussian(std=0.5)`.

    Raises:
        InputError: if a key is missing or left over, or an array is no finite floating-point one.
        ShapeError: if an array has another shape than the layer's.
        ModelFileError: if the file cannot be read.
    """
    mean, log_std = _read(network, state_dict)[:2]
    model = bayesianize(network.apply, mean, prior=prior, likelihood=likelihood)
    return dataclasses.replace(model, posterior=MeanField(mean, log_std))


def frozen_noise(network: nn.Layer, state_dict: StateDict) -> Tree:
    """Read the ε that a frozen torchbnn model keeps: a tree like `posterior.log_std`.

    `bbb.weight_sampling(network.apply).evaluate(noise, model.posterior, x)` then is what the frozen model gives.

    Raises:
        InputError: as `from_state_dict`; and if the model was not frozen.
    """
    _, log_std, noise = _read(network, state_dict)
    for name, value, eps in _pairs(network, log_std, noise):
        if value is not None and eps is None:
            _check.fail(
                _check.InputError,
                f"'{name}_eps' in the state dict of a frozen model",
                "none",
                "Call torchbnn.utils.freeze(model) before model.state_dict(), or draw with bbb.sample.",
            )
    return noise


def to_state_dict(model: BNN, noise: Tree = None) -> dict[str, np.ndarray]:
    """Give a model's arrays under torchbnn's names, for `load_state_dict` once each is a torch tensor.

    Args:
        model: of a network of `bbb.nn`. Point estimates get the names of torch's plain layers.
        noise: ε, a tree like `posterior.log_std`; makes the state dict that of a frozen model.

    Raises:
        InputError: if the network is none of `bbb.nn`, or has a layer without a counterpart.
        ShapeError: if the noise does not fit.
    """
    check_model(model)
    network = getattr(model.apply, "owner", getattr(model.apply, "__self__", None))
    if not isinstance(network, nn.Layer):
        got = f"a {type(model.apply).__name__}"
        _check.fail(_check.InputError, "a network of bbb.nn", got, "Only those have names in torchbnn.")
    posterior = model.posterior
    if noise is not None:
        _check.fits("noise", noise, "posterior", posterior.log_std)
    arrays: dict[str, np.ndarray] = {}
    for name, mean, log_std in _pairs(network, posterior.mean, posterior.log_std):
        parts = {name: mean} if log_std is None else {f"{name}_mu": mean, f"{name}_log_sigma": log_std}
        arrays |= {part: _torch_array(part, value) for part, value in parts.items()}
    for name, _, eps in _pairs(network, posterior.mean, noise) if noise is not None else ():
        if eps is not None:
            arrays[f"{name}_eps"] = np.array(eps)
    return arrays


def _torch_array(name: str, value: jax.Array) -> np.ndarray:
    array = np.array(value, order="C")
    return array.astype(np.int64) if name.endswith("num_batches_tracked") else array


def _pairs(network: nn.Layer, *trees: Tree) -> Iterator[tuple[Any, ...]]:
    """Go through the arrays of a network in torch's order: its name, and what each tree has in its place."""
    for prefix, layer, parts in _walk(network, trees, ""):
        for name in _shapes(prefix, layer):
            yield (prefix + name, *(part[name] for part in parts))


def _walk(network: nn.Layer, trees: tuple[Tree, ...], prefix: str) -> Iterator[tuple[str, nn.Layer, tuple[Tree, ...]]]:
    if type(network) is nn.Sequential:
        for i, (layer, *parts) in enumerate(zip(network.layers, *trees, strict=True)):
            yield from _walk(layer, tuple(parts), f"{prefix}{i}.")
    else:
        yield prefix, network, trees


def _shapes(prefix: str, layer: nn.Layer) -> dict[str, tuple[int, ...]]:
    """Give the shape of each array of a layer, in torch's order."""
    params = jax.eval_shape(layer.init, jax.random.key(0))
    if jax.tree.leaves(params) and not isinstance(layer, _LAYERS):
        _check.fail(
            _check.InputError,
            "layers that a torch Sequential and torchbnn have: linear, conv, batch_norm, layer_norm, sequential",
            f"'{layer.kind}' at '{prefix.rstrip('.')}'",
            "Copy its arrays yourself: bbb.MeanField takes any tree.",
        )
    order = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {name: params[name].shape for name in order if name in params}


def _read(network: Any, state_dict: StateDict) -> tuple[Tree, Tree, Tree]:
    """Read means, log sigmas and ε; trees like the network's parameters, with None where there is none."""
    if not isinstance(network, nn.Layer):
        got = f"a {type(network).__name__}"
        _check.fail(_check.InputError, "a network of bbb.nn", got, "Pass for example bbb.nn.sequential(...).")
    arrays = dict(state_dict) if isinstance(state_dict, Mapping) else _read_file(state_dict)
    if not all(isinstance(name, str) for name in arrays):
        do = "Pass what model.state_dict() gave."
        _check.fail(_check.InputError, "a state dict of arrays by their names", f"{list(arrays)[:3]}", do)
    taken: set[str] = set()
    trees = _read_layer(network, arrays, "", taken)
    extra = sorted(set(arrays) - taken)
    if extra:
        _check.fail(
            _check.InputError,
            f"a state dict of this network, with {_listed(sorted(taken))}",
            f"{_listed(extra)} besides",
            "Give the network a layer for each module of the Sequential, of the same kind and options.",
        )
    return trees


def _read_layer(layer: nn.Layer, arrays: Mapping[str, Any], prefix: str, taken: set[str]) -> tuple[Tree, Tree, Tree]:
    """Read the arrays whose keys begin with a prefix, and add those keys to `taken`."""
    if type(layer) is nn.Sequential:
        parts = [_read_layer(part, arrays, f"{prefix}{i}.", taken) for i, part in enumerate(layer.layers)]
        mean, log_std, noise = zip(*parts, strict=True)
        return mean, log_std, noise
    shapes = _shapes(prefix, layer)
    trees: tuple[dict[str, Any], ...] = ({}, {}, {})
    for name, shape in shapes.items():
        for tree, key in zip(trees, _keys(arrays, prefix, name), strict=True):
            tree[name] = _read_array(key, arrays[key], shape) if key in arrays else None
            taken |= {key} & set(arrays)
    return trees if shapes else ((), (), ())  # type: ignore[return-value]


def _keys(arrays: Mapping[str, Any], prefix: str, name: str) -> tuple[str, str, str]:
    """Give the keys of an array's mean, log sigma and ε (which may be absent); a plain array has the first alone."""
    mean, log_sigma, eps = (f"{prefix}{name}_{part}" for part in ("mu", "log_sigma", "eps"))
    if prefix + name in arrays:
        return prefix + name, "", ""
    missing = [key for key in (mean, log_sigma) if key not in arrays]
    if missing or "running" in name or "num_batches" in name:
        near = [key for key in arrays if key.startswith(prefix)] or list(arrays)
        wanted = (
            f"'{prefix}{name}' or '{mean}' and '{log_sigma}'" if name in ("weight", "bias") else f"'{prefix}{name}'"
        )
        _check.fail(
            _check.InputError,
            f"{wanted} in the state dict",
            f"{_listed(near)}" if near else "an empty one",
            "Give the network a layer for each module of the Sequential, of the same kind and options.",
        )
    return mean, log_sigma, eps


def _read_array(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """Copy an array, or a torch tensor, once it is known to be what it should."""
    for method in ("detach", "cpu"):
        value = getattr(value, method)() if hasattr(value, method) else value
    try:
        array = np.array(np.asarray(value), order="C")  # a copy: the tensor may be trained on
    except (TypeError, ValueError) as error:
        raise _check.InputError(
            f"Expected '{name}' to be an array, got one that NumPy cannot read: {error}. Convert it to float32."
        ) from error
    if array.shape != shape:
        do = "Check the sizes and options of the network's layers."
        _check.fail(_check.ShapeError, f"'{name}' of shape {shape}", f"{array.shape}", do)
    if name.endswith("num_batches_tracked"):
        array = array.astype(jax.dtypes.canonicalize_dtype(float))
    if not np.issubdtype(array.dtype, np.floating):
        _check.fail(_check.InputError, f"'{name}' of floating-point numbers", f"{array.dtype}", "Convert it.")
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        do = 'Call jax.config.update("jax_enable_x64", True) first, or convert it to float32.'
        _check.fail(_check.InputError, f"'{name}' of a dtype JAX is set to", f"{array.dtype}", do)
    _check.finite(f"'{name}'", array)
    return jnp.asarray(array)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(f"'{name}'" for name in names[:6]) + more


def _read_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        return _arrays.read(path)
    except _arrays.UNREADABLE as error:
        got = getattr(error, "strerror", None) or error
        raise _check.ModelFileError(
            f"Expected {path} to be a safetensors file of a state dict, got: {got}. "
            "A file of torch.save is read by torch alone: torch.load it, and pass the dict."
        ) from error
