"""Models from torchbnn's state dicts, and back."""

from collections.abc import Sequence

import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import Likelihood
from bbb.model import BNN
from bbb.networks import nn
from bbb.priors.protocol import Prior
from bbb.torch_states import Format, Keys, StateDict, arrays_of, from_arrays, read, to_arrays

_GAUSSIANS = {name: Keys(f"{name}_mu", f"{name}_log_sigma", f"{name}_eps") for name in ("weight", "bias")}

FORMAT = Format("torchbnn", dict.fromkeys((nn.Linear, nn.Conv, nn.BatchNorm, nn.LayerNorm), _GAUSSIANS))
"""torchbnn writes log σ itself, as bbb does, and the ε of frozen layers."""


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
    found = read(FORMAT, network, state_dict, names)
    return from_arrays(network, found, prior=prior, likelihood=likelihood, std=std)


def frozen_noise(network: nn.Layer, state_dict: StateDict, names: Sequence[str] | None = None) -> Tree:
    """Return the ε of a frozen torchbnn model, a tree like `posterior.log_std`.

    `bbb.forwards.weight_sampling(network.apply).evaluate(noise, model.posterior, x)` then equals the frozen model's
    output. For `names`, see `from_state_dict`.

    Raises:
        InputError: as for `from_state_dict`, and if the model was not frozen.
    """
    checks.outside("frozen_noise", state_dict=state_dict)
    found = read(FORMAT, network, state_dict, names)
    for slot, name, log_std, eps in arrays_of(network, names, found.log_std, found.noise):
        if log_std is not None and eps is None:
            fail(
                InputError,
                f"'{slot.prefix}{name}_eps' in the state dict of a frozen model",
                "none",
                "Call torchbnn.utils.freeze(model) before model.state_dict(), or draw with bbb.posteriors.sample.",
            )
    return found.noise


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
    return to_arrays(FORMAT, model, noise, names)
