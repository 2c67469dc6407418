"""What a method adds to a training: the Laplace posterior, its structure, and the noise that goes with it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.curvature.choice import structure_for
from bbb.inference import METHODS, Learned, laplace, method_of
from tests.curvature.models import KEY, linear

NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 40), bbb.nn.tanh, bbb.nn.linear(40, 1))


def started(likelihood=None, prior=None, network=NETWORK):
    params = network.init(jax.random.key(0))
    prior = bbb.priors.Normal(0.0, 1.0) if prior is None else prior
    likelihood = bbb.likelihoods.Gaussian(0.3, learn=True) if likelihood is None else likelihood
    return bbb.bayesianize(network.apply, params, prior=prior, likelihood=likelihood)


def rows(count=30):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 2))
    return x, x[:, :1] + 0.3 * rng.normal(size=(count, 1))


def test_the_words_and_their_default():
    assert tuple(METHODS) == ("mean_field", "laplace", "hmc")
    for word in ("Laplace", None, ["laplace"]):
        with pytest.raises(bbb.errors.InputError, match='posterior to be one of "mean_field", "laplace", "hmc", got '):
            method_of(word)


def test_mean_field_is_what_was_trained():
    model = started()
    assert method_of("mean_field").finished(KEY, model, *rows(), False) == Learned(model)


@pytest.mark.parametrize(("memory", "structure"), [("2GB", "full"), ("100KB", "last_layer"), ("10KB", "low_rank")])
def test_the_structure_is_the_largest_that_fits(memory, structure):
    assert structure_for(started(), rows()[0], memory) == structure
    if structure != "low_rank":
        wide = bbb.laplace(KEY, started(), *rows(), structure=structure, memory=memory)
        assert wide.linearized


def test_without_a_linear_last_layer_it_is_of_low_rank():
    network = bbb.nn.sequential(bbb.nn.linear(2, 40), bbb.nn.tanh, bbb.nn.linear(40, 1), bbb.nn.softplus)
    assert structure_for(started(network=network), rows()[0], "100KB") == "low_rank"


@pytest.mark.parametrize("std", [0.7, np.array([0.7, 0.1])])
def test_the_noise_of_an_update_is_the_expected_square(std, dtype):
    rng = np.random.default_rng(1)
    y, mean, variance = (jnp.asarray(rng.uniform(0.1, 1, (9, 2))) for _ in range(3))
    noise = laplace._expected(bbb.likelihoods.Gaussian(std, learn=True), y, mean, variance, None)
    squares = np.asarray((y - mean) ** 2 + variance, np.float64)
    expected = np.sqrt(squares.mean(0) if np.ndim(std) else squares.mean())
    np.testing.assert_allclose(noise.std, expected, rtol=1e-12 if dtype == "float64" else 1e-6)
    assert noise.learn


def test_of_a_linear_network_the_noise_raises_the_evidence():
    """Expectation maximisation: each update of the noise raises log p(y | x), which is exact here."""
    model, x, y, *_ = linear(40)
    loud = dataclasses.replace(model, likelihood=bbb.likelihoods.Gaussian(0.5, learn=True))
    after, structure, *_ = laplace.finished(KEY, loud, x, y, False)
    assert structure == "full"
    assert 0.15 < float(after.likelihood.std) < 0.25  # the noise of the data is 0.2
    assert bbb.log_evidence(after, x, y) > bbb.log_evidence(loud, x, y) + 10
    fixed = dataclasses.replace(model, likelihood=bbb.likelihoods.Gaussian(0.5))
    assert laplace.finished(KEY, fixed, x, y, False).model.likelihood.std == fixed.likelihood.std


def test_data_without_noise_have_the_least_that_is_allowed():
    x, _ = rows()
    model = started()
    y = model.apply(model.posterior.params, jnp.asarray(x, jnp.float32))
    after = laplace.finished(KEY, model, x, y, False).model
    assert 0.03 * (1 - 1e-5) <= float(after.likelihood.std) < 0.1


def test_each_member_gets_what_it_would_get_alone():
    x, y = rows()
    restarts = bbb.train.Restarts(2, NETWORK.init)
    trained, _ = bbb.fit(KEY, started(), x, y, steps=50, restarts=restarts, progress=False)
    mixture, structure, *_ = laplace.finished(KEY, trained, x, y, False)
    assert (mixture.members, structure) == (2, "full")
    for k in range(2):
        member, alone = mixture.member(k), laplace.finished(KEY, trained.member(k), x, y, False).model
        for mine, its in zip(jax.tree.leaves(member), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)


def test_networks_trained_side_by_side_get_theirs():
    x, y = rows()
    keys = jax.random.split(KEY, 2)
    models, _ = bbb.train.fit_each(keys, [started()] * 2, [x] * 2, [y] * 2, steps=30, posterior="laplace")
    alone, _ = bbb.train.fit_each(keys, [started()] * 2, [x] * 2, [y] * 2, steps=30)
    for model, before in zip(models, alone, strict=True):
        assert model.linearized
        jax.tree.map(np.testing.assert_array_equal, model.posterior.params, before.posterior.params)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"prior": bbb.priors.Laplace(0.0, 1.0)}, "a prior with `curvature`.*, which a Laplace posterior needs"),
        ({"prior": bbb.priors.ScaleMixture()}, "a prior with `curvature`.*, which a Laplace posterior needs"),
    ],
    ids=["laplace", "mixture"],
)
def test_parts_without_curvature_are_refused(parts, text):
    with pytest.raises(bbb.errors.InputError, match=text):
        METHODS["laplace"].check(started(**parts))


def test_the_mode_learns_no_noise_from_few_rows():
    """Why a Laplace posterior does not start from the mode: 40 rows, 217 weights, noise of 0.3."""
    network = bbb.nn.sequential(bbb.nn.linear(4, 36), bbb.nn.relu, bbb.nn.linear(36, 1))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4))
    y = x[:, :1] + 0.3 * rng.normal(size=(40, 1))
    start = started(prior=bbb.priors.fan_in(network.init(jax.random.key(0))), network=network)
    mode = bbb.train.Objective(forward=bbb.forwards.at_mean(network.apply))
    at_mode, _ = bbb.fit(KEY, start, x, y, objective=mode, steps=2_000, progress=False)
    assert float(at_mode.likelihood.std) < 0.1
