"""The Fisher information of every likelihood in its outputs: an expectation of the Hessian of log p over y."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import roots_hermitenorm

from bbb import likelihoods

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def information(likelihood, outputs):
    """Return A·Aᵀ, (rows, k, k)."""
    root = np.asarray(likelihood.fisher_root(outputs))
    assert root.shape == (len(outputs), outputs[0].size, outputs[0].size)
    return root @ root.transpose(0, 2, 1)


def hessian(likelihood, y, row):
    """Return −∂² log p(y | outputs) of one row, (k, k)."""
    return jax.hessian(lambda f: -likelihood.log_prob(y[None], f.reshape(1, *row.shape))[0])(row.reshape(-1))


def expected(likelihood, row, values, weights):
    """Return the mean of the Hessian over the values of y, each with a weight."""
    each = jax.vmap(lambda y: hessian(likelihood, y, row))(values)
    return np.einsum("i,ijk->jk", weights, np.asarray(each))


def test_of_outputs_that_are_natural_parameters_it_is_the_hessian_whatever_y_is():
    with jax.enable_x64(True):
        outputs = jnp.asarray([[0.3, -2.0], [1.5, 4.0]])
        for likelihood, y in (
            (likelihoods.Gaussian(jnp.asarray([0.3, 2.0])), jnp.asarray([1.0, -3.0])),
            (likelihoods.Bernoulli(), jnp.asarray([0.0, 1.0])),
            (likelihoods.Poisson(), jnp.asarray([3.0, 0.0])),
        ):
            for row, found in zip(outputs, information(likelihood, outputs), strict=True):
                np.testing.assert_allclose(found, hessian(likelihood, y, row), **CLOSE)
        logits = jnp.asarray([[0.3, -2.0, 1.0], [0.0, 0.0, 40.0]])
        for row, found in zip(logits, information(likelihoods.Categorical(), logits), strict=True):
            np.testing.assert_allclose(found, hessian(likelihoods.Categorical(), jnp.asarray(1), row), **CLOSE)


@pytest.mark.parametrize("dispersion", [0.1, 2.0])
def test_of_counts_it_is_the_expectation_over_all_counts(dispersion):
    with jax.enable_x64(True):
        counts = jnp.arange(3000.0)[:, None]
        for likelihood in (likelihoods.NegativeBinomial(dispersion), likelihoods.Poisson()):
            for f in (-1.0, 2.5):
                row = jnp.asarray([f])
                chances = np.exp(likelihood.log_prob(counts, jnp.broadcast_to(row, counts.shape)))
                np.testing.assert_allclose(chances.sum(), 1, rtol=1e-9)
                exact = expected(likelihood, row, counts, chances)
                np.testing.assert_allclose(information(likelihood, row[None])[0], exact, rtol=1e-6)


def test_of_large_counts_it_is_that_of_the_mean_which_goes_on_as_a_line():
    with jax.enable_x64(True):
        for likelihood in (likelihoods.Poisson(), likelihoods.NegativeBinomial(1e-10)):
            row = jnp.asarray([25.0])
            slope = jax.grad(lambda f, made=likelihood: made.mean(f))(25.0)
            exact = slope**2 / likelihood.variance(row)
            np.testing.assert_allclose(information(likelihood, row[None])[0, 0], exact, rtol=1e-10)


@pytest.mark.parametrize("log_std", [-1.0, 0.5, 22.0, -23.0])
@pytest.mark.parametrize("kind", [likelihoods.HeteroscedasticGaussian, likelihoods.BoundedHeteroscedasticGaussian])
def test_of_mean_and_log_std_it_is_the_expectation_by_quadrature(log_std, kind):
    with jax.enable_x64(True):
        likelihood, row = kind(), jnp.asarray([0.7, log_std])
        nodes, weights = roots_hermitenorm(40)
        y = row[0] + likelihood.std(row[None])[0] * jnp.asarray(nodes)
        exact = expected(likelihood, row, y[:, None], weights / weights.sum())
        found = information(likelihood, row[None])[0]
        np.testing.assert_allclose(np.diag(found), np.diag(exact), rtol=1e-8)
        np.testing.assert_allclose(exact[0, 1], 0, atol=1e-8 * np.sqrt(exact[0, 0] * exact[1, 1]))
        assert found[0, 1] == found[1, 0] == 0


def test_of_several_means_and_stds_each_has_its_own():
    likelihood, outputs = likelihoods.HeteroscedasticGaussian(), jnp.asarray([[0.0, 1.0, 0.5, -0.5]])
    stds = np.exp([0.5, -0.5])
    np.testing.assert_allclose(information(likelihood, outputs)[0], np.diag([*stds**-2, 2, 2]), rtol=1e-5)


@pytest.mark.parametrize("df", [2.5, 4.0, 30.0])
def test_of_student_t_it_is_the_expectation_by_integration(df):
    with jax.enable_x64(True):
        likelihood, row = likelihoods.StudentT(0.6, df), jnp.asarray([0.2])
        at = (np.arange(20_000) + 0.5) / 20_000 * np.pi - np.pi / 2  # y = tan: the tails end at ±π/2
        y = row[0] + 0.6 * jnp.tan(jnp.asarray(at))
        density = np.exp(likelihood.log_prob(y[:, None], jnp.broadcast_to(row, (len(y), 1))))
        weights = density * 0.6 / np.cos(at) ** 2 * (np.pi / 20_000)
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
        exact = expected(likelihood, row, y[:, None], weights)
        np.testing.assert_allclose(information(likelihood, row[None])[0], exact, rtol=1e-5)


ALL = {
    "Gaussian": likelihoods.Gaussian(0.3),
    "HeteroscedasticGaussian": likelihoods.HeteroscedasticGaussian(),
    "BoundedHeteroscedasticGaussian": likelihoods.BoundedHeteroscedasticGaussian(0.5),
    "StudentT": likelihoods.StudentT(0.3),
    "Categorical": likelihoods.Categorical(),
    "Bernoulli": likelihoods.Bernoulli(),
    "Poisson": likelihoods.Poisson(),
    "NegativeBinomial": likelihoods.NegativeBinomial(0.5),
}

OTHERWISE = {"Joint", "PartiallyObserved"}
"""That of a tree of outputs is asked for part by part; that of partial targets depends on which are there."""


def test_every_likelihood_has_one():
    protocols = {name for name in likelihoods.__all__ if getattr(getattr(likelihoods, name), "_is_protocol", False)}
    assert set(ALL) == set(likelihoods.__all__) - protocols - OTHERWISE


@pytest.mark.parametrize("name", ALL)
def test_it_is_finite_for_outputs_of_any_size_and_float32_agrees(name):
    outputs = np.array([[0.0, 0.5], [90.0, -90.0], [-90.0, 90.0], [3e4, -3e4]])
    short = information(ALL[name], jnp.asarray(outputs, jnp.float32))
    assert np.isfinite(short).all()
    with jax.enable_x64(True):
        exact = information(ALL[name], jnp.asarray(outputs))
    np.testing.assert_allclose(short, exact, rtol=1e-4, atol=1e-6)
