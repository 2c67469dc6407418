"""The triangle of a QR decomposition against NumPy's, where products are enough and where they are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bbb.core import triangles


def stack(reach, rows=60, columns=20):
    """Return rows of singular values from about 1 to about `reach`."""
    rng = np.random.default_rng(0)
    steep = rng.normal(size=(rows, columns)) * reach ** np.linspace(0, 1, columns) / np.sqrt(rows)
    return steep @ np.linalg.qr(rng.normal(size=(columns, columns)))[0]


def exact(rows):
    upper = np.linalg.qr(np.concatenate([rows, np.eye(rows.shape[1])]), mode="r")
    return upper * np.sign(np.diag(upper))[:, None]


@pytest.mark.parametrize("small", [0, triangles.SMALL])
@pytest.mark.parametrize("reach", [0.1, 1e2, 1e4, 1e6])
def test_it_is_the_triangle_by_either_way(small, reach, dtype, monkeypatch):
    monkeypatch.setattr(triangles, "SMALL", small)
    rows = stack(reach)
    matrix = np.concatenate([rows, np.eye(20)])
    by = jax.jit(lambda m: triangles.triangle_of(m))  # noqa: PLW0108 - JAX would remember the other way by its name
    found = np.asarray(by(jnp.asarray(rows, dtype)), float)
    assert (np.tril(found, -1) == 0).all()
    assert (np.diag(found) > 0).all()
    eps = float(jnp.finfo(dtype).eps)
    apart = np.linalg.solve(found.T, matrix.T).T  # orthonormal columns, with the small directions as exact as the large
    assert np.abs(apart.T @ apart - np.eye(20)).max() < 100 * eps * np.linalg.cond(matrix)
    np.testing.assert_allclose(found, exact(rows), atol=100 * eps * reach)


@pytest.mark.parametrize("reach", [1.0, 1e3])
@pytest.mark.parametrize("small", [0, triangles.SMALL])
def test_its_derivatives_are_those_of_differences(small, reach, monkeypatch):
    monkeypatch.setattr(triangles, "SMALL", small)
    with jax.enable_x64(True):
        matrix, way = jnp.asarray(stack(reach)), jnp.asarray(np.random.default_rng(1).normal(size=(60, 20)))
        of = lambda t: triangles.triangle_of(matrix + t * way)  # noqa: E731
        slope = jax.jacfwd(of)(0.0)
        np.testing.assert_allclose(slope, (of(1e-6) - of(-1e-6)) / 2e-6, rtol=1e-5, atol=1e-6 * reach)
        back = jax.grad(lambda t: jnp.sum(jnp.log(jnp.diagonal(of(t)))))(0.0)
        np.testing.assert_allclose(back, jnp.sum(jnp.diagonal(slope) / jnp.diagonal(of(0.0))), rtol=1e-10)


@pytest.mark.parametrize("reach", [0.1, 1e1, 1e2])
def test_the_near_one_has_the_determinant_of_moderate_rows_to_a_hundredth(reach, dtype, monkeypatch):
    monkeypatch.setattr(triangles, "QUICK", 0)
    rows = stack(reach, rows=400, columns=100)
    near = jax.jit(lambda m: triangles.near_triangle_of(m))  # noqa: PLW0108
    found = np.asarray(near(jnp.asarray(rows, dtype)), float)
    assert (np.tril(found, -1) == 0).all()
    np.testing.assert_allclose(found.T @ found, np.eye(100) + rows.T @ rows, atol=1e-5 * max(1, reach**2))
    wrong = np.log(np.diag(found)).sum() - np.log(np.diag(exact(rows))).sum()
    assert abs(wrong) < 0.01 * float(jnp.finfo(dtype).eps / jnp.finfo("float32").eps)


@pytest.mark.parametrize("quick", [0, triangles.QUICK])
def test_the_near_one_of_immoderate_or_few_rows_is_the_exact_one(quick, dtype, monkeypatch):
    monkeypatch.setattr(triangles, "QUICK", quick)
    rows = jnp.asarray(stack(1e4 if quick == 0 else 1.0), dtype)
    both = jax.jit(lambda m: (triangles.near_triangle_of(m), triangles.triangle_of(m)))
    np.testing.assert_array_equal(*both(rows))
