"""The models of `cases`, made with the libraries themselves: importing this needs torch and both of them."""

import copy

import numpy as np
import torch
from bayesian_torch import layers as of_intel
from bayesian_torch.models.dnn_to_bnn import get_kl_loss
from blitz import modules as of_blitz
from blitz.losses import kl_divergence_from_nn

torch.set_num_threads(1)  # its threads wait by spinning, which is far slower than one where other work runs too


class Dense(torch.nn.Module):
    """Two layers with named members, the last registered first."""

    def __init__(self, first, last):
        super().__init__()
        self.fc2, self.fc1 = last, first

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


def images(conv, linear):
    """The network `cases.images`, of a library's layers."""
    return torch.nn.Sequential(
        conv(1, 2, kernel_size=(3, 3), padding=1, bias=False),
        torch.nn.BatchNorm2d(2),
        torch.nn.ReLU(),
        torch.nn.Sequential(conv(2, 2, kernel_size=(2, 2), stride=2, groups=2), torch.nn.Tanh()),
        torch.nn.Flatten(),
        linear(8, 3),
    ).eval()


def _prior(mean, std):
    return {"prior_mean": mean, "prior_variance": std}


def _mixture(weight, std1, std2):
    return {"prior_pi": weight, "prior_sigma_1": std1, "prior_sigma_2": std2}


def _narrow(layer):
    """Return a maker of BLiTZ's layers with the prior N(0, 0.25)."""
    return lambda *sizes, **options: layer(*sizes, **options, **_mixture(1, 0.5, 1.0))


MAKERS = {
    "bayesian-torch-dense": lambda: Dense(
        of_intel.LinearReparameterization(2, 4, **_prior(0.25, 0.5)), of_intel.LinearFlipout(4, 1, **_prior(0.0, 2.0))
    ),
    "bayesian-torch-images": lambda: images(of_intel.Conv2dReparameterization, of_intel.LinearReparameterization),
    "blitz-dense": lambda: copy.deepcopy(  # which parts each array of a layer from that of its sampler
        Dense(
            of_blitz.BayesianLinear(2, 4, **_mixture(0.25, 0.5, 0.125)),
            of_blitz.BayesianLinear(4, 1, bias=False, **_mixture(0.25, 0.5, 0.125)),
        )
    ),
    "blitz-images": lambda: images(_narrow(of_blitz.BayesianConv2d), _narrow(of_blitz.BayesianLinear)),
}


def made(name, seed=0):
    """Return the model of a case with random numbers of a sensible size in every array."""
    model, rng = MAKERS[name](), np.random.default_rng(seed)
    for module in model.modules():
        if hasattr(module, "dnn_to_bnn_flag"):
            module.dnn_to_bnn_flag = True  # its forward returns the outputs alone, as after `dnn_to_bnn`
    for key, value in model.state_dict().items():
        if "rho" in key:
            drawn = rng.uniform(-5, 0, value.shape)  # sigmas of 0.007 to 0.7
        elif key.endswith("running_var"):
            drawn = rng.uniform(0.5, 2, value.shape)
        elif key.endswith("num_batches_tracked"):
            drawn = np.asarray(7)
        elif key.endswith("bias_zero"):
            continue
        else:
            drawn = rng.standard_normal(value.shape) / np.sqrt(max(np.prod(value.shape[1:]), 1))
        with torch.no_grad():
            value.copy_(torch.tensor(drawn, dtype=value.dtype))
    return model


def arrays(model):
    """Return the state dict of a model as NumPy arrays."""
    return {key: value.numpy().copy() for key, value in model.state_dict().items()}


def buffers(model):
    """Return the buffers of a model, those that its state dict leaves out too, as NumPy arrays."""
    return {key: value.numpy().copy() for key, value in model.named_buffers()}


def at_means(model, x):
    """Return the outputs with every sigma 0."""
    still = copy.deepcopy(model)
    for key, value in still.state_dict().items():
        if "rho" in key:
            value.fill_(-1e4)
    return drawn(still, x, 1)[0][0]


@torch.no_grad()
def drawn(model, x, draws):
    """Return outputs (draws, rows, outputs), and what the library gives as the KL with each."""
    x, outputs, kls = torch.tensor(x), [], []
    for _ in range(draws):
        outputs.append(model(x).numpy())
        kls.append(float(get_kl_loss(model) or kl_divergence_from_nn(model)))
    return np.stack(outputs), np.array(kls)
