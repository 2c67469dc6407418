"""Any `Sequential` of torchbnn's and torch's layers in both worlds, by way of its state dict.

Unlike `pairs`, which is given the numbers of fully connected networks, this reads them with `bbb.torchbnn`.
"""

import jax
import numpy as np
import pytest

import bbb
from bbb.networks import nn

torch = pytest.importorskip("torch")
torchbnn = pytest.importorskip("torchbnn")

torch.set_num_threads(1)  # its threads wait by spinning, which is far slower than one where other work runs too

PRIOR = 0.1, 0.3  # the mean and the sigma of every layer, neither of them a default


def fill(model, seed):
    """Return every array of a torch model random numbers of a sensible size."""
    rng = np.random.default_rng(seed)
    for name, value in model.state_dict().items():
        if "log_sigma" in name:
            numbers = 0.5 * rng.standard_normal(value.shape) - 2  # sigmas of 0.03 to 0.6
        elif "running_var" in name:
            numbers = rng.uniform(0.5, 2, value.shape)
        elif "num_batches" in name:
            numbers = np.asarray(7)
        else:
            numbers = rng.standard_normal(value.shape) / np.sqrt(max(np.prod(value.shape[1:]), 1))
        with torch.no_grad():
            value.copy_(torch.tensor(numbers, dtype=value.dtype))
    return model


def image_model(**options):
    """Return a convolutional torchbnn network with batch normalisation, for images (1, 6, 6) and three classes."""
    return torch.nn.Sequential(
        torchbnn.BayesConv2d(*PRIOR, 1, 4, 3, padding=1, **options),
        torchbnn.BayesBatchNorm2d(*PRIOR, 4),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Sequential(torchbnn.BayesConv2d(*PRIOR, 4, 4, 2, stride=1, groups=2, bias=False), torch.nn.Tanh()),
        torch.nn.Flatten(),
        torchbnn.BayesLinear(*PRIOR, 16, 3),
    )


def image_network():
    """Return the same network of `bbb.nn`."""
    return nn.sequential(
        nn.conv(1, 4, 3, padding=1),
        nn.batch_norm(4),
        nn.relu,
        nn.max_pool(2),
        nn.sequential(nn.conv(4, 4, 2, groups=2, bias=False), nn.tanh),
        nn.flatten,
        nn.linear(16, 3),
    )


def read(network, model, likelihood=None):
    """Read a torch model into bbb."""
    return bbb.torchbnn.from_state_dict(
        network,
        model.state_dict(),
        prior=bbb.priors.Normal(*PRIOR),
        likelihood=bbb.likelihoods.Gaussian(1.0) if likelihood is None else likelihood,
    )


def freeze(model, seed):
    """Freeze a torchbnn model with an ε that the seed alone says."""
    torchbnn.utils.freeze(model)
    rng = np.random.default_rng(seed)
    for name, value in model.state_dict().items():
        if name.endswith("_eps"):
            value.copy_(torch.tensor(rng.standard_normal(value.shape), dtype=value.dtype))
    return model


def gradients(model):
    """Return the gradients of a torch model, by name; 0 where the cost does not depend on an array."""
    return {
        name: np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for name, p in model.named_parameters()
    }


def named(network, posterior):
    """Return the arrays of a MeanField, or of its gradient, by torch's names."""
    model = bbb.BNN(network.apply, posterior, bbb.priors.Normal(), bbb.likelihoods.Gaussian(1.0))
    return bbb.torchbnn.to_state_dict(model)


def worst(theirs, ours):
    """Return the largest difference of two gradients over the largest number of its kind: by means, by log sigmas."""
    kinds = {False: [], True: []}
    for name in theirs:
        kinds["log_sigma" in name].append(name)
    return max(
        max(np.max(np.abs(theirs[n] - ours[n])) for n in names) / max(np.max(np.abs(theirs[n])) for n in names)
        for names in kinds.values()
        if names
    )


def images(dtype, rows=5, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 1, 6, 6)).astype(dtype)


def evaluate(network, model, posterior, x):
    """Run bbb's network with the ε that a frozen torchbnn model keeps."""
    noise = bbb.torchbnn.frozen_noise(network, model.state_dict())
    return jax.jit(bbb.forwards.weight_sampling(network.apply).evaluate)(noise, posterior, x)
