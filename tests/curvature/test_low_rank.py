"""The leading directions against an eigendecomposition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.curvature.lanczos import lanczos
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


def test_the_basis_is_orthonormal_and_the_matrix_tridiagonal_in_it(dtype):
    size, steps = 60, 25
    random = np.random.default_rng(0).normal(size=(size, size))
    values = np.logspace(6, -3, size)
    turn = np.linalg.qr(random)[0]
    matrix = jnp.asarray(turn * values @ turn.T, dtype)
    basis, found = lanczos(KEY, lambda v: matrix @ v, size, steps, dtype)
    atol = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(basis @ basis.T, np.eye(steps), atol=atol)
    np.testing.assert_allclose(basis @ matrix @ basis.T, found, atol=atol * 1e6)
    np.testing.assert_allclose(np.linalg.eigvalsh(found)[-3:], values[2::-1], rtol=10 * atol)


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
