"""What Bayesian-Torch and BLiTZ stored is read and predicts as there: at the means, and in distribution."""

import jax
import numpy as np
import pytest
import safetensors.numpy

import bbb
from tests.torch_states.cases import CASES, numbers, rows, state

KEY = jax.random.key(0)


@pytest.fixture(scope="module", params=CASES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return CASES[name].read(state(name))


def test_the_outputs_at_the_means_are_theirs(name, model):
    found = jax.jit(model.apply)(model.posterior.mean, rows(name))
    np.testing.assert_allclose(found, numbers(name)["at_means"], rtol=0, atol=1e-6)


def test_the_band_is_theirs_within_five_standard_errors(name, model):
    theirs, ours = numbers(name), bbb.predict(KEY, model, rows(name), draws=10_000).f
    mean = np.abs(ours.mean - theirs["mean"]) / np.hypot(ours.mcse_mean, theirs["mcse_mean"])
    std = np.abs(ours.std - theirs["std"]) / np.hypot(ours.mcse_std, theirs["mcse_std"])
    assert np.max(mean) < 5
    assert np.max(std) < 5


def test_a_band_a_tenth_wider_would_be_refused(name):
    theirs = numbers(name)
    assert np.all(0.1 * theirs["std"] / (2 * theirs["mcse_std"]) > 5)


# Bayesian-Torch averages the KL of each array over its weights; BLiTZ gives one draw's log q − log p.
def test_the_kl_is_theirs(name, model):
    theirs = numbers(name)
    if name.startswith("bayesian"):
        of_weights = jax.tree.leaves(jax.jit(model.prior.kl_of_weights)(model.posterior))
        np.testing.assert_allclose(sum(np.mean(leaf) for leaf in of_weights), theirs["kl"], rtol=2e-6)
    else:
        of_a_key = jax.jit(jax.vmap(lambda key: bbb.priors.kl(model.posterior, model.prior, key=key)))
        draws = of_a_key(jax.random.split(KEY, 1000))
        error = np.hypot(theirs["mcse_kl"], draws.std() / np.sqrt(len(draws)))
        assert abs(draws.mean() - theirs["kl"]) < 5 * error


def written(name, model):
    return CASES[name].package.to_state_dict(model, CASES[name].names)


def test_the_way_back_has_their_keys_shapes_and_means(name, model):
    theirs, ours = state(name), written(name, model)
    assert {key: (value.shape, value.dtype) for key, value in ours.items()} == {
        key: (value.shape, value.dtype) for key, value in theirs.items()
    }
    again = CASES[name].read(ours)
    for ours_again, first in zip(jax.tree.leaves(again.posterior), jax.tree.leaves(model.posterior), strict=True):
        np.testing.assert_allclose(ours_again, first, rtol=2e-6)
    np.testing.assert_array_equal(again.posterior.mean[0]["weight"], model.posterior.mean[0]["weight"])


def test_a_file_and_float64_are_read(name, model, tmp_path):
    safetensors.numpy.save_file(written(name, model), tmp_path / "model.safetensors")
    assert CASES[name].read(tmp_path / "model.safetensors").posterior.params is not None
    with jax.enable_x64(True):
        wide = {
            key: value.astype("float64") if value.dtype == "float32" else value for key, value in state(name).items()
        }
        read = CASES[name].read(wide)
        assert {leaf.dtype for leaf in jax.tree.leaves(read.posterior)} == {np.dtype("float64")}
        for leaf, narrow in zip(jax.tree.leaves(read.posterior), jax.tree.leaves(model.posterior), strict=True):
            np.testing.assert_allclose(leaf, narrow, rtol=1e-6)
