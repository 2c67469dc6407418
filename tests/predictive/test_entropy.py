"""The entropies of classes from few draws: free of their bias, and with errors that are the size they claim."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import bbb
from bbb.mixture.entropy import _second_order, entropies

compiled = jax.jit(entropies, static_argnums=1)
ROWS = 300
PARTS = ("total", "aleatoric", "epistemic")
LOGITS = np.array([1.0, 0.0, -1.0])


def own_weights(w, x):
    """A network each of whose rows, of the unit matrix, has weights of its own: as many keys as rows."""
    return x @ w


def model_of(logits=tuple(LOGITS), dtype="float32", std=1.0):
    mean = jnp.asarray(np.tile(logits, (ROWS, 1)), dtype)
    likelihood = bbb.likelihoods.Categorical()
    return bbb.bayesianize(own_weights, mean, prior=bbb.priors.Normal(), likelihood=likelihood, std=std)


@functools.cache
def ask(draws, *, logits=tuple(LOGITS), seed=0, std=1.0, **options):
    x = np.eye(ROWS, dtype="float32")
    return bbb.predict(jax.random.key(seed), model_of(logits, std=std), x, draws=draws, **options).y


def truth(logits=tuple(LOGITS), std=1.0):
    """Return the entropies of 200,000 draws in float64."""
    drawn = np.array(logits) + std * np.random.default_rng(1).normal(size=(200_000, len(logits)))
    p = scipy.special.softmax(drawn, axis=1)
    total, aleatoric = scipy.stats.entropy(p.mean(0)), scipy.stats.entropy(p, axis=1).mean()
    return {"total": total, "aleatoric": aleatoric, "epistemic": total - aleatoric}


def covered(y, part, exact):
    return np.mean(np.abs(getattr(y.entropy, part) - exact) < 1.96 * getattr(y.mcse_entropy, part))


@pytest.mark.parametrize("draws", [5, 20, 100])
def test_few_draws_find_the_entropies_of_many(draws):
    # without the correction, the epistemic one is 20 % low from 5 draws and 5 % from 20
    y = ask(draws)
    for part, exact in truth().items():
        found = getattr(y.entropy, part)
        assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(ROWS) + 0.05 * exact, part
    np.testing.assert_allclose(y.entropy.total, y.entropy.aleatoric + y.entropy.epistemic, rtol=1e-5)


@pytest.mark.parametrize("draws", [20, 100])
def test_the_truth_lies_within_two_errors_of_the_entropies(draws):
    y = ask(draws)
    for part, exact in truth().items():
        assert 0.92 < covered(y, part, exact) < 0.98, part


def test_five_draws_say_honestly_how_little_they_know():
    y = ask(5)
    assert all(covered(y, part, exact) > 0.88 for part, exact in truth().items())


@pytest.mark.parametrize(("logits", "least"), [((4.0, 0.0), 0.75), ((0.0, 0.0, 0.0, 0.0), 0.92)])
def test_rare_classes_and_equal_ones_have_errors_too(logits, least):
    # a class that few draws favour may be missing from 20, and 4 equal ones have a total that is bounded by log 4
    y = ask(20, logits=logits, std=1.5)
    for part, exact in truth(logits, 1.5).items():
        assert covered(y, part, exact) > least, part


def test_errors_of_mirrored_draws_know_of_their_pairs():
    y = ask(40, sampling="antithetic")
    for part, exact in truth().items():
        assert 0.9 < covered(y, part, exact) < 0.99, part
    # mirrored draws know the mean logits, and so the total, far better
    assert np.median(y.mcse_entropy.total) < 0.8 * np.median(ask(40).mcse_entropy.total)


def test_entropies_do_not_hang_on_memory():
    plain, small = ask(20), ask(20, memory="2MB")
    for a, b in zip((*plain.entropy, *plain.mcse_entropy), (*small.entropy, *small.mcse_entropy), strict=True):
        np.testing.assert_array_equal(a, b)


def jackknife(p, group):
    """Return the estimates and their standard errors by leaving out one group after the other."""
    groups = p.shape[0] // group

    def plug_in(p):
        total, aleatoric = scipy.stats.entropy(p.mean(0), axis=-1), scipy.stats.entropy(p, axis=-1).mean(0)
        return np.stack([total, aleatoric, total - aleatoric])

    each = np.repeat(np.arange(groups), group)
    pseudo = np.stack([groups * plug_in(p) - (groups - 1) * plug_in(p[each != i]) for i in range(groups)])
    return pseudo.mean(0), pseudo.std(0, ddof=1) / np.sqrt(groups)


@pytest.mark.parametrize("group", [1, 2])
def test_they_are_those_of_the_jackknife(group, dtype):
    p = np.random.default_rng(0).dirichlet([0.3, 1.0, 3.0, 3.0], size=(24, 50))
    found, errors = compiled(jnp.asarray(p, dtype), group)
    expected, spread = jackknife(p, group)
    bound = np.log(4) - expected[1]
    expected[2] = np.minimum(expected[2], bound)
    expected[0] = expected[1] + expected[2]
    np.testing.assert_allclose(np.stack(found), expected, rtol=2e-6 if dtype == "float32" else 1e-9)
    n = 24 // group
    few = spread * scipy.stats.t.ppf(0.975, n - 1) / scipy.stats.norm.ppf(0.975)
    steps = scipy.stats.norm.ppf(0.975) * few / expected
    np.testing.assert_allclose(
        np.stack(errors), few * np.expm1(steps) / steps, rtol=1e-3 if dtype == "float32" else 1e-6
    )
    assert all(part.dtype == dtype for part in (*found, *errors))


def test_draws_that_agree_have_no_epistemic_entropy_and_no_error(dtype):
    p = np.repeat(np.array([[[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]], dtype), 8, axis=0)
    found, errors = compiled(jnp.asarray(p), 1)
    np.testing.assert_array_equal(found.epistemic, 0.0)
    np.testing.assert_allclose(found.total, [1.5 * np.log(2), 0.0], rtol=1e-6)
    np.testing.assert_allclose(np.stack(errors), 0.0, atol=1e-6)


@pytest.mark.parametrize("draws", [2, 4, 40])
def test_sure_draws_that_disagree_stay_within_their_bounds(draws, dtype):
    p = np.eye(4, dtype=dtype)[np.arange(draws) % 4][:, None]
    found, errors = compiled(jnp.asarray(p), 1)
    np.testing.assert_array_equal(found.aleatoric, 0.0)
    np.testing.assert_allclose(found.epistemic, np.log(4), rtol=1e-6)
    np.testing.assert_array_equal(found.total, found.epistemic)
    assert not any(np.isnan(error).any() for error in errors)


def test_the_correction_keeps_its_digits_of_many_draws():
    # n·H − (n − 1)·H without one, in float32, would be off by n times rounding: here by 1e-3
    p = scipy.special.softmax(np.random.default_rng(0).normal(size=(20_000, 3, 3)), axis=-1)
    added = jax.jit(lambda p: jnp.mean(_second_order(p, jnp.mean(p, axis=0)), axis=0))(jnp.asarray(p, "float32"))
    variance = p.var(0, ddof=1) / 20_000
    np.testing.assert_allclose(added, 0.5 * (variance / p.mean(0)).sum(-1), rtol=1e-3)  # to first order: about 1e-5


@pytest.mark.parametrize(("draws", "sampling"), [(1, "independent"), (2, "antithetic")])
def test_one_draw_or_one_pair_has_unknown_errors(draws, sampling):
    y = ask(draws, sampling=sampling)
    for part in PARTS:
        assert np.isfinite(getattr(y.entropy, part)).all()
        assert np.isinf(getattr(y.mcse_entropy, part)).all()
    assert np.isinf(y.mcse_probabilities).all()
    if draws == 1:
        np.testing.assert_array_equal(y.entropy.epistemic, 0.0)


def test_two_draws_do_not_know_how_much_their_disagreement_varies():
    y = ask(2)
    assert np.isinf(y.mcse_entropy.epistemic).all()
    assert np.isfinite(y.mcse_entropy.aleatoric).all()


def test_one_draw_of_each_member_has_unknown_errors_and_three_have_known_ones():
    apart = jnp.asarray([np.tile(k * LOGITS, (ROWS, 1)) for k in (0.5, 1.5)], "float32")
    members = bbb.MeanField.around(apart, 0.5)
    model = dataclasses.replace(model_of(), posterior=bbb.posteriors.Ensemble(members))
    one, three = (bbb.predict(jax.random.key(0), model, np.eye(ROWS, dtype="float32"), draws=n).y for n in (2, 6))
    for part in PARTS:
        assert np.isinf(getattr(one.mcse_entropy, part)).all()
        assert np.isfinite(getattr(three.mcse_entropy, part)).all()
