"""Models from torchbnn's state dicts, and back."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import Likelihood
from bbb.model import BNN, bayesianize, check_model, check_numbers
from bbb.networks import nn
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.verbs import independent
from bbb.priors.protocol import Prior
from bbb.torchbnn.slots import arrays_of, slots
from bbb.torchbnn.state_dict import StateDict, read


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
            `bbb.priors.Normal(0.0, 0.1)`, or one number for each layer,
            `bbb.priors.Normal((0.0, (), 0.0), (0.1, (), 0.2))`.
        likelihood: a likelihood, such as `bbb.likelihoods.Gaussian(std=0.5)`.
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
    checks.outside("from_state_dict", state_dict=state_dict)
    mean, log_std = read(network, state_dict, names)[:2]
    is_plain = not jax.tree.leaves(log_std)
    if is_plain and std is None:
        do = "Pass std=0.02, to give its weights Gaussians of that standard deviation."
        fail(InputError, "a state dict with at least one Gaussian weight", "one of a plain network", do)
    if is_plain:
        return bayesianize(network.apply, mean, prior=prior, likelihood=likelihood, std=std)
    if std is not None:
        got, do = "one with Gaussian weights", "Leave std out."
        fail(InputError, "a state dict of a plain network, with std", got, do)
    model = bayesianize(network.apply, mean, prior=prior, likelihood=likelihood)
    model = dataclasses.replace(model, posterior=MeanField(mean, log_std))
    check_numbers(model)
    return model


def frozen_noise(network: nn.Layer, state_dict: StateDict, names: Sequence[str] | None = None) -> Tree:
    """Return the ε of a frozen torchbnn model, a tree like `posterior.log_std`.

    `bbb.forwards.weight_sampling(network.apply).evaluate(noise, model.posterior, x)` then equals the frozen model's
    output. For `names`, see `from_state_dict`.

    Raises:
        InputError: as for `from_state_dict`, and if the model was not frozen.
    """
    checks.outside("frozen_noise", state_dict=state_dict)
    _, log_std, noise = read(network, state_dict, names)
    for name, value, eps in arrays_of(network, slots(network, names), log_std, noise):
        if value is not None and eps is None:
            fail(
                InputError,
                f"'{name}_eps' in the state dict of a frozen model",
                "none",
                "Call torchbnn.utils.freeze(model) before model.state_dict(), or draw with bbb.posteriors.sample.",
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
            an ensemble or linearised, or if `names` are not one for each layer with arrays.
        ShapeError: if the shapes of the noise differ from the posterior's.
    """
    check_model(model)
    checks.outside("to_state_dict", model=model, noise=noise)
    if model.linearized:
        do = "Pass dataclasses.replace(model, linearized=False)."
        fail(InputError, "a model of the network itself, as torchbnn's are", "a linearised one", do)
    network = getattr(model.apply, "owner", getattr(model.apply, "__self__", None))
    if not isinstance(network, nn.Layer):
        got = f"a {type(model.apply).__name__}"
        fail(InputError, "a network of bbb.nn", got, "Only those have names in torchbnn.")
    posterior, places = independent(model.posterior, "to_state_dict"), slots(network, names)
    if noise is not None:
        checks.fits("noise", noise, "posterior", posterior.log_std)
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
