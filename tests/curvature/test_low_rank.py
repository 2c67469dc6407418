"""The leading directions against an eigendecomposition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.curvature.lanczos import golub_kahan
from tests.curvature.models import CASES, KEY, covariance_of, ensemble_of, mlp, precision_of


def leading(model, x, rank):
    """Return the precision of the leading directions alone, by an eigendecomposition: (d, d)."""
    precision = precision_of(model, x)
    scale = 0.7
    values, vectors = np.linalg.eigh(scale**2 * precision - np.eye(len(precision)))
    kept = vectors[:, -rank:]
    return (np.eye(len(precision)) + kept * values[-rank:] @ kept.T) / scale**2


@pytest.mark.parametrize("kind", CASES)
def test_its_precision_is_that_of_the_leading_eigenvectors(kind):
    with jax.enable_x64(True):
        model, x, y = mlp(kind, 40)
        made = bbb.laplace(KEY, model, x, y, structure="low_rank", rank=3, batch_size=7).posterior
        assert made.factor.shape[0] == 3
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(leading(model, x, 3)), rtol=1e-8, atol=1e-9)
        made.validate()


@pytest.mark.parametrize("rows", [40, 5])
def test_of_all_directions_it_is_the_full_matrix(rows):
    with jax.enable_x64(True):
        model, x, y = mlp(rows=rows)
        made = bbb.laplace(KEY, model, x, y, structure="low_rank", rank=100).posterior
        assert len(made.factor) == min(17, rows)
        exact = np.linalg.inv(precision_of(model, x))
        np.testing.assert_allclose(covariance_of(made), exact, rtol=1e-8, atol=1e-9)


def test_of_repeated_rows_the_search_goes_on_where_the_space_is_exhausted():
    with jax.enable_x64(True):
        model, x, y = mlp(rows=2)
        made = bbb.laplace(KEY, model, np.repeat(x, 9, 0), np.repeat(y, 9, 0), structure="low_rank", rank=10).posterior
        exact = np.linalg.inv(precision_of(model, np.repeat(x, 9, 0)))
        np.testing.assert_allclose(covariance_of(made), exact, rtol=1e-8, atol=1e-9)


def searched(values, rows, steps, dtype):
    """Return a matrix W, (rows, columns), of these singular values, and what the search finds of it."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(n, len(values))))[0] for n in (rows, len(values)))
    matrix = jnp.asarray(left * values @ right.T, dtype)

    def there_and_back(v, u):
        s = matrix @ v - u
        return s, s @ matrix

    return matrix, *golub_kahan(KEY, there_and_back, len(values), jnp.zeros(rows, dtype), steps)


def test_the_basis_is_orthonormal_and_the_matrix_bidiagonal_in_it(dtype):
    steps, values = 25, np.logspace(3, -1.5, 60)
    matrix, basis, found = searched(values, 80, steps, dtype)
    atol = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(basis @ basis.T, np.eye(steps), atol=atol)
    np.testing.assert_array_equal(found, np.triu(np.tril(found, 1)))
    seen = matrix @ basis.T
    np.testing.assert_allclose(seen.T @ seen, found.T @ found, atol=atol * 1e6)
    np.testing.assert_allclose(np.linalg.svd(found)[1][:3], values[:3], rtol=10 * atol)


@pytest.mark.parametrize("rows", [80, 60])
def test_singular_values_are_as_accurate_as_the_first_one_is_rounded(dtype, rows):
    """Of products with Wᵀ·W, they would be as accurate as its square: 3e-4 of the first one in float32."""
    values = np.logspace(3, -4, 60)
    _, _, found = searched(values, rows, len(values), dtype)
    np.testing.assert_allclose(np.linalg.svd(found)[1], values, atol=20 * np.finfo(dtype).eps * values[0])


def test_of_fewer_rows_the_rest_is_zero(dtype):
    random = np.random.default_rng(0)
    matrix = jnp.asarray(random.normal(size=(4, 9)), dtype)

    def there_and_back(v, u):
        s = matrix @ v - u
        return s, s @ matrix

    basis, found = golub_kahan(KEY, there_and_back, 9, jnp.zeros(4, dtype), 9)
    atol = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(basis @ basis.T, np.eye(9), atol=atol)
    exact = np.linalg.svd(np.asarray(matrix))[1]
    np.testing.assert_allclose(np.linalg.svd(found)[1], [*exact, *np.zeros(5)], atol=atol)


@pytest.mark.parametrize("rank", [10, 40])
def test_the_band_of_accurate_data_in_float32_is_that_of_float64(rank):
    """With products of the Gauss-Newton matrix, its standard deviations were up to nine times those of float64."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-1.6, -0.7, 40), rng.uniform(0.7, 1.6, 40)])[:, None].astype("float32")
    grid = np.linspace(-2, 2, 41, dtype="float32")[:, None]
    network = bbb.nn.sequential(bbb.nn.linear(1, 30), bbb.nn.tanh, bbb.nn.linear(30, 1))
    beliefs = {"prior": bbb.priors.Normal(0.0, 3.0), "likelihood": bbb.likelihoods.Gaussian(0.01)}
    params = jax.tree.map(lambda leaf: leaf.astype("float32"), network.init(KEY))
    model = bbb.bayesianize(network.apply, params, **beliefs)

    def band(model):
        made = bbb.laplace(KEY, model, x, np.sin(4 * x), structure="low_rank", rank=rank, batch_size=17)
        return np.asarray(bbb.predict(KEY, made, grid).f.std)

    narrow = band(model)
    with jax.enable_x64(True):
        exact = band(jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), model))
    np.testing.assert_allclose(narrow, exact, rtol=2e-3)


def test_batches_and_float32_agree():
    model, x, y = mlp(rows=40, dtype="float32")
    some = [
        covariance_of(bbb.laplace(KEY, model, x, y, structure="low_rank", rank=4, batch_size=size).posterior)
        for size in (None, 9)
    ]
    np.testing.assert_allclose(*some, rtol=1e-3, atol=1e-5)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), model)
        exact = covariance_of(bbb.laplace(KEY, wide, x, y, structure="low_rank", rank=4).posterior)
    np.testing.assert_allclose(some[0], exact, rtol=1e-3, atol=1e-5)


def test_each_member_of_an_ensemble_gets_its_own():
    with jax.enable_x64(True):
        model, x, y = mlp()
        several = ensemble_of(model)
        made = bbb.laplace(KEY, several, x, y, structure="low_rank", rank=17)
        full = bbb.laplace(KEY, several, x, y)
        for k in range(2):
            found, exact = (covariance_of(m.posterior[k]) for m in (made, full))
            np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-10)


def test_of_point_estimates_it_has_none():
    with jax.enable_x64(True):
        model, x, y = mlp(where="*/weight")
        made = bbb.laplace(KEY, model, x, y, structure="low_rank", rank=50).posterior
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), rtol=1e-8, atol=1e-10)
        assert dataclasses.replace(made).log_diagonal[0]["bias"] is None
