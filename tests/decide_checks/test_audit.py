"""An audit: a band against that of chains, in standard deviations and in words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.decide.model_checks import audit
from bbb.decide.model_checks.auditing import Distance
from bbb.decide.model_checks.places import AMONG, BETWEEN, BEYOND, places_of
from bbb.errors import InputError
from tests.decide_checks.models import KEY, X_TRAIN, Exact, data_sets, gap_model

pytest.importorskip("blackjax", reason="needs blackjax, of the extra mcmc")

Y = data_sets(1)[0][:10]
SHORT = {"draws": 150, "warmup": 150, "steps": 6}


@pytest.fixture(scope="module")
def exact():
    found = Exact()
    return found.given(Y)


@pytest.fixture(scope="module")
def of_exact(exact):
    return audit(KEY, exact, X_TRAIN, Y, **SHORT)


def test_the_exact_posterior_is_close_to_the_truth(of_exact):
    assert of_exact.trusted
    assert of_exact.is_close
    assert of_exact.off_in_sds < 0.2
    assert [distance.where for distance in of_exact.distances] == [AMONG, BEYOND]
    assert "close to the truth" in repr(of_exact)
    np.testing.assert_allclose(of_exact.ratio, 1, atol=0.25)  # of 600 draws, dependent ones


def test_a_posterior_that_is_wrong_by_a_known_factor_is_off_by_that(exact, of_exact):
    narrow = dataclasses.replace(exact, posterior=exact.posterior.scaled(0.4))
    found = audit(KEY, narrow, X_TRAIN, Y, **SHORT)
    assert not found.is_close
    assert found.distances[0].ratio == pytest.approx(0.4 * of_exact.distances[0].ratio, rel=0.15)
    assert "times too narrow: sd 0." in repr(found)
    assert "bbb.laplace" in repr(found)


def test_a_mean_that_is_off_by_two_sds_is_off_by_that(exact):
    band = bbb.predict(KEY, exact, X_TRAIN, draws=2_000).f
    shift = jnp.asarray([[2.0], [0.0]]) * jnp.asarray(exact.posterior.marginals().std)
    moved = dataclasses.replace(exact, posterior=exact.posterior.with_params(exact.posterior.params + shift))
    found = audit(KEY, moved, X_TRAIN, Y, at=X_TRAIN, **SHORT)
    expected = X_TRAIN @ np.asarray(shift) / band.std
    np.testing.assert_allclose(found.off, expected, atol=0.3)
    assert "of the right width, but off" in repr(found)
    assert set(found.where) == {"at the rows given"}


def test_chains_that_are_too_short_are_no_truth():
    model, x, y = gap_model()
    found = audit(KEY, model, x, y, draws=10, warmup=10, steps=5, chains=2)
    assert not found.trusted
    assert "The chains are no truth yet" in repr(found)
    assert {distance.where for distance in found.distances} == {AMONG, BETWEEN, BEYOND}


@pytest.mark.slow
def test_mean_field_is_too_narrow_between_the_data_as_published():
    """Source: Foong et al. 2020, arXiv 1909.00719."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-2, -0.7, 40), rng.uniform(0.7, 2, 40)]).astype(np.float32)[:, None]
    y = (np.sin(2 * x) + 0.1 * rng.normal(size=x.shape)).astype(np.float32)
    network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
    prior, likelihood = bbb.priors.Normal(), bbb.likelihoods.Gaussian(0.1)
    model = bbb.bayesianize(network.apply, network.init(KEY), prior=prior, likelihood=likelihood)
    model, _ = bbb.fit(KEY, model, x, y, steps=3_000, progress=False)
    found = {distance.where: distance for distance in audit(KEY, model, x, y).distances}
    assert found[BETWEEN].ratio < 0.7
    assert found[AMONG].ratio > 1.5


def test_rows_lie_among_between_and_beyond_the_data():
    x = jnp.concatenate([jnp.linspace(-2, -1, 60), jnp.linspace(1, 2, 60)])[:, None]
    places = places_of(x, "apart")
    assert {name: int(np.sum(places.where == name)) for name in (AMONG, BETWEEN, BEYOND)} == {
        AMONG: 100,
        BETWEEN: 16,
        BEYOND: 20,
    }
    assert np.all(np.abs(places.x[places.where == BETWEEN]) < 1)
    assert np.all(np.abs(places.x[places.where == BEYOND]) > 2)
    assert places.x.dtype == x.dtype
    assert set(places_of({"a": x}, "apart").where) == {AMONG}
    assert len(places_of(x, "together").where) == 120


def test_verdicts_are_in_words():
    assert "close to the truth" in Distance("", 1, 0.1, 1.1, 1.0, 1.2).verdict
    assert Distance("", 1, 0.1, 2.0, 1.0, 3.0).verdict.startswith("2 times too wide")
    assert Distance("", 1, 0.1, 0.5, 0.1, 3.0).verdict.startswith("2 times too narrow")


def test_a_large_network_is_refused_by_its_size():
    layer = bbb.nn.linear(1, 10_001)
    params = jax.tree.map(jnp.zeros_like, layer.init(KEY))
    large = bbb.bayesianize(layer.apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(1.0))
    with pytest.raises(InputError, match="at most 10,000 random weights, for audit, got 20,002"):
        audit(KEY, large, np.zeros((2, 1)), np.zeros((2, 10_001)))
