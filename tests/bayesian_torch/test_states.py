"""Bayesian-Torch's state dicts: the prior in the buffers of the layers, and names that would fit."""

import numpy as np
import pytest

import bbb
from bbb.networks import nn
from tests.torch_states.cases import CASES, state

NETWORK = nn.sequential(nn.linear(2, 1), nn.batch_norm(1), nn.linear(1, 1))
SHAPES = {"0.": (1, 2), "2.": (1, 1)}


def buffers(means, stds):
    """Return the buffers of the two dense layers, with a prior for each of the four arrays."""
    found, values = {}, iter(zip(means, stds, strict=True))
    for place, shape in SHAPES.items():
        for name, of_array in (("weight", shape), ("bias", shape[:1])):
            mean, std = next(values)
            found[f"{place}prior_{name}_mu"] = np.broadcast_to(np.float32(mean), of_array)
            found[f"{place}prior_{name}_sigma"] = np.broadcast_to(np.float32(std), of_array)
            found[f"{place}eps_{name}"] = np.full(of_array, np.nan, "f4")  # memory that was never written
    return found


def arrays():
    dense = {
        f"{place}{part}_{name}": np.zeros(of_array, "f4")
        for place, shape in SHAPES.items()
        for name, of_array in (("weight", shape), ("bias", shape[:1]))
        for part in ("mu", "rho")
    }
    ones = {f"1.{name}": np.ones(1, "f4") for name in ("weight", "bias", "running_mean", "running_var")}
    return dense | ones | {"1.num_batches_tracked": np.asarray(3)}


def prior_of(means, stds):
    given = {"likelihood": bbb.likelihoods.Gaussian(1.0)}
    return bbb.bayesian_torch.from_state_dict(NETWORK, arrays() | buffers(means, stds), **given)


def test_one_prior_for_all_weights_is_two_numbers():
    prior = prior_of([0.25] * 4, [0.5] * 4).prior
    assert (prior.mean, prior.std) == (0.25, 0.5)
    assert isinstance(prior, bbb.priors.Normal)


def test_a_prior_per_layer_is_a_number_for_each_array():
    model = prior_of([0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 2.0, 4.0])
    assert model.prior.mean[0] == {"weight": 0.0, "bias": 0.0}
    assert model.prior.std[2] == {"weight": 2.0, "bias": 4.0}
    by_hand = bbb.priors.Normal((0.0, 0.0, 1.0), (0.5, 1.0, {"weight": 2.0, "bias": 4.0}))
    np.testing.assert_array_equal(model.prior.kl(model.posterior), by_hand.kl(model.posterior))


# `MOPED` of Bayesian-Torch sets the means of the prior to the weights of a plain network.
def test_a_prior_per_weight_keeps_its_array():
    model = prior_of([[[0.5, -1.0]], 0.0, 0.0, 0.0], [1.0] * 4)
    np.testing.assert_array_equal(model.prior.mean[0]["weight"], [[0.5, -1.0]])
    assert model.prior.std == 1.0
    by_hand = bbb.priors.Normal(model.prior.mean, 1.0)
    np.testing.assert_array_equal(model.prior.kl(model.posterior), by_hand.kl(model.posterior))


def test_a_prior_that_is_passed_counts():
    given = {"prior": bbb.priors.Normal(0.0, 3.0), "likelihood": bbb.likelihoods.Gaussian(1.0)}
    model = bbb.bayesian_torch.from_state_dict(NETWORK, arrays() | buffers([0.0] * 4, [1.0] * 4), **given)
    assert (model.prior.mean, model.prior.std) == (0.0, 3.0)


def test_a_plain_network_gets_the_std_it_is_given():
    plain = {"weight": np.ones((1, 2), "f4"), "bias": np.ones(1, "f4")}
    given = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(1.0), "std": 0.02}
    model = bbb.bayesian_torch.from_state_dict(nn.linear(2, 1), plain, **given)
    np.testing.assert_allclose(model.posterior.std["weight"], 0.02, rtol=1e-6)


def test_names_that_would_fit_are_given():
    with pytest.raises(bbb.errors.InputError) as caught:
        CASES["bayesian-torch-dense"].read(state("bayesian-torch-dense"), names=None)
    assert "Its modules fit the layers as 0 (linear) = 'fc1', 2 (linear) = 'fc2'." in str(caught.value)
    assert "pass names=('fc1', 'fc2')" in str(caught.value)
