"""State dicts, there and back: exact, of any Sequential, frozen or not, plain layers too; and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import bbb
from bbb.networks import nn
from bbb.torchbnn.states import from_state_dict, frozen_noise, to_state_dict
from tests.parity import states
from tests.parity.states import torch, torchbnn

KEY = jax.random.key(0)
NETWORK = states.image_network()
HOW = {"prior": bbb.priors.Normal(*states.PRIOR), "likelihood": bbb.likelihoods.Gaussian(1.0)}


@pytest.fixture
def torch_model(dtype, torch_dtype):
    return states.fill(states.image_model(), 0).to(torch_dtype)


def test_the_round_trip_is_exact(torch_model):
    ours = to_state_dict(states.read(NETWORK, torch_model))
    assert list(ours) == list(torch_model.state_dict())
    assert {name: value.dtype for name, value in ours.items()} == {
        name: value.numpy().dtype for name, value in torch_model.state_dict().items()
    }
    other = states.image_model()
    other.load_state_dict({name: torch.tensor(value) for name, value in ours.items()})
    assert set(ours) == set(other.state_dict())
    for name, value in torch_model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy())


def test_the_round_trip_of_a_frozen_model_is_exact(torch_model):
    states.freeze(torch_model, 1)
    noise = frozen_noise(NETWORK, torch_model.state_dict())
    ours = to_state_dict(states.read(NETWORK, torch_model), noise)
    theirs = torch_model.state_dict()
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value.numpy())


def test_plain_layers_become_point_estimates_and_come_back():
    model = torch.nn.Sequential(
        torch.nn.Conv1d(2, 3, 2),
        torch.nn.BatchNorm1d(3),
        torch.nn.LayerNorm(4),
        torch.nn.Flatten(),
        torch.nn.Sequential(torch.nn.Linear(12, 5, bias=False), torch.nn.Tanh()),
        torchbnn.BayesLinear(*states.PRIOR, 5, 1),
    )
    states.fill(model, 0).eval()
    network = nn.sequential(
        nn.conv(2, 3, 2, dims=1),
        nn.batch_norm(3),
        nn.layer_norm(4),
        nn.flatten,
        nn.sequential(nn.linear(12, 5, bias=False), nn.tanh),
        nn.linear(5, 1),
    )
    ours = states.read(network, model)
    gaussian = [name for name in to_state_dict(ours) if name.endswith("_log_sigma")]
    assert gaussian == ["5.weight_log_sigma", "5.bias_log_sigma"]
    assert len(jax.tree.leaves(ours.posterior.log_std)) == 2
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(to_state_dict(ours)[name], value.numpy())
    x = np.random.default_rng(0).normal(size=(3, 2, 5)).astype("float32")
    states.freeze(model, 1)
    theirs = model(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(states.evaluate(network, model, ours.posterior, x), theirs, rtol=0, atol=1e-5)


def test_a_safetensors_file_holds_the_same(tmp_path):
    model = states.freeze(states.fill(states.image_model(), 0), 1)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(arrays, path)
    for source in (path, str(path), arrays, {name: jnp.asarray(value) for name, value in arrays.items()}):
        ours = to_state_dict(from_state_dict(NETWORK, source, **HOW), frozen_noise(NETWORK, source))
        for name, value in arrays.items():
            np.testing.assert_array_equal(ours[name], value)


def test_what_was_read_does_not_change_when_the_torch_model_does():
    model = states.fill(torchbnn.BayesLinear(*states.PRIOR, 2, 1), 0)
    ours = states.read(nn.linear(2, 1), model)
    before = np.array(ours.posterior.mean["weight"])
    with torch.no_grad():
        model.weight_mu.add_(1.0)
    np.testing.assert_array_equal(ours.posterior.mean["weight"], before)


# What bbb changed is read by torchbnn, and gives the same there.
def test_a_model_that_was_read_and_changed_goes_back():
    model = torch.nn.Sequential(
        torchbnn.BayesLinear(*states.PRIOR, 2, 8), torch.nn.ReLU(), torchbnn.BayesLinear(*states.PRIOR, 8, 1)
    )
    ours = states.read(nn.sequential(nn.linear(2, 8), nn.relu, nn.linear(8, 1)), states.fill(model, 0))
    ours = jax.tree.map(lambda leaf: leaf + 0.1, ours)
    noise = ours.posterior.noise(KEY)
    torchbnn.utils.freeze(model)
    model.load_state_dict({name: torch.tensor(v) for name, v in to_state_dict(ours, noise).items()})
    x = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    expected = bbb.forwards.weight_sampling(ours.apply).evaluate(noise, ours.posterior, jnp.asarray(x))
    np.testing.assert_allclose(model(torch.tensor(x)).detach().numpy(), expected, rtol=0, atol=1e-5)


# --- bad input -------------------------------------------------------------------------------------------------------

STATE = {name: value.numpy() for name, value in states.fill(states.image_model(), 0).state_dict().items()}
LINEAR = nn.linear(2, 1)
PLAIN = {"weight": np.ones((1, 2), "float32"), "bias": np.ones(1, "float32")}


def without(*names):
    return {name: value for name, value in STATE.items() if name not in names}


@pytest.mark.parametrize(
    ("network", "state", "error", "text"),
    [
        (
            NETWORK,
            without("0.bias_mu"),
            bbb.errors.InputError,
            "'0.bias' or '0.bias_mu' and '0.bias_log_sigma' in the state",
        ),
        (
            NETWORK,
            without("6.weight_log_sigma"),
            bbb.errors.InputError,
            "got '6.weight_mu', '6.bias_mu', '6.bias_log_sigma'",
        ),
        (NETWORK, without("1.running_var"), bbb.errors.InputError, "Expected '1.running_var' in the state dict"),
        (NETWORK, {}, bbb.errors.InputError, "got an empty one"),
        (NETWORK, STATE | {"7.weight_ih_l0": 1.0}, bbb.errors.InputError, "got '7.weight_ih_l0' besides"),
        (
            NETWORK,
            STATE | {"0.weight": STATE["0.weight_mu"]},
            bbb.errors.InputError,
            "'0.weight_log_sigma', '0.weight_mu' be",
        ),
        (
            NETWORK,
            STATE | {"0.bias_mu": np.zeros(5, "float32")},
            bbb.errors.ShapeError,
            "'0.bias_mu' of shape (4,), got (5,)",
        ),
        (
            NETWORK,
            STATE | {"0.bias_mu": np.full(4, np.nan, "float32")},
            bbb.errors.InputError,
            "'0.bias_mu' to be finite",
        ),
        (
            LINEAR,
            {"weight": [[1, 2]], "bias": [1]},
            bbb.errors.InputError,
            "'weight' of floating-point numbers, got int64",
        ),
        (LINEAR, PLAIN | {"bias": np.ones(1)}, bbb.errors.InputError, "'bias' of a dtype JAX is set to, got float64"),
        (
            LINEAR,
            PLAIN | {"bias": [[1.0], 2.0]},
            bbb.errors.InputError,
            "'bias' to be an array, got one that NumPy cannot",
        ),
        (LINEAR, PLAIN | {"bias": torch.ones(1).bfloat16()}, bbb.errors.InputError, "NumPy cannot read"),
        (
            nn.residual(LINEAR),
            PLAIN,
            bbb.errors.InputError,
            "linear, conv, batch_norm, layer_norm, sequential, got 'residual'",
        ),
        (lambda x: x, PLAIN, bbb.errors.InputError, "a network of bbb.nn, got a function"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(network, state, error, text):
    with pytest.raises(error) as caught:
        from_state_dict(network, state, **HOW)
    assert text in str(caught.value)


def test_a_model_that_was_not_frozen_has_no_noise():
    with pytest.raises(bbb.errors.InputError, match=r"'0\.weight_eps' in the state dict of a frozen model, got none"):
        frozen_noise(NETWORK, STATE)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(bbb.errors.ModelFileError, match=r"to be a safetensors file of a state dict, got: No such file"):
        from_state_dict(LINEAR, tmp_path / "none", **HOW)
    torch.save(PLAIN, tmp_path / "model.pt")
    with pytest.raises(bbb.errors.ModelFileError, match=r"torch\.load it, and pass the dict"):
        from_state_dict(LINEAR, tmp_path / "model.pt", **HOW)


def test_only_networks_of_bbb_nn_have_names_in_torch():
    plain = bbb.bayesianize(lambda w, x: x @ w, jnp.ones((2, 1)), **HOW)
    with pytest.raises(bbb.errors.InputError, match=r"a network of bbb\.nn, got a function"):
        to_state_dict(plain)
    model = from_state_dict(LINEAR, {f"{n}_{p}": v for n, v in PLAIN.items() for p in ("mu", "log_sigma")}, **HOW)
    with pytest.raises(bbb.errors.ShapeError, match="noise leaf 'bias' to have the shape"):
        to_state_dict(model, {"weight": jnp.ones((1, 2)), "bias": jnp.ones(2)})
