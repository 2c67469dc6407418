"""The posterior: a Gaussian per weight; its draws, its density, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax._src import test_util

import bbb

KEY = jax.random.key(0)


def params(dtype="float32"):
    return {"a": jnp.asarray([0.5, -1.0, 2.0], dtype), "b": (jnp.asarray([[3.0, 0.0, -4.0]], dtype),)}


def posterior(dtype="float32"):
    return bbb.MeanField.around(params(dtype), {"a": 0.3, "b": jnp.asarray([[0.1, 1.0, 2.0]], dtype)})


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_a_sample_is_mean_plus_std_times_noise(dtype):
    q = posterior(dtype)
    standard = bbb.MeanField(jax.tree.map(jnp.zeros_like, q.mean), jax.tree.map(jnp.zeros_like, q.mean))
    noise = bbb.posteriors.sample(KEY, standard)
    expected = jax.tree.map(lambda m, s, e: m + s * e, q.mean, q.std, noise)
    for got, want in zip(leaves(bbb.posteriors.sample(KEY, q)), leaves(expected), strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want)


def test_a_sample_is_differentiated_through_mean_and_std(dtype):
    q = posterior(dtype)
    grad = jax.grad(lambda q: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(bbb.posteriors.sample(KEY, q))))(q)
    noise = jax.tree.map(lambda w, m, s: (w - m) / s, bbb.posteriors.sample(KEY, q), q.mean, q.std)
    for mean, log_std, std, e in zip(*map(leaves, (grad.mean, grad.log_std, q.std, noise)), strict=True):
        np.testing.assert_array_equal(mean, 1.0)
        np.testing.assert_allclose(log_std, std * e, rtol=0, atol=16 * np.finfo(dtype).eps * 4.0)


def test_a_vanishing_std_gives_the_mean_whatever_the_key(dtype):
    q = bbb.MeanField.around(params(dtype), 1e-30)
    for seed in range(3):
        for got, want in zip(leaves(bbb.posteriors.sample(jax.random.key(seed), q)), leaves(q.mean), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-28)


def test_the_same_key_gives_the_same_draw_and_another_key_another():
    q = posterior()
    first, again, other = (leaves(bbb.posteriors.sample(k, q)) for k in (KEY, KEY, jax.random.key(1)))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).all()


@pytest.mark.parametrize("size", [1000, 70_000])
def test_leaves_of_one_shape_get_independent_noise(size):
    draw = bbb.posteriors.sample(KEY, bbb.MeanField.around({name: jnp.zeros(size) for name in "abc"}, 1.0))
    correlations = np.corrcoef(np.stack(leaves(draw)))[np.triu_indices(3, 1)]
    assert (np.abs(correlations) * np.sqrt(size) < 5).all()


def test_moments_of_20000_samples_are_within_5_standard_errors(dtype):
    n, q = 20_000, posterior(dtype)
    draws = jax.jit(jax.vmap(lambda k: bbb.posteriors.sample(k, q)))(jax.random.split(KEY, n))
    for draw, mean, std in zip(*map(leaves, (draws, q.mean, q.std)), strict=True):
        noise = (draw.astype("float64") - mean) / std
        assert (np.abs(noise.mean(0)) * np.sqrt(n) < 5).all()
        assert (np.abs(noise.std(0, ddof=1) - 1) * np.sqrt(2 * n) < 5).all()
        fourth = (noise**4).mean(0)  # E ε⁴ = 3, Var ε⁴ = 96
        assert (np.abs(fourth - 3) / np.sqrt(96 / n) < 5).all()


def test_every_leaf_keeps_its_dtype():
    mixed = {name: jnp.ones(4, name) for name in ("float32", "bfloat16")}
    q = bbb.MeanField.around(mixed, 0.1)
    for tree in (q.mean, q.log_std, q.std, bbb.posteriors.sample(KEY, q)):
        assert {name: str(leaf.dtype) for name, leaf in tree.items()} == {name: name for name in mixed}


def test_log_prob_of_leaves_of_several_dtypes_has_the_widest():
    mixed = {"float32": jnp.ones(4), "bfloat16": jnp.ones(4, jnp.bfloat16)}
    q = bbb.MeanField.around(mixed, 1.0)
    value = bbb.posteriors.log_prob(q, mixed)
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(-4 * np.log(2 * np.pi), rel=0.01)  # bfloat16 has 8 bits


def test_log_prob_is_that_of_scipy_summed_over_every_weight(dtype):
    q = posterior(dtype)
    draw = bbb.posteriors.sample(KEY, q)
    terms = [scipy.stats.norm.logpdf(w, m, s) for w, m, s in zip(*map(leaves, (draw, q.mean, q.std)), strict=True)]
    expected = sum(t.sum() for t in terms)
    scale = sum(np.abs(t).sum() for t in terms)
    value = bbb.posteriors.log_prob(q, draw)
    assert value.shape == ()
    assert value.dtype == dtype
    assert abs(float(value) - expected) < 64 * np.finfo(dtype).eps * scale


def test_the_log_density_is_greatest_at_the_mean():
    q = posterior()
    assert all(
        bbb.posteriors.log_prob(q, bbb.posteriors.sample(jax.random.key(i), q)) < bbb.posteriors.log_prob(q, q.mean)
        for i in range(20)
    )


def test_std_is_spread_over_weights_leaves_and_layers():
    tree = ({"w": jnp.zeros((2, 3)), "b": jnp.zeros(2)}, {"w": jnp.zeros((1, 2))})
    per_layer = bbb.MeanField.around(tree, (0.5, 2.0)).std
    assert [float(leaf.flat[0]) for leaf in leaves(per_layer)] == [0.5, 0.5, 2.0]
    row = jnp.array([1.0, 2.0, 4.0])
    per_weight = bbb.MeanField.around(tree, ({"w": row, "b": 1.0}, 1.0)).std[0]["w"]
    np.testing.assert_array_equal(per_weight, np.tile(row, (2, 1)))


def test_the_stored_scale_is_the_logarithm_of_std(dtype):
    q = posterior(dtype)
    np.testing.assert_array_equal(q.log_std["a"], np.full(3, jnp.log(jnp.asarray(0.3, dtype))))
    np.testing.assert_allclose(q.std["b"][0], [[0.1, 1.0, 2.0]], rtol=4 * np.finfo(dtype).eps)


def test_numpy_parameters_are_not_aliased_or_changed():
    buffer = np.zeros(128, np.uint8)  # JAX 0.10.0 copies nothing of memory that is aligned to 64 bytes
    first = -buffer.ctypes.data % 64
    mine = buffer[first : first + 12].view("float32")
    mine[:] = 1.0
    q = bbb.MeanField.around({"w": mine}, 0.1)
    mine[:] = 7.0
    np.testing.assert_array_equal(q.mean["w"], 1.0)


def test_two_trees_that_do_not_fit_are_refused():
    with pytest.raises(bbb.errors.ShapeError, match="log_std to have the structure of mean"):
        bbb.MeanField({"w": jnp.zeros(3)}, {"v": jnp.zeros(3)})
    with pytest.raises(
        bbb.errors.ShapeError, match=r"log_std leaf 'w' to have the shape \(3,\) of mean's, got shape \(2,\)"
    ):
        bbb.MeanField({"w": jnp.zeros(3)}, {"w": jnp.zeros(2)})
    with pytest.raises(bbb.errors.ShapeError, match=r"params leaf 'a'.*shape \(3,\).*got shape \(2,\)"):
        bbb.posteriors.log_prob(posterior(), {**params(), "a": jnp.zeros(2)})


def test_sample_works_under_jit_and_vmap():
    q = posterior()
    jitted = jax.jit(bbb.posteriors.sample)(KEY, q)
    mapped = jax.vmap(bbb.posteriors.sample, in_axes=(0, None))(KEY[None], q)
    for a, b, c in zip(*map(leaves, (bbb.posteriors.sample(KEY, q), jitted, mapped)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(a, c[0], rtol=1e-6, atol=1e-6)


def test_a_start_of_many_leaves_compiles_one_program_for_the_logarithms():
    made = jax.device_put({f"leaf {i}": np.ones((2, i), "float32") for i in range(20, 30)})
    bbb.MeanField.around(dict(list(made.items())[:1]), 0.3)  # compiles what does not depend on the shapes
    with test_util.count_jit_compilation_cache_miss() as compiled:
        start = bbb.MeanField.around(made, 0.3)
    assert compiled() == 1
    assert {leaf.shape for leaf in jax.tree.leaves(start.log_std)} == {leaf.shape for leaf in made.values()}
    for leaf in jax.tree.leaves(start.log_std):
        np.testing.assert_array_equal(leaf, np.broadcast_to(jnp.log(jnp.float32(0.3)), leaf.shape))
