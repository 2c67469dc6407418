"""A convolutional network with batch normalisation: the same numbers from both, and the state dict there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.core.jit import jit
from tests.parity import states
from tests.parity.states import torch, torchbnn

RELATIVE = {"float32": 1e-6, "float64": 1e-10}
KL_WEIGHT = 0.01
KEY = jax.random.key(0)


@pytest.fixture
def torch_model(dtype, torch_dtype):
    return states.fill(states.image_model(), 0).to(torch_dtype).eval()


NETWORK = states.image_network()


# The forward passes differ in nothing but the order of their sums.
def test_same_noise_gives_same_outputs(torch_model, dtype):
    states.freeze(torch_model, 1)
    x = states.images(dtype)
    theirs = torch_model(torch.tensor(x)).detach().numpy()
    ours = states.evaluate(NETWORK, torch_model, states.read(NETWORK, torch_model).posterior, x)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.max(np.abs(theirs)))


# In training the batch's statistics take the place of the running ones, and move them.
def test_same_noise_gives_same_outputs_and_statistics_in_training(torch_model, dtype):
    states.freeze(torch_model, 1)
    posterior = states.read(NETWORK, torch_model).posterior
    weights = posterior.weights(bbb.torchbnn.frozen_noise(NETWORK, torch_model.state_dict()))
    x = states.images(dtype)
    theirs = torch_model.train()(torch.tensor(x)).detach().numpy()
    ours, updates = jit(NETWORK.train)(weights, x, KEY)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.max(np.abs(theirs)))
    after = torch_model.state_dict()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        np.testing.assert_allclose(updates[1][name], after[f"1.{name}"].numpy(), rtol=1e-5)


# The running statistics have no Gaussian and no KL, and are no part of P.
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_kl_is_bkl_loss(torch_model, dtype, reduction):
    model = states.read(NETWORK, torch_model)
    ours = jit(bbb.priors.kl)(model.posterior, model.prior)
    if reduction == "mean":
        ours = ours / (4 * 9 + 4 + 4 + 4 + 4 * 2 * 4 + 16 * 3 + 3)
    theirs = torchbnn.BKLLoss(reduction=reduction)(torch_model).item()
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs, rtol=RELATIVE[dtype])


@pytest.mark.parametrize(
    ("dtype", "loss", "reduction"),
    [
        ("float32", "mse", "sum"),
        ("float32", "cross_entropy", "mean"),
        pytest.param("float64", "mse", "sum", marks=pytest.mark.slow),
        pytest.param("float64", "cross_entropy", "mean", marks=pytest.mark.slow),
    ],
    indirect=["dtype"],
)
def test_cost_and_its_gradient_are_torchbnns(torch_model, dtype, loss, reduction):
    states.freeze(torch_model, 1)
    x, rng = states.images(dtype), np.random.default_rng(2)
    y = rng.normal(size=(5, 3)).astype(dtype) if loss == "mse" else rng.integers(0, 3, 5)
    theirs = torch.nn.MSELoss() if loss == "mse" else torch.nn.CrossEntropyLoss()
    total = theirs(torch_model(torch.tensor(x)), torch.tensor(y))
    total = total + KL_WEIGHT * torchbnn.BKLLoss(reduction=reduction)(torch_model)
    total.backward()
    start = states.read(NETWORK, torch_model)
    noise = bbb.torchbnn.frozen_noise(NETWORK, torch_model.state_dict())

    def cost(posterior):
        outputs = bbb.forwards.weight_sampling(NETWORK.apply).evaluate(noise, posterior, x)[None]
        model = bbb.BNN(start.apply, posterior, start.prior, start.likelihood)
        return bbb.torchbnn.TorchbnnCost(loss, reduction)(
            model, outputs, jnp.asarray(y), jnp.ones(5, dtype), 5, KL_WEIGHT
        ).total

    ours, gradient = jit(jax.value_and_grad(cost))(start.posterior)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, total.item(), rtol=RELATIVE[dtype])
    assert states.worst(states.gradients(torch_model), states.named(NETWORK, gradient)) < 10 * RELATIVE[dtype]


# The draws are the only thing that may differ: means and sds of 15 outputs, by 5 standard errors at the worst.
@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_draws_agree(dtype, torch_dtype):
    model = states.fill(states.image_model(), 0).eval()
    x, draws = states.images("float32"), 10_000
    ours = np.float64(bbb.draws(KEY, states.read(NETWORK, model), x, draws=draws))
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = np.stack([model(torch.tensor(x)).numpy() for _ in range(draws)]).astype(np.float64)
    a, b = (estimates(sample) for sample in (ours, theirs))
    assert np.max(np.abs(a[0] - b[0]) / np.hypot(a[1], b[1])) < 5
    assert np.max(np.abs(a[2] - b[2]) / np.hypot(a[3], b[3])) < 5


def estimates(sample):
    """Return mean, its standard error, standard deviation, its standard error, of draws along the first axis."""
    centred = sample - sample.mean(0)
    std = sample.std(0)
    fourth = (centred**4).mean(0) - std**4
    return sample.mean(0), std / np.sqrt(len(sample)), std, np.sqrt(fourth / len(sample)) / (2 * std)
