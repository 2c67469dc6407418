"""torchbnn 1.2 as it is: every habit that bbb relies on, mirrors or warns of, held so that a change is noticed."""

import jax
import numpy as np
import pytest

import bbb
from bbb.networks import nn
from tests.parity import states
from tests.parity.states import torch, torchbnn

KEY = jax.random.key(0)
LAYERS = {
    "linear": lambda: torchbnn.BayesLinear(0.3, 0.2, 9, 4000),
    "conv": lambda: torchbnn.BayesConv2d(0.3, 0.2, 4, 2000, (3, 2), groups=2),
    "batch norm": lambda: torchbnn.BayesBatchNorm2d(0.3, 0.2, 4000),
}
layers = pytest.mark.parametrize("name", LAYERS)


def uniform_errors(sample, low, high):
    """Say how many standard errors the mean and the mean square are off those of U(low, high), all inside it."""
    unit = 2 * (np.float64(sample).ravel() - low) / (high - low) - 1
    assert np.abs(unit).max() <= 1
    square = abs((unit**2).mean() - 1 / 3) / np.sqrt((1 / 5 - 1 / 9) / unit.size)
    return max(abs(unit.mean()) * np.sqrt(3 * unit.size), square)


def numpy(parameter):
    return parameter.detach().numpy()


# --- how it starts ---------------------------------------------------------------------------------------------------


@layers
def test_one_prior_for_weight_and_bias_and_the_sigmas_start_at_it(name):
    layer = LAYERS[name]()
    assert (layer.prior_mu, layer.prior_sigma) == (0.3, 0.2)
    for log_sigma in (layer.weight_log_sigma, layer.bias_log_sigma):
        np.testing.assert_allclose(np.exp(numpy(log_sigma)), 0.2, rtol=1e-6)


def test_linear_means_start_uniform_within_1_over_root_in():
    torch.manual_seed(0)
    layer = LAYERS["linear"]()
    assert uniform_errors(numpy(layer.weight_mu), -1 / 3, 1 / 3) < 5
    assert uniform_errors(numpy(layer.bias_mu), -1 / 3, 1 / 3) < 5


# Neither the groups nor the second size of the kernel count: a fan-in would be 2·3·2.
def test_conv_means_start_uniform_within_1_over_root_of_channels_times_the_first_size_squared():
    torch.manual_seed(0)
    layer = LAYERS["conv"]()
    bound = 1 / np.sqrt(4 * 3**2)
    assert uniform_errors(numpy(layer.weight_mu), -bound, bound) < 5
    assert uniform_errors(numpy(layer.bias_mu), -bound, bound) < 5


def test_batch_norm_weights_start_uniform_and_biases_at_0():
    torch.manual_seed(0)
    layer = LAYERS["batch norm"]()
    assert uniform_errors(numpy(layer.weight_mu), 0, 1) < 5
    np.testing.assert_array_equal(numpy(layer.bias_mu), 0.0)


# --- how it draws ----------------------------------------------------------------------------------------------------


def test_the_posterior_sigma_is_the_exponential_of_log_sigma():
    layer = torchbnn.BayesLinear(0, 1, 1, 1)
    layer.weight_mu.data.fill_(0.5)
    layer.weight_log_sigma.data.fill_(-0.7)
    layer.bias_mu.data.fill_(0.0)
    layer.weight_eps, layer.bias_eps = torch.full((1, 1), 2.0), torch.zeros(1)
    np.testing.assert_allclose(layer(torch.ones(1, 1)).item(), 0.5 + 2 * np.exp(-0.7), rtol=1e-6)


def test_one_draw_serves_the_whole_batch_and_every_call_draws_anew():
    torch.manual_seed(0)
    model = torchbnn.BayesLinear(0, 1, 2, 3)
    outputs = numpy(model(torch.ones(4, 2)))
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:1], outputs.shape))
    assert (numpy(model(torch.ones(4, 2))) != outputs).all()


@layers
def test_evaluation_mode_stays_random(name):
    torch.manual_seed(0)
    layer = LAYERS[name]().eval()
    x = torch.ones({"linear": (1, 9), "conv": (1, 4, 3, 2), "batch norm": (1, 4000, 1, 1)}[name])
    assert (numpy(layer(x)) != numpy(layer(x))).any()


@layers
def test_freezing_keeps_a_random_draw_and_not_the_mean(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    torchbnn.utils.freeze(layer)
    eps = layer.weight_eps.numpy().ravel()
    assert abs(eps.mean()) < 5 / np.sqrt(eps.size)
    assert abs((eps**2).mean() - 1) < 5 * np.sqrt(2 / eps.size)
    first = layer.weight_eps.clone()
    torchbnn.utils.freeze(layer)
    assert (layer.weight_eps != first).all()  # freezing again is another network
    torchbnn.utils.unfreeze(layer)
    assert layer.weight_eps is None


# In torch, and in bbb, padding=2 puts two points on each side; in torchbnn one on each, as in old versions of torch.
@pytest.mark.parametrize("padding", [1, 2, 3])
def test_circular_padding_is_half_of_what_torch_pads(padding):
    model = torchbnn.BayesConv2d(*states.PRIOR, 1, 2, 3, padding=padding, padding_mode="circular")
    states.freeze(states.fill(model, 0), 1)
    x = states.images("float32")
    theirs = numpy(model(torch.tensor(x)))
    half = ((padding + 1) // 2, padding // 2)
    ours = nn.conv(1, 2, 3, padding=(half, half), padding_mode="circular")
    got = states.evaluate(ours, model, states.read(ours, model).posterior, x)
    np.testing.assert_allclose(got, theirs, rtol=0, atol=1e-5)
    torchs = torch.nn.Conv2d(1, 2, 3, padding=padding, padding_mode="circular")
    assert torchs(torch.tensor(x)).shape[2] == theirs.shape[2] + padding


# Other words for the padding are no error: they mean zeros.
def test_any_other_padding_mode_is_zeros():
    model = torchbnn.BayesConv2d(0, 1, 1, 1, 3, padding=1, padding_mode="reflect")
    states.freeze(states.fill(model, 0), 1)
    x = torch.ones(1, 1, 4, 4)
    frozen = numpy(model(x))
    model.padding_mode = "zeros"
    np.testing.assert_array_equal(frozen, numpy(model(x)))


# --- what it saves ---------------------------------------------------------------------------------------------------

GAUSSIAN = ["weight_mu", "weight_log_sigma", "bias_mu", "bias_log_sigma"]
RUNNING = ["running_mean", "running_var", "num_batches_tracked"]
SHAPES = {"linear": (4000, 9), "conv": (2000, 2, 3, 2), "batch norm": (4000,)}


@layers
def test_the_state_dict_has_these_keys_and_shapes_and_no_prior(name):
    state = LAYERS[name]().state_dict()
    assert set(state) == {*GAUSSIAN, *(RUNNING if name == "batch norm" else [])}
    shape = SHAPES[name]
    assert {key: tuple(value.shape) for key, value in state.items() if key in GAUSSIAN} == {
        key: shape if key.startswith("weight") else shape[:1] for key in GAUSSIAN
    }


@layers
def test_epsilon_is_in_the_state_dict_only_while_frozen(name):
    layer = LAYERS[name]()
    plain = set(layer.state_dict())
    torchbnn.utils.freeze(layer)
    frozen = layer.state_dict()
    assert set(frozen) - plain == {"weight_eps", "bias_eps"}
    with pytest.raises(RuntimeError, match="Unexpected key"):
        LAYERS[name]().load_state_dict(frozen)  # it loads only into a model that is frozen too
    torchbnn.utils.unfreeze(layer)
    assert set(layer.state_dict()) == plain


# --- its KL ----------------------------------------------------------------------------------------------------------


def test_the_mean_reduction_divides_by_the_number_of_means_in_bayesian_layers():
    model = states.fill(torch.nn.Sequential(torchbnn.BayesLinear(0, 1, 3, 4), torch.nn.Linear(4, 5)), 0)
    total, mean = (torchbnn.BKLLoss(reduction=reduction)(model).item() for reduction in ("sum", "mean"))
    np.testing.assert_allclose(mean, total / (3 * 4 + 4), rtol=1e-6)


LAST = {
    "with a bias": (True, nn.sequential(nn.linear(3, 4), nn.relu, nn.linear(4, 2))),
    "without": (False, nn.sequential(nn.linear(3, 4), nn.relu, nn.linear(4, 2, bias=False))),
}


# "Only the last layer's KL" is its bias's, or its weight's if it has none; and the reduction is not applied.
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", LAST)
def test_last_layer_only_is_the_kl_of_the_last_bias_summed(name, reduction):
    bias, network = LAST[name]
    model = torch.nn.Sequential(
        torchbnn.BayesLinear(*states.PRIOR, 3, 4),
        torch.nn.ReLU(),
        torchbnn.BayesLinear(*states.PRIOR, 4, 2, bias=bias),
    )
    theirs = torchbnn.BKLLoss(reduction=reduction, last_layer_only=True)(states.fill(model, 0)).item()
    last = {k: v.numpy() for k, v in model[2].state_dict().items()}
    part = "bias" if bias else "weight"
    leaf = bbb.MeanField(last[f"{part}_mu"], last[f"{part}_log_sigma"])
    np.testing.assert_allclose(bbb.priors.kl(leaf, bbb.priors.Normal(*states.PRIOR)), theirs, rtol=1e-5)
    ours = states.read(network, model)
    with pytest.warns(bbb.torchbnn.LastLayerWarning, match="the last layer's bias alone"):
        got = bbb.torchbnn.last_bias_kl(ours.posterior, ours.prior)
    np.testing.assert_allclose(got, theirs, rtol=1e-5)


def test_last_layer_only_of_batch_norm_last_is_that_of_its_bias():
    model = states.fill(torch.nn.Sequential(torchbnn.BayesConv2d(*states.PRIOR, 1, 2, 1)), 0)
    model.append(states.fill(torchbnn.BayesBatchNorm2d(*states.PRIOR, 2), 1))
    theirs = torchbnn.BKLLoss(last_layer_only=True)(model).item()
    ours = states.read(nn.sequential(nn.conv(1, 2, 1), nn.batch_norm(2)), model)
    with pytest.warns(bbb.torchbnn.LastLayerWarning):
        got = bbb.torchbnn.last_bias_kl(ours.posterior, ours.prior)
    np.testing.assert_allclose(got, theirs, rtol=1e-5)


# Without a Bayesian layer, the KL is 0, and no error.
def test_a_model_without_a_bayesian_layer_has_no_kl():
    assert torchbnn.BKLLoss()(torch.nn.Linear(2, 2)).item() == 0.0
