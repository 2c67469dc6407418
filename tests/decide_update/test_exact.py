"""On a linear network, updates in a row are one fit on all rows: exactly what each posterior promises of itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb.decide import continual
from bbb.objectives import exact_elbo_cost
from bbb.posteriors import FullRank, Kronecker, LowRankPrecision, MeanField
from tests.curvature.models import covariance_of, line

KEY = jax.random.key(0)
NOISE, PRIOR = 0.2, 1.3
QUICK = {"draws": 4, "progress": False}


def data(rows, inputs=3, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs))
    return x, x @ rng.normal(size=(inputs, outputs)) + NOISE * rng.normal(size=(rows, outputs))


def matrix(params, x):
    return x @ params["w"]


def before(apply, params, prior=PRIOR):
    likelihood = bbb.likelihoods.Gaussian(NOISE, learn=True)
    return bbb.bayesianize(apply, params, prior=bbb.priors.Normal(0.0, prior), likelihood=likelihood)


def exact(apply, params, x, y):
    """Return the exact posterior of a linear network by dense algebra: its mean, (d,), and covariance."""
    flat, unravel = ravel_pytree(params)
    design = np.asarray(jax.jacobian(lambda w: apply(unravel(w), jnp.asarray(x)).reshape(-1))(flat))
    covariance = np.linalg.inv(design.T @ design / NOISE**2 + np.eye(flat.size) / PRIOR**2)
    return covariance @ design.T @ y.reshape(-1) / NOISE**2, covariance


def at_the_prior(model, kind):
    """Return the model as a Laplace approximation of no rows: its posterior is the prior, in the form of a family."""
    params = jax.tree.map(jnp.zeros_like, model.posterior.params)
    wide = jax.tree.map(lambda leaf: jnp.full(leaf.shape, np.log(PRIOR), leaf.dtype), params)
    posterior = {
        "diag": lambda: MeanField(params, wide),
        "full": lambda: FullRank.around(params, PRIOR),
        "rows": lambda: LowRankPrecision.of(params, wide, jnp.zeros((1, sum(map(jnp.size, jax.tree.leaves(params)))))),
        "kron": lambda: Kronecker(
            params, wide, jax.tree.map(lambda _: None, params), jax.tree.map(lambda _: None, params)
        ),
    }[kind]()
    return dataclasses.replace(model, posterior=posterior, linearized=True)


def in_a_row(model, x, y, times, **how):
    for part in np.array_split(np.arange(len(x)), times):
        model, found = continual.update(KEY, model, x[part], y[part], **(QUICK | how))
    return model, found


def assert_exact(model, mean, covariance, of=covariance_of):
    found = np.asarray(ravel_pytree(model.posterior.params)[0])
    assert np.abs(found - mean).max() < 1e-5 * np.abs(mean).max()
    assert np.abs(of(model.posterior) - covariance).max() < 1e-5 * np.abs(covariance).max()


@pytest.mark.parametrize("kind", ["full", "rows"])
def test_laplace_in_parts_is_laplace_of_all_rows(kind):
    with jax.enable_x64(True):
        x, y = data(24)
        params = {"b": jnp.zeros(2), "w": jnp.zeros((3, 2))}
        model, found = in_a_row(at_the_prior(before(line, params), kind), x, y, 3)
        assert_exact(model, *exact(line, params, x, y))
        assert found.structure == "full"
        assert isinstance(model.posterior, FullRank)  # of 48 rows of the Jacobian and 8 weights
        assert model.linearized
        assert np.array_equal(model.likelihood.log_std, np.log(NOISE))
        assert model.likelihood.learn


def test_few_rows_stay_rows_and_are_exact():
    with jax.enable_x64(True):
        x, y = data(6, inputs=9)
        params = {"b": jnp.zeros(2), "w": jnp.zeros((9, 2))}
        model, _ = in_a_row(at_the_prior(before(line, params), "rows"), x, y, 3)
        assert isinstance(model.posterior, LowRankPrecision)
        assert len(model.posterior.factor) <= 16
        assert_exact(model, *exact(line, params, x, y))


def test_kronecker_in_parts_is_exact_for_a_layer_without_a_bias():
    with jax.enable_x64(True):
        x, y = data(24)
        params = {"w": jnp.zeros((3, 2))}
        model, found = in_a_row(at_the_prior(before(matrix, params), "kron"), x, y, 3)
        assert found.structure == "kron"
        assert isinstance(model.posterior, Kronecker)
        assert_exact(model, *exact(matrix, params, x, y))


def orthogonal(parts=3):
    """Return rows of which each part has orthogonal columns."""
    rng = np.random.default_rng(2)
    x = np.concatenate([np.linalg.qr(rng.normal(size=(8, 3)))[0] * [1.0, 2.0, 3.0] for _ in range(parts)])
    return x, x @ rng.normal(size=(3, 1)) + NOISE * rng.normal(size=(len(x), 1))


def test_the_diagonal_is_exact_where_columns_are_orthogonal():
    with jax.enable_x64(True):
        x, y = orthogonal()
        params = {"w": jnp.zeros((3, 1))}
        model, found = in_a_row(at_the_prior(before(matrix, params), "diag"), x, y, 3)
        assert found.structure == "diag"
        assert_exact(model, *exact(matrix, params, x, y))


def test_independent_weights_are_exact_where_columns_are_orthogonal():
    with jax.enable_x64(True):
        x, y = orthogonal()
        params = {"w": jnp.zeros((3, 1))}
        start = dataclasses.replace(at_the_prior(before(matrix, params), "diag"), linearized=False)
        how = {"objective": exact_elbo_cost, "optimizer": optax.lbfgs(), "steps": 100}
        model, found = in_a_row(start, x, y, 3, **how)
        assert found.structure is None
        assert isinstance(model.prior, bbb.priors.Normal)
        assert_exact(model, *exact(matrix, params, x, y))


def test_the_bound_of_a_full_covariance_is_tight_at_the_exact_posterior():
    """Under yesterday's posterior as the prior log p(y, w) − log q(w), at q = p(w | all rows), is one number."""
    with jax.enable_x64(True):
        x, y = data(24)
        params = {"b": jnp.zeros(2), "w": jnp.zeros((3, 2))}

        def full(x, y):
            mean, covariance = exact(line, params, x, y)
            lower = np.linalg.cholesky(covariance)
            unravel = ravel_pytree(params)[1]
            unit = jnp.asarray(np.tril(lower / np.diag(lower)[:, None], -1))
            return FullRank(unravel(jnp.asarray(mean)), unravel(jnp.log(np.diag(lower))), unit)

        prior, q = bbb.priors.as_prior(full(x[:12], y[:12])), full(x, y)
        likelihood = bbb.likelihoods.Gaussian(NOISE)

        def nats(key):
            w = q.weights(q.noise(key))
            return jnp.sum(likelihood.log_prob(y[12:], line(w, x[12:]))) + prior.log_prob(w) - q.log_prob(w)

        each = np.asarray(jax.vmap(nats)(jax.random.split(KEY, 20)))
        assert np.ptp(each) < 1e-8 * np.abs(each).max()


def test_a_rank_that_holds_all_directions_is_exact():
    with jax.enable_x64(True):
        x, y = data(24)
        params = {"b": jnp.zeros(2), "w": jnp.zeros((3, 2))}
        start = at_the_prior(before(line, params), "rows")
        mean, covariance = exact(line, params, x, y)
        at = start.posterior.with_params(ravel_pytree(params)[1](jnp.asarray(mean)))
        for part in np.array_split(np.arange(24), 2):
            prior = bbb.priors.as_prior(at)
            model = dataclasses.replace(start, posterior=at, prior=prior)
            at = bbb.laplace(KEY, model, x[part], y[part], structure="low_rank", rank=8).posterior
        assert len(at.factor) == 8
        assert np.abs(covariance_of(at) - covariance).max() < 1e-5 * np.abs(covariance).max()


@pytest.mark.parametrize("kind", ["full", "rows", "kron"])
def test_the_evidence_of_parts_multiplies_to_that_of_all(kind):
    """log p(y) = log p(y₁) + log p(y₂ | y₁): the second under the posterior of the first."""
    with jax.enable_x64(True):
        x, y = data(8)
        params = {"w": jnp.zeros((3, 2))}
        structure = "kron" if kind == "kron" else "full"

        def posterior(rows):
            start = before(matrix, {"w": jnp.asarray(exact(matrix, params, x[:rows], y[:rows])[0].reshape(3, 2))})
            return bbb.laplace(KEY, start, x[:rows], y[:rows], structure=structure)

        few, every = posterior({"full": 4, "rows": 2, "kron": 4}[kind]), posterior(8)
        assert isinstance(few.posterior, {"full": FullRank, "rows": LowRankPrecision, "kron": Kronecker}[kind])
        rest = slice({"full": 4, "rows": 2, "kron": 4}[kind], None)
        second = dataclasses.replace(every, prior=bbb.priors.as_prior(few.posterior))
        found = bbb.log_evidence(second, x[rest], y[rest], structure)
        first = bbb.log_evidence(few, x[: rest.start], y[: rest.start], structure)
        assert np.isclose(first + found, bbb.log_evidence(every, x, y, structure), rtol=1e-8)
