"""One network in both worlds: described once, with the same numbers for bbb and for torchbnn.

A `Net` is a fully connected network with a prior for each linear layer. Arrays have one flat order,

    layer 0 weight (out, in), layer 0 bias (out,), layer 1 weight, ...

and means, log sigmas and ε are lists of arrays in it. torch's own order is mean, log sigma of each array in turn.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import bbb

torch = pytest.importorskip("torch")
torchbnn = pytest.importorskip("torchbnn")

torch.set_num_threads(1)  # its threads wait by spinning, which is far slower than one where other work runs too


@dataclasses.dataclass(frozen=True)
class Net:
    """Sizes such as (1, 1000, 1), and a prior mean and std for each linear layer."""

    sizes: tuple
    prior_means: tuple
    prior_stds: tuple
    bias: bool = True
    activation: str = "relu"

    @classmethod
    def of(cls, *sizes, mean=0.0, std=0.1, **options):
        """Make a network of one prior."""
        layers = len(sizes) - 1
        return cls(sizes, (mean,) * layers, (std,) * layers, **options)

    @property
    def layers(self):
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    @property
    def shapes(self):
        """The shape of every array, in the flat order."""
        return [s for i, o in self.layers for s in ([(o, i), (o,)] if self.bias else [(o, i)])]

    def __str__(self):
        return "-".join(map(str, self.sizes)) + f" {self.activation}" + ("" if self.bias else " without bias")


def numbers(net, seed, dtype, rows=20):
    """Draw all a comparison needs, in dtype: means and log sigmas (flat), ε (flat), x (rows, in), y (rows, out)."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    means = [normal(*s) / np.sqrt(s[-1]).astype(dtype) for s in net.shapes]
    log_stds = [0.5 * normal(*s) - 2 for s in net.shapes]  # sigmas of 0.03 to 0.6
    return means, log_stds, [normal(*s) for s in net.shapes], normal(rows, net.sizes[0]), normal(rows, net.sizes[-1])


def to_tree(net, arrays):
    """Arrange arrays in flat order as the parameters of `jax_network(net)`."""
    names = ("weight", "bias") if net.bias else ("weight",)
    arrays = iter(map(jnp.asarray, arrays))
    tree = [{name: next(arrays) for name in names} for _ in net.layers]
    return interleave(tree)


def from_tree(tree):
    """Undo `to_tree`, as NumPy arrays."""
    return [np.asarray(layer[name]) for layer in tree for name in ("weight", "bias") if layer and name in layer]


def interleave(per_layer):
    """Put the empty parameters of an activation between those of the linear layers."""
    return tuple(part for layer in per_layer for part in (layer, ()))[:-1]


def jax_network(net):
    activation = {"relu": bbb.nn.relu, "tanh": bbb.nn.tanh}[net.activation]
    linears = [bbb.nn.linear(i, o, bias=net.bias, init="torchbnn") for i, o in net.layers]
    return bbb.nn.sequential(*[part for layer in linears for part in (layer, activation)][:-1])


def jax_model(net, means, log_stds):
    """Make the bbb model with these numbers."""
    posterior = bbb.MeanField(to_tree(net, means), to_tree(net, log_stds))
    prior = bbb.priors.Normal(interleave(net.prior_means), interleave(net.prior_stds))
    return bbb.BNN(jax_network(net).apply, posterior, prior, bbb.likelihoods.Gaussian(1.0))


def torch_model(net, means, log_stds):
    """Make the torchbnn model with these numbers."""
    activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[net.activation]
    layers = []
    for (i, o), mean, std in zip(net.layers, net.prior_means, net.prior_stds, strict=True):
        layers += [torchbnn.BayesLinear(mean, std, i, o, bias=net.bias), activation()]
    model = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for (mu, log_sigma), mean, log_std in zip(torch_arrays(model), means, log_stds, strict=True):
            mu.copy_(torch.tensor(mean))
            log_sigma.copy_(torch.tensor(log_std))
    return model


def torch_arrays(model):
    """Return (mu, log_sigma) of every array in the flat order."""
    parameters = list(model.parameters())
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def freeze(model, eps):
    """Fix the ε of every array, so that torchbnn's forward is not random."""
    eps = iter(eps)
    for layer in model[::2]:
        layer.weight_eps = torch.tensor(next(eps))
        if layer.bias:
            layer.bias_eps = torch.tensor(next(eps))


def torch_posterior(model):
    """Return the means and log sigmas of a torchbnn model, flat, as NumPy arrays."""
    pairs = torch_arrays(model)
    return [mu.detach().numpy().copy() for mu, _ in pairs], [s.detach().numpy().copy() for _, s in pairs]


def torch_gradients(model):
    """Return the gradients by means and by log sigmas, flat; 0 where the cost does not depend on an array."""
    return tuple(
        [np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in some]
        for some in zip(*torch_arrays(model), strict=True)
    )


def jax_posterior(posterior):
    """Return the means and log sigmas of a MeanField (or of its gradient), flat, as NumPy arrays."""
    return from_tree(posterior.mean), from_tree(posterior.log_std)


def worst(pair, other):
    """Return the largest difference of two gradients (by means, by log sigmas), over the largest number of its kind.

    Not over each number: the gradient by a log sigma is a difference, exp(2r) − 1, and may be small by chance.
    """

    def of_kind(some, others):
        largest = max(np.max(np.abs(a)) for a in some)
        return max(np.max(np.abs(a - b)) for a, b in zip(some, others, strict=True)) / largest

    return max(map(of_kind, pair, other))
