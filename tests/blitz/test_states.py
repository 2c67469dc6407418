"""BLiTZ's state dicts: every array is there twice, and a bias that is not used is there too."""

import jax
import numpy as np
import pytest

import bbb
from bbb.networks import nn
from tests.torch_states.cases import CASES, state

DENSE = CASES["blitz-dense"]


def test_what_the_sampler_holds_is_read_where_the_layers_own_differs():
    stored = state("blitz-dense")
    assert np.any(stored["fc1.weight_mu"] != stored["fc1.weight_sampler.mu"])  # a copied model: no longer one memory
    ours = DENSE.read(stored).posterior
    np.testing.assert_array_equal(ours.mean[0]["weight"], stored["fc1.weight_sampler.mu"])
    backwards = dict(reversed(stored.items()))
    np.testing.assert_array_equal(DENSE.read(backwards).posterior.log_std[0]["bias"], ours.log_std[0]["bias"])


def test_a_state_dict_without_the_samplers_arrays_is_read():
    own = {key: value for key, value in state("blitz-images").items() if "sampler" not in key}
    ours, both = (CASES["blitz-images"].read(one).posterior for one in (own, state("blitz-images")))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(both), strict=True):
        np.testing.assert_array_equal(a, b)


def test_noise_of_the_last_draw_is_not_read():
    stored = state("blitz-dense") | {"fc1.weight_sampler.eps_w": np.full((4, 2), np.nan, "f4")}  # never written memory
    np.testing.assert_array_equal(DENSE.read(stored).posterior.mean[0]["weight"], stored["fc1.weight_sampler.mu"])


@pytest.mark.parametrize("place", ["", "fc1."])
def test_a_bias_that_the_network_does_not_have_is_unused(place):
    arrays = {
        f"{place}{name}_{part}": np.zeros(shape, "f4")
        for name, shape in (("weight", (1, 2)), ("bias", (1,)))
        for part in ("mu", "rho")
    }
    given = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(1.0)}
    names = ("fc1",) if place else None
    model = bbb.blitz.from_state_dict(nn.linear(2, 1, bias=False), arrays, **given, names=names)
    assert list(model.posterior.mean) == ["weight"]
    assert f"{place}bias_sampler.eps_w" in bbb.blitz.to_state_dict(model, names)


def test_names_that_would_fit_are_given():
    layers = nn.sequential(nn.linear(2, 4), nn.tanh, nn.linear(4, 1))
    given = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(1.0)}
    with pytest.raises(bbb.errors.InputError, match=r"If they are used in this order, pass names=\('fc1', 'fc2'\)"):
        bbb.blitz.from_state_dict(layers, state("blitz-dense"), **given)
