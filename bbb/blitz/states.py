"""Models from BLiTZ's state dicts, and back."""

from collections.abc import Sequence

import numpy as np

from bbb import checks
from bbb.blitz.format import FORMAT
from bbb.core.tree import Tree
from bbb.likelihoods.protocol import Likelihood
from bbb.model import BNN
from bbb.networks import nn
from bbb.priors.protocol import Prior
from bbb.torch_states import StateDict, from_arrays, read, to_arrays


def from_state_dict(
    network: nn.Layer,
    state_dict: StateDict,
    *,
    prior: Prior,
    likelihood: Likelihood,
    names: Sequence[str] | None = None,
    std: Tree | None = None,
) -> BNN:
    """Return a model made from a state dict of BLiTZ's BayesianLinear and BayesianConv1d, 2d and 3d.

    torch's plain Linear, Conv, BatchNorm and LayerNorm are read too, as point estimates. Embedding, LSTM and GRU have
    no counterpart in `bbb.nn`. What a layer draws from is read: where its own arrays differ from its sampler's, as
    after `.to(...)`, a copy or `MOPED_`, those of the sampler, while BLiTZ's `freeze_` predicts with its own.

    Args:
        network: the same layers of `bbb.nn`, in the order in which torch's `forward` uses them, including those without
            arrays (`bbb.nn.relu` for ReLU, `bbb.nn.flatten` for Flatten); Sequentials may be nested. It must say which
            `BayesianLinear` has no bias: the state dict has one in any case.
        state_dict: the result of `model.state_dict()`, or the path of a safetensors file of it.
        prior: the prior that the layers were made with, which the state dict does not hold: `bbb.priors.Normal(0.0,
            prior_sigma_1)` with BLiTZ's default `prior_pi=1`, otherwise `bbb.priors.ScaleMixture(prior_pi,
            prior_sigma_1, prior_sigma_2)`.
        likelihood: a likelihood, such as `bbb.likelihoods.Gaussian(std=0.5)`.
        names: for a module with named members, the member of each layer with arrays, such as ("fc1", "fc2") for
            "fc1.weight_mu" and so on. By default layer i is "i", as in a `Sequential`. If a state dict would fit under
            other names, the error says which names to pass.
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


def to_state_dict(model: BNN, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return a model's arrays under BLiTZ's names, for `load_state_dict` once each is a torch tensor.

    The prior is not among them, as it is not in BLiTZ's own: make the layers with it.

    Args:
        model: a model of a network of `bbb.nn`. Point estimates get the names of torch's plain layers.
        names: as for `from_state_dict`.

    Raises:
        InputError: if the network is not one of `bbb.nn`, has a layer without a counterpart in torch or a normalisation
            with Gaussian weights, if the model is an ensemble or linearised, or if `names` are not one for each layer
            with arrays.
    """
    return to_arrays(FORMAT, model, names=names)
