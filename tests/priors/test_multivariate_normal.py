"""A prior whose weights depend on each other: against dense algebra, and exactly 0 where nothing was learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb.posteriors import FullRank, Kronecker, LowRank, LowRankPrecision, MeanField
from bbb.priors import MultivariateNormal, Normal, as_prior, kl
from tests.curvature.models import covariance_of

KEY = jax.random.key(0)
KINDS = ("MeanField", "FullRank", "LowRank", "LowRankPrecision", "Kronecker")


def gaussian(kind, seed=0, dtype="float64"):
    """Return a Gaussian of one family over a matrix, a vector, and a leaf that is a point estimate."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(0.4 * rng.normal(size=shape), dtype)

    mean = {"fixed": normal(2), "w": normal(2, 3), "z": normal(2)}
    log_std = {"fixed": None, "w": normal(2, 3) - 0.5, "z": normal(2) - 0.2}
    if kind == "MeanField":
        return MeanField(mean, log_std)
    if kind == "FullRank":
        return FullRank(mean, log_std, normal(8, 8))
    if kind == "LowRank":
        return LowRank(mean, log_std, normal(8, 2))
    if kind == "LowRankPrecision":
        return LowRankPrecision.of(mean, log_std, 3 * normal(4, 8))
    left, right = (jnp.linalg.qr(normal(n, n))[0] for n in (2, 3))
    bases = {"fixed": None, "w": left[:, None], "z": None}, {"fixed": None, "w": right[None], "z": None}
    return Kronecker(mean, log_std, *bases)


def dense(posterior):
    """Return the mean of the random leaves, (8,), and their covariance."""
    return np.asarray(ravel_pytree(posterior.random_leaves(posterior.params))[0]), covariance_of(posterior)


def dense_kl(q, p):
    (m, s), (m0, s0) = dense(q), dense(p)
    precision, off = np.linalg.inv(s0), m - m0
    log_dets = np.linalg.slogdet(s0)[1] - np.linalg.slogdet(s)[1]
    return 0.5 * (np.trace(precision @ s) - len(m) + off @ precision @ off + log_dets)


@pytest.mark.parametrize("kind", KINDS)
def test_conditionals_are_those_of_the_precision(kind):
    with jax.enable_x64(True):
        posterior = gaussian(kind)
        expected = np.diag(np.linalg.inv(dense(posterior)[1])) ** -0.5
        found = np.asarray(ravel_pytree(posterior.conditionals().std)[0])
        assert np.allclose(found, expected, rtol=1e-10)
        by_default = bbb.posteriors.GaussianPosterior.conditionals(posterior)
        assert np.allclose(ravel_pytree(by_default.std)[0], expected, rtol=1e-10)


@pytest.mark.parametrize("of", KINDS)
def test_kl_is_that_of_dense_algebra(of):
    with jax.enable_x64(True):
        q = gaussian(of, seed=1)
        for kind in KINDS:
            p = gaussian(kind)
            assert np.isclose(kl(q, MultivariateNormal(p)), dense_kl(q, p), rtol=1e-9), kind


@pytest.mark.parametrize("kind", KINDS)
def test_kl_is_0_where_nothing_was_learned(kind, dtype):
    q = gaussian(kind, dtype=dtype)
    assert abs(float(kl(q, as_prior(q)))) < 100 * np.finfo(dtype).eps


def test_independent_weights_make_a_normal():
    q = gaussian("MeanField", dtype="float32")
    prior = as_prior(q)
    assert isinstance(prior, Normal)
    assert np.allclose(
        kl(gaussian("LowRank", 1, "float32"), prior),
        kl(gaussian("LowRank", 1, "float32"), MultivariateNormal(q)),
        rtol=1e-4,
    )


def test_its_other_answers_are_those_of_the_distribution():
    with jax.enable_x64(True):
        q = gaussian("FullRank")
        prior, random = MultivariateNormal(q), q.random_leaves(q.params)
        moved = jax.tree.map(lambda leaf: leaf + 0.3, random)
        precision = np.linalg.inv(dense(q)[1])
        assert np.isclose(prior.log_prob(random), q.log_prob(q.params))
        assert np.allclose(ravel_pytree(prior.curvature(random))[0], np.diag(precision))
        assert np.allclose(ravel_pytree(prior.scales(random))[0] ** 2, np.diag(dense(q)[1]))
        assert np.isclose(prior.centred(moved).log_prob(moved), q.log_prob(q.params))
        draw = q.random_leaves(q.weights(q.noise(KEY)))
        assert np.array_equal(*(ravel_pytree(tree)[0] for tree in (prior.sample_params(KEY, random), draw)))


def test_a_model_with_it_is_saved_and_shown(tmp_path):
    network = bbb.nn.linear(3, 1)
    params = network.init(KEY)
    prior = MultivariateNormal(FullRank.around(params, 0.5))
    model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=bbb.likelihoods.Gaussian(0.5))
    bbb.save(tmp_path / "model", model)
    again = bbb.load(tmp_path / "model")
    assert isinstance(again.prior.distribution, FullRank)
    assert np.array_equal(kl(again.posterior, again.prior), kl(model.posterior, model.prior))
    assert "MultivariateNormal" in repr(model)
    axes = bbb.plots.weight_density(model.posterior, prior)
    assert all(np.isfinite(line.get_ydata()).all() for line in axes.lines)
