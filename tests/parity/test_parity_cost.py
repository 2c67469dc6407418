"""The KL, the cost, and their gradients: the same numbers from both on the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from tests.parity import pairs
from tests.parity.pairs import Net, torch, torchbnn

RELATIVE = {"float32": 1e-6, "float64": 1e-10}
KL_WEIGHT = 0.01
kl = jax.jit(bbb.priors.kl)  # one program for both reductions of a network, instead of one for each operation
kl_gradient = jax.jit(jax.grad(bbb.priors.kl))

NETS = [
    Net.of(1, 8, 1),
    Net.of(1, 32, 1, std=1.0),
    Net.of(3, 16, 2, mean=0.3),
    Net.of(1, 16, 1, bias=False),
    Net.of(4, 3, mean=-0.5, std=2.0),
    Net.of(2, 16, 16, 1),
    Net((2, 8, 4, 1), prior_means=(0.0, 0.2, -0.1), prior_stds=(0.1, 0.5, 1.0)),
    Net((5, 12, 3), prior_means=(0.1, -0.3), prior_stds=(0.05, 3.0)),
    Net((3, 10, 10, 2), prior_means=(1.0, 0.0, -1.0), prior_stds=(0.2, 0.3, 0.4), bias=False),
    Net.of(1, 1000, 1),
]


@pytest.fixture(params=range(len(NETS)), ids=[str(net) for net in NETS])
def case(request):
    """One of ten random networks, and the seed of its numbers."""
    return NETS[request.param], request.param


# The reduction is all that may differ: "sum" is bbb's KL in nats, "mean" the same over the number of weights.
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_kl_is_bkl_loss(case, dtype, torch_dtype, reduction):
    net, seed = case
    means, log_stds, *_ = pairs.numbers(net, seed, dtype)
    ours = kl(*posterior_and_prior(net, means, log_stds))
    if reduction == "mean":
        ours = ours / sum(map(np.size, means))
    theirs = torchbnn.BKLLoss(reduction=reduction)(pairs.torch_model(net, means, log_stds))
    assert ours.dtype == dtype
    assert theirs.dtype == torch_dtype
    np.testing.assert_allclose(ours, theirs.item(), rtol=RELATIVE[dtype])


# Training follows the gradient, so equal values are not enough: one for every mean and every log sigma.
def test_kl_gradient_is_bkl_losses(case, dtype, torch_dtype):
    net, seed = case
    means, log_stds, *_ = pairs.numbers(net, seed, dtype)
    posterior, prior = posterior_and_prior(net, means, log_stds)
    model = pairs.torch_model(net, means, log_stds)
    torchbnn.BKLLoss(reduction="sum")(model).backward()
    ours = pairs.jax_posterior(kl_gradient(posterior, prior))
    assert pairs.worst(pairs.torch_gradients(model), ours) < RELATIVE[dtype]


# The same ε on both sides leaves no randomness, so the whole cost must agree, and what training does with it.
def test_cost_and_its_gradient_are_torchbnns(case, dtype, torch_dtype):
    net, seed = case
    means, log_stds, eps, x, y = pairs.numbers(net, seed, dtype)

    model = pairs.torch_model(net, means, log_stds)
    pairs.freeze(model, eps)
    squares = torch.nn.MSELoss()(model(torch.tensor(x)), torch.tensor(y))
    theirs = squares + KL_WEIGHT * torchbnn.BKLLoss(reduction="mean")(model)
    theirs.backward()

    def cost(posterior):
        ours = bbb.BNN(jax_model.apply, posterior, jax_model.prior, jax_model.likelihood)
        outputs = bbb.forwards.weight_sampling(ours.apply).evaluate(pairs.to_tree(net, eps), posterior, jnp.asarray(x))
        rows = jnp.ones(len(x), dtype)
        return bbb.torchbnn.mse_cost(ours, outputs[None], jnp.asarray(y), rows, len(x), KL_WEIGHT).total

    jax_model = pairs.jax_model(net, means, log_stds)
    ours, gradient = jax.jit(jax.value_and_grad(cost))(jax_model.posterior)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs.item(), rtol=RELATIVE[dtype])
    assert pairs.worst(pairs.torch_gradients(model), pairs.jax_posterior(gradient)) < RELATIVE[dtype]


# Why the tests change torch's default dtype: torchbnn adds up in it, whatever the model's dtype, and loses digits.
def test_torchbnn_adds_the_kl_of_a_float64_model_in_float32():
    net = Net.of(1, 8, 1)
    means, log_stds, *_ = pairs.numbers(net, 0, "float64")
    model = pairs.torch_model(net, means, log_stds).double()
    assert torchbnn.BKLLoss(reduction="sum")(model).dtype == torch.float32


# Where q = p both must be at their least; bbb's is 0 exactly, torchbnn's to rounding.
def test_kl_of_the_prior_from_itself_is_zero(dtype, torch_dtype):
    net = Net.of(1, 32, 1, mean=0.3, std=0.1)
    means = [np.full(shape, 0.3, dtype) for shape in net.shapes]
    log_stds = [np.full(shape, np.log(np.asarray(0.1, dtype))) for shape in net.shapes]
    assert bbb.priors.kl(*posterior_and_prior(net, means, log_stds)) == 0.0
    theirs = torchbnn.BKLLoss(reduction="sum")(pairs.torch_model(net, means, log_stds)).item()
    assert abs(theirs) < RELATIVE[dtype] * sum(map(np.size, means))


def posterior_and_prior(net, means, log_stds):
    model = pairs.jax_model(net, means, log_stds)
    return model.posterior, model.prior
