"""Scrambled Sobol draws: evenly spread, the same whatever the chunks, far closer, and honest about their error."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.stats import qmc

import bbb
from bbb.core.noise import words
from bbb.predictive.sobol import MOST_DIMENSIONS, _scrambled, direction_numbers, sobol_normal
from tests.predictive.test_sampling import KEYS, X, curved, linear, model_of

EIGHT = np.zeros(8, np.float32)


def normals(key, count, like=EIGHT):
    """Return a net of `count` points, (count, dimensions)."""
    directions = direction_numbers(like.size, count.bit_length() - 1)
    points = jnp.arange(count, dtype=np.int32)
    return np.asarray(jax.vmap(lambda i: sobol_normal(key, i, like, directions))(points))


def test_points_are_those_of_scipy_in_another_order():
    assert MOST_DIMENSIONS == qmc.Sobol.MAXDIM
    directions = direction_numbers(40, 7)
    points = np.bitwise_xor.reduce(
        np.where((np.arange(128) >> np.arange(7)[:, None] & 1)[..., None], directions[:, None], 0)
    )
    theirs = qmc.Sobol(40, scramble=False, bits=32).random(128)
    gray = np.arange(128) ^ (np.arange(128) >> 1)
    np.testing.assert_array_equal(points[gray] / 2.0**32, theirs)


def test_each_number_of_a_net_lies_in_a_part_of_its_own_and_pairs_fill_all_boxes():
    p = scipy.stats.norm.cdf(normals(jax.random.key(1), 256).astype(np.float64))
    for part in p.T:
        np.testing.assert_array_equal(np.sort(np.floor(256 * part)), np.arange(256))
    boxes = np.floor(16 * p[:, :2]).astype(int)  # the first two dimensions are a (0, 8, 2)-net
    assert len(np.unique(boxes @ [16, 1])) == 256
    other = np.random.default_rng(0).random((256, 8))
    assert qmc.discrepancy(p) < 0.2 * qmc.discrepancy(other)


def test_scrambling_keeps_the_order_of_bits_and_is_undone_by_none():
    one = np.arange(2**10, dtype=np.uint32) << np.uint32(22)
    seeds = words(jax.random.key(2), 1)
    out = np.asarray(_scrambled(jnp.asarray(one), jnp.broadcast_to(seeds, one.shape)))
    for bits in range(1, 11):  # words that share their first bits still do; others do not
        tops = out >> np.uint32(32 - bits)
        assert len(np.unique(tops)) == 2**bits
        assert all(len(np.unique(block)) == 1 for block in tops.reshape(2**bits, -1))
    assert not np.array_equal(out, one)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_one_number_is_normal_whatever_the_point(impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 4_000)
    directions = direction_numbers(2, 3)
    found = np.asarray(jax.vmap(lambda key: sobol_normal(key, 5, np.zeros(2, np.float32), directions))(keys))
    assert scipy.stats.kstest(found[:, 0], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / np.sqrt(len(keys))


def test_float64_is_float32_with_more_digits():
    with jax.enable_x64(True):
        fine = normals(jax.random.key(1), 64, np.zeros(3, np.float64))
    assert fine.dtype == np.float64
    assert scipy.stats.kstest(scipy.stats.norm.cdf(fine[:, 0]), "uniform").pvalue > 0.99  # even, not random
    assert len(np.unique(fine)) == fine.size


def test_draws_depend_on_neither_memory_nor_rows():
    model = model_of(curved)
    one, two = (bbb.draws(KEYS[0], model, X, draws=1000, sampling="sobol", memory=m) for m in ("512MB", "300kB"))
    assert len(one) == 1024  # 15 nets of 64 would be too few
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[:, 1:2], bbb.draws(KEYS[0], model, X[1:2], draws=1000, sampling="sobol"))
    fewer = bbb.draws(KEYS[0], model, X, draws=10, sampling="sobol")
    assert len(fewer) == 10


def test_errors_are_far_smaller_and_said():
    model = model_of(curved)
    mean = np.float64(X @ np.asarray(model.posterior.mean["w"]))
    variance = np.float64((X**2).sum(1, keepdims=True) * 0.25)
    exact = np.exp(mean / 2 + variance / 8)
    stds = exact * np.sqrt(np.expm1(variance / 4))
    error, said, independent = [], [], []
    for key in KEYS[:60]:
        f = bbb.predict(key, model, X, draws=2_000, sampling="sobol").f
        error.append([f.mean - exact, f.std - stds])
        said.append([f.mcse_mean, f.mcse_std])
        independent.append(stds / np.sqrt(2_000))
    error, said = (np.sqrt(np.mean(np.square(values), axis=0)) for values in (error, said))
    assert np.all(error[0] < 0.2 * np.mean(independent, axis=0))  # each worth 25 independent draws and more
    # both are means over 60 keys, of squares with 1 and with about 7 degrees of freedom
    assert np.all(np.abs(np.log(error / said)) < 5 * np.sqrt(2 / 60 + 2 / 420) / 2)


def of_one_weight(noise=0.5):
    params = {"w": jnp.zeros((1, 1), np.float32)}
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(noise), "std": 1.0}
    return bbb.bayesianize(curved, params, **beliefs)


def test_a_tolerance_that_independent_draws_do_not_reach_is_reached():
    model, at = of_one_weight(), np.ones((1, 1), np.float32)
    found = bbb.predict(KEYS[0], model, at, draws="auto", tolerance=2e-4, sampling="sobol")
    assert max(np.max(error) for error in (*found.f.mcse(()), *found.y.mcse(()))) <= 2e-4
    assert abs(found.f.mean.item() - np.exp(1 / 8)) < 1e-3


@pytest.mark.parametrize(("sampling", "draws"), [("sobol", 16), ("sobol", 128), ("antithetic", 128)])
def test_the_median_of_one_weight_has_an_error_though_half_of_each_group_lies_below(sampling, draws):
    model, at, within = of_one_weight(noise=1e-4), np.ones((1, 1), np.float32), []
    for key in KEYS[:40]:
        found = bbb.predict(key, model, at, draws=draws, sampling=sampling, quantiles=(0.5,))
        errors = [(abs(of.quantile(0.5) - 1).item(), 1.96 * of.mcse_quantile(0.5).item()) for of in (found.f, found.y)]
        within.append([error <= said <= 4 / np.sqrt(draws) for error, said in errors])
    assert (np.mean(within, axis=0) > 0.9).all()


def test_every_member_of_an_ensemble_has_its_own_nets():
    params = {"w": jnp.asarray([[1.0], [-0.5]], jnp.float32)}
    members = [bbb.MeanField.around(params, std) for std in (0.5, 0.25)]
    model = bbb.bayesianize(curved, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.3))
    mixed = dataclasses.replace(
        model, posterior=bbb.posteriors.Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))
    )
    drawn = bbb.draws(KEYS[0], mixed, X, draws=512, sampling="sobol")
    assert len(drawn) == 512
    alone = [dataclasses.replace(model, posterior=member) for member in members]
    for i, single in enumerate(alone):
        exact = bbb.predict(KEYS[1], single, X, draws=4_096, sampling="sobol")
        mine = np.asarray(drawn[i::2])
        np.testing.assert_allclose(mine.mean(0), exact.f.mean, atol=0.02)
    assert abs(np.corrcoef(drawn[::2, 0, 0], drawn[1::2, 0, 0])[0, 1]) < 5 / np.sqrt(256)


def test_a_linearised_model_is_drawn_so_too():
    model = dataclasses.replace(model_of(linear), linearized=True)
    drawn, exact = bbb.predict(KEYS[0], model, X, draws=512, sampling="sobol"), bbb.predict(KEYS[0], model, X)
    assert (drawn.method, exact.method) == ("draws", "moments")
    np.testing.assert_allclose(drawn.f.mean, exact.f.mean, atol=0.01)
    np.testing.assert_allclose(drawn.f.std, exact.f.std, rtol=0.02)


def test_what_cannot_be_drawn_so_is_refused():
    def wide(params, x):
        return x[:, :1] + jnp.sum(params["w"]) * 0

    params = {"w": jnp.zeros(MOST_DIMENSIONS + 1, np.float32)}
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    model = bbb.bayesianize(wide, params, **beliefs)
    with pytest.raises(bbb.errors.InputError) as caught:
        bbb.predict(KEYS[0], model, X, sampling="sobol")
    said = 'at most 21,201 random numbers a draw with sampling="sobol", got 21,202. Pass sampling="independent".'
    assert said in str(caught.value)


def test_a_mesh_draws_the_same():
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("draws",))
    one, other = (bbb.draws(KEYS[0], model_of(linear), X, draws=64, sampling="sobol", mesh=m) for m in (None, mesh))
    np.testing.assert_array_equal(one, other)
