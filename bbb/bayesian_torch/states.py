"""Models from Bayesian-Torch's state dicts, and back (checked with its version 0.5.0)."""

from collections.abc import Sequence

import numpy as np

from bbb import checks
from bbb.bayesian_torch.prior import prior_of
from bbb.core.tree import Tree
from bbb.likelihoods.protocol import Likelihood
from bbb.model import BNN
from bbb.networks import nn
from bbb.priors.protocol import Prior
from bbb.torch_states import Arrays, Format, Keys, Slot, StateDict, from_arrays, log_softplus, read, rho_of, to_arrays


def _keys(name: str, prior: str) -> Keys:
    return Keys(f"mu_{name}", f"rho_{name}", prior_mean=f"prior_{prior}_mu", prior_std=f"prior_{prior}_sigma")


def _without_noise(arrays: Arrays, places: Sequence[Slot]) -> Arrays:
    """Leave out the ε of the last draw, which is among the buffers of a model and says nothing of it."""
    del places
    return {key: value for key, value in arrays.items() if not key.rpartition(".")[2].startswith("eps_")}


_BIAS = _keys("bias", "bias")

FORMAT = Format(
    "Bayesian-Torch",
    {
        nn.Linear: {"weight": _keys("weight", "weight"), "bias": _BIAS},
        nn.Conv: {"weight": _keys("kernel", "weight"), "bias": _BIAS},
    },
    log_std=log_softplus,
    scale=rho_of,
    tidied=_without_noise,
)
"""Bayesian-Torch writes the ρ of σ = log(1 + exp(ρ)), and keeps priors in buffers that are not in a state dict."""


def from_state_dict(
    network: nn.Layer,
    state_dict: StateDict,
    *,
    prior: Prior | None = None,
    likelihood: Likelihood,
    names: Sequence[str] | None = None,
    std: Tree | None = None,
) -> BNN:
    """Return a model made from a state dict of Bayesian-Torch's linear and convolutional layers, also of `dnn_to_bnn`.

    Reparameterization and Flipout layers have the same arrays. Plain layers are read too, as point estimates: Linear,
    Conv, LayerNorm and BatchNorm, torch's and Bayesian-Torch's. LSTM and transposed convolutions have no counterpart
    in `bbb.nn`; the arrays of the latter can have the shapes of a convolution's, from which nothing tells them apart.

    Args:
        network: the same layers of `bbb.nn`, in the order in which torch's `forward` uses them, including those without
            arrays (`bbb.nn.relu` for ReLU, `bbb.nn.flatten` for Flatten); Sequentials may be nested.
        state_dict: the result of `model.state_dict()`, or the path of a safetensors file of it.
        prior: the prior that the layers were made with, which `model.state_dict()` does not hold: of
            `prior_mean=0, prior_variance=0.5` it is `bbb.priors.Normal(0.0, 0.5)`, since Bayesian-Torch uses what it
            calls a variance as the standard deviation. None reads it from the buffers of the layers: pass
            `model.state_dict() | dict(model.named_buffers())`.
        likelihood: a likelihood, such as `bbb.likelihoods.Gaussian(std=0.5)`.
        names: for a module with named members, the member of each layer with arrays, such as ("fc1", "fc2") for
            "fc1.mu_weight" and so on. By default layer i is "i", as in a `Sequential`. If a state dict would fit under
            other names, the error says which names to pass.
        std: the standard deviations of a plain network, which has no Gaussian weights, as for `bayesianize`.

    Raises:
        InputError: if a key is missing or unexpected; if an array is not a finite floating-point one, is masked or
            holds no numbers; if a number leads to infinities or to a standard deviation of 0; if `names` are not one
            for each layer with arrays; if neither the argument nor the state dict has a prior; if a plain network comes
            without a `std`, since nothing would be random; or if a network with Gaussian weights comes with one.
        ShapeError: if the shape of an array differs from the layer's.
        ModelFileError: if the file cannot be read.
    """
    checks.outside("from_state_dict", state_dict=state_dict)
    found = read(FORMAT, network, state_dict, names)
    prior = prior_of(network, found, names) if prior is None else prior
    return from_arrays(network, found, prior=prior, likelihood=likelihood, std=std)


def to_state_dict(model: BNN, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return a model's arrays under Bayesian-Torch's names, for `load_state_dict` once each is a torch tensor.

    The prior is not among them, as it is not in Bayesian-Torch's own: make the layers with it.

    Args:
        model: a model of a network of `bbb.nn`. Point estimates get the names of torch's plain layers.
        names: as for `from_state_dict`.

    Raises:
        InputError: if the network is not one of `bbb.nn`, has a layer without a counterpart in torch or a normalisation
            with Gaussian weights, if the model is an ensemble or linearised, or if `names` are not one for each layer
            with arrays.
    """
    return to_arrays(FORMAT, model, names=names)
