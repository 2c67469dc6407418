"""torchbnn's own recipe for classification (its README: iris, cross entropy and 0.01·KL, Adam): the same steps.

Its recipe for regression is the demo, which `test_parity_training` trains.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.networks import nn
from tests.parity.states import torch, torchbnn

datasets = pytest.importorskip("sklearn.datasets")

KL_WEIGHT, LEARNING_RATE = 0.01, 0.01
NETWORK = nn.sequential(nn.linear(4, 100), nn.relu, nn.linear(100, 3))
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


def recipe():
    """Return the network of the README; its sigmas start at half the prior's, where the KL has a gradient."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torchbnn.BayesLinear(0, 0.1, 4, 100), torch.nn.ReLU(), torchbnn.BayesLinear(0, 0.1, 100, 3)
    )
    for name, value in model.state_dict().items():
        if "log_sigma" in name:
            value.fill_(np.log(0.05))
    return model


# In float32 a unit within rounding of 0 may be on in one and off in the other, which more steps amplify: see
# `test_parity_training`.
@pytest.mark.parametrize(("dtype", "steps"), [("float32", 20), ("float64", 200)], indirect=["dtype"])
def test_same_noise_gives_same_training(dtype, torch_dtype, steps):
    x, y = datasets.load_iris(return_X_y=True)
    x = x.astype(dtype)
    model = recipe()
    start = bbb.torchbnn.from_state_dict(
        NETWORK, model.state_dict(), prior=bbb.priors.Normal(0.0, 0.1), likelihood=bbb.likelihoods.Categorical()
    )
    noise = jax.vmap(start.posterior.noise)(jax.random.split(jax.random.key(0), steps))
    torch_training(model, noise, torch.tensor(x), torch.tensor(y), steps)
    ours = bbb.torchbnn.to_state_dict(jax_training(start, noise, jnp.asarray(x), jnp.asarray(y, "int32")))
    theirs = {name: value.numpy() for name, value in model.state_dict().items() if not name.endswith("_eps")}
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=TOLERANCE[dtype], err_msg=name)
    moved = theirs["0.weight_mu"] - np.asarray(start.posterior.mean[0]["weight"])
    assert np.max(np.abs(moved)) > 5 * LEARNING_RATE


def torch_training(model, noise, x, y, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-8)
    cross_entropy, divergence = torch.nn.CrossEntropyLoss(), torchbnn.BKLLoss(reduction="mean")
    parts = [(model[i], part, torch.tensor(np.asarray(noise[i][part]))) for i in (0, 2) for part in ("weight", "bias")]
    for step in range(steps):
        for layer, part, eps in parts:
            setattr(layer, f"{part}_eps", eps[step])
        cost = cross_entropy(model(x), y) + KL_WEIGHT * divergence(model)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()


def jax_training(start, noise, x, y):
    optimizer = optax.adam(LEARNING_RATE, eps=1e-8)

    def cost(posterior, eps):
        model = bbb.BNN(start.apply, posterior, start.prior, start.likelihood)
        outputs = bbb.forwards.weight_sampling(start.apply).evaluate(eps, posterior, x)[None]
        rows = jnp.ones(len(x), x.dtype)
        return bbb.torchbnn.cross_entropy_cost(model, outputs, y, rows, len(x), KL_WEIGHT).total

    def step(carry, eps):
        posterior, state = carry
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, state = optimizer.update(jax.grad(cost)(posterior, eps), state)
            return (optax.apply_updates(posterior, updates), state), None

    @jax.jit
    def train(posterior, noise):
        return jax.lax.scan(step, (posterior, optimizer.init(posterior)), noise)[0][0]

    return bbb.BNN(start.apply, train(start.posterior, noise), start.prior, start.likelihood)
