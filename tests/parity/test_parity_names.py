"""State dicts of modules with named members, as most user code has them: there, back, and the same forward."""

import itertools

import jax
import numpy as np
import pytest
import safetensors.numpy

import bbb
from bbb.networks import nn
from bbb.torchbnn.states import from_state_dict, frozen_noise, to_state_dict
from tests.parity import states
from tests.parity.states import torch, torchbnn

HOW = {"prior": bbb.priors.Normal(*states.PRIOR), "likelihood": bbb.likelihoods.Gaussian(1.0)}
NAMES = ("features.0", "norm", "fc1", "fc2")


class Images(torch.nn.Module):
    """A convolution, a plain normalisation, and two dense layers, the last of them registered first."""

    def __init__(self):
        super().__init__()
        self.fc2 = torchbnn.BayesLinear(*states.PRIOR, 5, 3)
        self.features = torch.nn.Sequential(torchbnn.BayesConv2d(*states.PRIOR, 1, 2, 3), torch.nn.Tanh())
        self.norm = torch.nn.BatchNorm2d(2)
        self.fc1 = torchbnn.BayesLinear(*states.PRIOR, 2 * 4 * 4, 5)

    def forward(self, x):
        x = torch.flatten(self.norm(self.features(x)), 1)
        return self.fc2(torch.relu(self.fc1(x)))


def network():
    features = nn.sequential(nn.conv(1, 2, 3), nn.tanh)
    return nn.sequential(features, nn.batch_norm(2), nn.flatten, nn.linear(32, 5), nn.relu, nn.linear(5, 3))


@pytest.fixture
def theirs(dtype, torch_dtype):
    return states.fill(Images(), 0).to(torch_dtype).eval()


def zeros(model):
    """Freeze a torchbnn model at its means."""
    torchbnn.utils.freeze(model)
    for name, value in model.state_dict().items():
        if name.endswith("_eps"):
            value.zero_()
    return model


def test_the_forward_at_the_means_is_torchs(theirs, dtype):
    ours = from_state_dict(network(), theirs.state_dict(), names=NAMES, **HOW)
    x = states.images(dtype)
    expected = zeros(theirs)(torch.tensor(x)).detach().numpy()
    found = jax.jit(ours.apply)(ours.posterior.mean, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=50 * np.finfo(dtype).eps)


def test_a_frozen_forward_is_torchs(theirs, dtype):
    state = states.freeze(theirs, 1).state_dict()
    ours = from_state_dict(network(), state, names=NAMES, **HOW)
    x = states.images(dtype)
    forward = bbb.forwards.weight_sampling(ours.apply).evaluate
    found = jax.jit(forward)(frozen_noise(network(), state, NAMES), ours.posterior, x)
    np.testing.assert_allclose(found, theirs(torch.tensor(x)).detach().numpy(), rtol=0, atol=50 * np.finfo(dtype).eps)


def test_the_names_go_both_ways(theirs):
    state = states.freeze(theirs, 1).state_dict()
    ours = from_state_dict(network(), state, names=NAMES, **HOW)
    arrays = to_state_dict(ours, frozen_noise(network(), state, NAMES), NAMES)
    assert set(arrays) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(arrays[name], value.numpy())
        assert arrays[name].dtype == value.numpy().dtype
    other = states.freeze(Images(), 2)
    other.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})


def test_a_file_of_named_members_is_read(tmp_path):
    arrays = {name: value.numpy() for name, value in states.fill(Images(), 0).state_dict().items()}
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    ours = from_state_dict(network(), tmp_path / "model.safetensors", names=NAMES, **HOW)
    for name, value in to_state_dict(ours, names=NAMES).items():
        np.testing.assert_array_equal(value, arrays[name])


# --- what does not fit -----------------------------------------------------------------------------------------------


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torchbnn.BayesLinear(*states.PRIOR, 2, 4)
        self.fc2 = torchbnn.BayesLinear(*states.PRIOR, 4, 4)
        self.fc3 = torchbnn.BayesLinear(*states.PRIOR, 4, 4)


def dense(*sizes):
    pairs = itertools.pairwise(sizes)
    return nn.sequential(*[part for i, o in pairs for part in (nn.linear(i, o), nn.relu)][:-1])


STATE = {name: value.numpy() for name, value in states.fill(Two(), 0).state_dict().items()}
FITS = (
    "Its modules fit the layers as 0 (linear) = 'fc1', 2 (linear) = 'fc2', 4 (linear) = 'fc3'. "
    "If they are used in this order, pass names=('fc1', 'fc2', 'fc3')."
)
SIZES = (
    "Its modules are 'fc1': weight (4, 2), bias (4,); 'fc2': weight (4, 4), bias (4,); "
    "'fc3': weight (4, 4), bias (4,). "
    "The network's layers with arrays are 0 (linear): weight (4, 2), bias (4,); 2 (linear): weight (1, 4), bias (1,). "
    "Build the network of one layer for each module, of the same kind and options."
)
WHAT = "names of modules, one for each layer with arrays: 0 (linear), 2 (linear), 4 (linear), got "


@pytest.mark.parametrize(
    ("network", "state", "names", "text"),
    [
        (dense(2, 4, 4, 4), STATE, None, FITS),
        (dense(2, 4, 4, 4), dict(sorted(STATE.items(), reverse=True)), None, "pass names=('fc1', 'fc3', 'fc2')."),
        (dense(2, 4, 4, 4), STATE, ("fc1", "fc2", "fc4"), FITS),
        (dense(2, 4, 1), STATE, None, SIZES),
        (dense(2, 4, 1), STATE, ("fc1", "fc3"), "'fc2.weight_log_sigma', 'fc2.weight_mu' besides. Build the network"),
        (
            dense(2, 4, 4, 4),
            STATE,
            ("fc1", "fc2"),
            WHAT + "('fc1', 'fc2'). Pass, for example, names=('fc1', 'fc2', 'fc3')",
        ),
        (dense(2, 4, 4, 4), STATE, ("fc1", "fc2", "fc2"), WHAT),
        (dense(2, 4, 4, 4), STATE, ("fc1", "fc2", 3), WHAT),
        (dense(2, 4, 4, 4), STATE, "fc1", WHAT + "'fc1'"),
        (dense(2, 4, 4, 4), STATE, {"fc1", "fc2", "fc3"}, WHAT),
    ],
)
def test_names_that_do_not_fit_are_refused_with_those_that_would(network, state, names, text):
    for read in (
        lambda: from_state_dict(network, state, names=names, **HOW),
        lambda: frozen_noise(network, state, names),
    ):
        with pytest.raises(bbb.errors.InputError) as caught:
            read()
        assert text in str(caught.value)


def test_names_that_are_not_the_networks_are_refused_on_the_way_back():
    model = from_state_dict(dense(2, 4, 4, 4), STATE, names=("fc1", "fc2", "fc3"), **HOW)
    with pytest.raises(bbb.errors.InputError, match="names of modules, one for each layer with arrays"):
        to_state_dict(model, names=("fc1",))


# --- numbers that cannot be used -------------------------------------------------------------------------------------

NUMBERS = {
    "log_sigma 1e30": ("weight_log_sigma", 1e30, "'posterior/log_std/weight' to be from -103.3 to 44.36, got 1e+30"),
    "log_sigma -1e30": ("weight_log_sigma", -1e30, "'posterior/log_std/weight' to be from -103.3 to 44.36, got -1e+30"),
    "mean 3e38": ("bias_mu", 3e38, "'posterior/mean/bias' to be from -1.845e+19 to 1.845e+19, got 3e+38"),
}
LINEAR = {
    f"{n}_{p}": np.zeros(s, "float32") for n, s in (("weight", (1, 2)), ("bias", (1,))) for p in ("mu", "log_sigma")
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_lead_to_infinities_are_refused_by_name(case):
    name, number, text = NUMBERS[case]
    with pytest.raises(bbb.errors.InputError) as caught:
        from_state_dict(nn.linear(2, 1), LINEAR | {name: np.full_like(LINEAR[name], number)}, **HOW)
    assert text in str(caught.value)


def test_a_negative_running_variance_is_refused_by_name():
    state = {name: value.numpy().copy() for name, value in states.fill(Images(), 0).state_dict().items()}
    state["norm.running_var"] -= 9
    with pytest.raises(bbb.errors.InputError, match=r"running_var' to be from 0 to"):
        from_state_dict(network(), state, names=NAMES, **HOW)


ARRAYS = {
    "masked": (
        np.ma.masked_greater(np.ones((1, 2), "float32"), 0.5),
        "'weight_mu' to be real numbers in an array without",
    ),
    "meta": (
        torch.empty((1, 2), device="meta"),
        "'weight_mu' to be an array of numbers, got a tensor on torch's device",
    ),
    "sparse": (
        torch.ones((1, 2)).to_sparse(),
        "'weight_mu' to be an array, got one that NumPy cannot read: can't convert",
    ),
    "complex": (np.ones((1, 2), "complex64"), "'weight_mu' of floating-point numbers, got complex64"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_cannot_be_read_are_refused_by_name(case):
    value, text = ARRAYS[case]
    with pytest.raises(bbb.errors.InputError) as caught:
        from_state_dict(nn.linear(2, 1), LINEAR | {"weight_mu": value}, **HOW)
    assert text in str(caught.value)


def test_an_array_of_another_byte_order_and_one_whose_mask_hides_nothing_are_read():
    numbers = np.array([[1.5, -2.0]], "float32")
    for value in (
        numbers.astype(">f4"),
        np.ma.masked_array(numbers, mask=False),
        torch.tensor(numbers).requires_grad_(),
    ):
        ours = from_state_dict(nn.linear(2, 1), LINEAR | {"weight_mu": value}, **HOW)
        np.testing.assert_array_equal(ours.posterior.mean["weight"], numbers)


def test_a_module_in_the_place_of_its_state_dict_is_refused_by_name():
    with pytest.raises(
        bbb.errors.InputError, match=r"a state dict, or the path of a file, got a Two\. Pass model\.state_dict"
    ):
        from_state_dict(dense(2, 4, 4, 4), Two(), **HOW)
