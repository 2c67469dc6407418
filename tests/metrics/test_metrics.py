"""Every metric agrees with scoringrules, SciPy or brute force; a classifier of digits is right and calibrated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import bbb
from bbb import metrics
from bbb.evaluate.pruning import prune
from bbb.metrics import scores as scores_module
from bbb.metrics.classification import predictive_entropy

RNG = np.random.default_rng(0)
entropies = jax.jit(predictive_entropy)
P = RNG.dirichlet(np.full(4, 0.5), size=(50, 6))  # (draws, rows, classes)


def test_the_entropies_are_those_of_scipy_and_add_up(dtype):
    got = entropies(jnp.asarray(P, dtype))
    assert all(part.shape == (6,) and part.dtype == dtype for part in got)
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(got.total, scipy.stats.entropy(P.mean(0), axis=-1), rtol=tolerance)
    np.testing.assert_allclose(got.aleatoric, scipy.stats.entropy(P, axis=-1).mean(0), rtol=tolerance)
    np.testing.assert_allclose(got.epistemic, scipy.stats.entropy(P, P.mean(0)[None], axis=-1).mean(0), rtol=tolerance)
    np.testing.assert_allclose(got.total, got.aleatoric + got.epistemic, rtol=tolerance)


# Draws that agree leave no doubt about the weights: exactly 0, where a difference of entropies would round.
def test_draws_that_agree_have_no_epistemic_entropy(dtype):
    got = predictive_entropy(jnp.asarray(np.repeat(P[:1], 4, axis=0), dtype))
    np.testing.assert_array_equal(got.epistemic, 0.0)
    np.testing.assert_allclose(got.total, got.aleatoric, rtol=1e-6)


def test_sure_draws_that_disagree_have_epistemic_entropy_alone(dtype):
    got = entropies(jnp.asarray(np.eye(4)[:, None], dtype))  # draw d is sure of class d
    np.testing.assert_array_equal(got.aleatoric, 0.0)
    np.testing.assert_allclose(got.epistemic, np.log(4), rtol=1e-6)


def test_doubt_that_all_draws_share_is_aleatoric(dtype):
    got = entropies(np.full((3, 1, 4), 0.25, dtype))
    np.testing.assert_allclose(got.aleatoric, np.log(4), rtol=1e-6)
    np.testing.assert_array_equal(got.epistemic, 0.0)


def test_it_compiles_and_has_a_gradient():
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(predictive_entropy(p).total)))(jnp.asarray(P, "float32"))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("p", "error", "text"),
    [
        (P[0], bbb.errors.ShapeError, "probabilities of shape (draws, rows, classes), got (6, 4)"),
        (P[:0], bbb.errors.ShapeError, "got (0, 6, 4)"),
        (np.log(P), bbb.errors.InputError, "probabilities of at least 0 that sum to 1"),
        (2 * P, bbb.errors.InputError, "a sum off by 1.0"),
        (np.full((1, 1, 2), np.nan), bbb.errors.InputError, "a sum off by nan"),
    ],
)
def test_what_is_no_probability_is_refused(p, error, text):
    with pytest.raises(error) as caught:
        predictive_entropy(p)
    assert text in str(caught.value)


Y = RNG.normal(3.0, 2.0, size=(7, 2))
DRAWS = RNG.normal(3.0, 2.0, size=(40, 7, 2))
STDS = RNG.uniform(0.3, 2.0, size=DRAWS.shape)
KEY = jax.random.key(0)


@pytest.fixture
def scoringrules():
    return pytest.importorskip("scoringrules")


# In float64 whatever JAX is set to: the tolerances are of float64 here, where JAX is set to float32.
def test_crps_of_a_gaussian_is_that_of_scoringrules(scoringrules):
    got = metrics.crps_normal(Y, DRAWS[0], STDS[0])
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, scoringrules.crps_normal(Y, DRAWS[0], STDS[0]), rtol=1e-12)
    one = metrics.crps_normal(Y, DRAWS[0], 0.5)
    np.testing.assert_allclose(one, scoringrules.crps_normal(Y, DRAWS[0], np.full_like(Y, 0.5)), rtol=1e-12)


@pytest.mark.parametrize("distinct", [40, 3])
def test_crps_of_draws_is_that_of_scoringrules(scoringrules, distinct):
    draws = np.resize(DRAWS[:distinct], DRAWS.shape)  # repeated draws are ties
    want = scoringrules.crps_ensemble(Y, draws, m_axis=0, estimator="nrg")
    np.testing.assert_allclose(metrics.crps_draws(Y, draws), want, rtol=1e-11)


def test_crps_of_draws_far_from_0_keeps_its_digits():
    np.testing.assert_allclose(metrics.crps_draws(Y + 1e6, DRAWS + 1e6), metrics.crps_draws(Y, DRAWS), rtol=1e-8)


# By steps where the stds are wide, by pairs where one is narrow: the two ways must not be told apart.
@pytest.mark.parametrize("narrowest", [0.3, 1e-3])
def test_crps_of_a_mixture_is_that_of_scoringrules(scoringrules, narrowest):
    means, stds = np.concatenate([DRAWS] * 8), np.concatenate([STDS] * 8)
    stds[0] = narrowest
    want = scoringrules.crps_mixnorm(Y, means, stds, m_axis=0)
    np.testing.assert_allclose(metrics.crps_normal_mixture(Y, means, stds), want, rtol=1e-11)


def test_both_ways_to_the_crps_of_a_mixture_agree():
    with jax.enable_x64(True):
        means, stds = DRAWS[:, 0, 0], STDS[:, 0, 0]
        low, high = np.min(means - scores_module.TAILS * stds), np.max(means + scores_module.TAILS * stds)
        steps = scores_module._crps_by_steps(means, stds, low, high, steps=512)
        np.testing.assert_allclose(steps, scores_module._crps_by_pairs(means, stds), rtol=1e-13)


def test_the_crps_of_a_mixture_of_one_is_a_gaussians_and_does_not_depend_on_other_rows():
    one = metrics.crps_normal_mixture(Y, DRAWS[:1], STDS[:1])
    np.testing.assert_allclose(one, metrics.crps_normal(Y, DRAWS[0], STDS[0]), rtol=1e-12)
    some = metrics.crps_normal_mixture(Y[2:4], DRAWS[:, 2:4], 0.4)
    np.testing.assert_array_equal(some, metrics.crps_normal_mixture(Y, DRAWS, 0.4)[2:4])


def test_the_crps_of_a_mixture_is_the_mean_over_its_draws():
    means, stds = np.array([0.0, 4.0]), np.array([1.0, 0.5])
    rng = np.random.default_rng(1)
    pick = rng.integers(2, size=(200, 2000))  # 200 estimates of 2,000 draws each
    estimates = metrics.crps_draws(np.ones(200), rng.normal(means[pick], stds[pick]).T)
    error = estimates.std(ddof=1) / np.sqrt(200)
    exact = metrics.crps_normal_mixture(np.ones(1), means[:, None], stds[:, None])
    bias = 1e-3  # of the empirical CRPS: E|X - X'|/(2S)
    assert abs(estimates.mean() - exact[0]) < 4 * error + bias


def test_interval_score_is_that_of_scoringrules(scoringrules):
    lower, upper = DRAWS.min(0), DRAWS.max(0)
    lower[0], upper[0] = Y[0] + 1, Y[0] + 2
    got = metrics.interval_score(Y, lower, upper, 0.9)
    np.testing.assert_allclose(got, scoringrules.interval_score(Y, lower, upper, 1 - 0.9), rtol=1e-12)


def test_coverage_counts_both_ends_and_width_is_the_mean():
    y, lower, upper = [0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 3.0, 2.0]
    assert metrics.coverage(y, lower, upper) == 0.75
    assert metrics.interval_width(lower, upper) == 1.75
    assert metrics.rmse(y, upper) == np.sqrt(3 / 4)


def test_pit_of_draws_is_uniform_whatever_is_tied():
    rng = np.random.default_rng(2)
    for sampled in (rng.normal(size=(10, 4000)), rng.poisson(0.7, size=(10, 4000))):
        u = metrics.pit_draws(KEY, sampled[0], sampled[1:])
        assert scipy.stats.kstest(u, "uniform").pvalue > 0.01


def test_pit_of_a_discrete_distribution_is_uniform_and_between_its_ends():
    y = np.random.default_rng(3).poisson(0.7, size=4000)
    below, upto = scipy.stats.poisson.cdf(y - 1, 0.7), scipy.stats.poisson.cdf(y, 0.7)
    u = metrics.pit(KEY, below, upto)
    assert ((below <= u) & (u <= upto)).all()
    assert scipy.stats.kstest(u, "uniform").pvalue > 0.01
    np.testing.assert_array_equal(metrics.pit(KEY, upto, upto), upto)


def test_observed_coverage_is_that_of_the_central_intervals():
    y, levels = RNG.normal(size=500), (0.5, 0.9, 0.95)
    ends = [np.full_like(y, scipy.stats.norm.ppf((1 + level) / 2)) for level in levels]
    want = [metrics.coverage(y, -end, end) for end in ends]
    np.testing.assert_array_equal(metrics.observed_coverage(scipy.stats.norm.cdf(y), levels), want)


CLASSES = RNG.integers(4, size=60)
SURE = RNG.dirichlet(np.full(4, 0.3), size=60)


def test_brier_and_accuracy_are_those_of_scikit_learn_and_scoringrules(scoringrules):
    ours = pytest.importorskip("sklearn.metrics")
    np.testing.assert_allclose(metrics.accuracy(CLASSES, SURE), ours.accuracy_score(CLASSES, SURE.argmax(1)))
    two = np.stack([1 - SURE[:, 0], SURE[:, 0]], axis=1)
    binary = scoringrules.brier_score((CLASSES == 0).astype(float), SURE[:, 0])
    np.testing.assert_allclose(metrics.brier(CLASSES == 0, two), 2 * binary, atol=1e-14)
    pytest.importorskip("sklearn", minversion="1.7")  # which has a Brier score of several classes
    want = ours.brier_score_loss(CLASSES, SURE, labels=range(4), scale_by_half=False)
    np.testing.assert_allclose(metrics.brier(CLASSES, SURE).mean(), want, rtol=1e-12)


def brute_calibration_error(y, p, bins):
    total = 0.0
    for b in range(bins):
        rows = (p.max(1) > b / bins) & (p.max(1) <= (b + 1) / bins)
        if rows.any():
            total += rows.sum() * abs(p[rows].max(1).mean() - (p[rows].argmax(1) == y[rows]).mean())
    return total / len(y)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_expected_calibration_error_is_that_of_brute_force(bins):
    p = np.concatenate([SURE, np.eye(4)[:3], [[0.75, 0.25, 0, 0]]])  # on the edges too
    y = np.concatenate([CLASSES, [0, 1, 0, 0]])
    got = metrics.expected_calibration_error(y, p, bins)
    np.testing.assert_allclose(got, brute_calibration_error(y, p, bins), rtol=1e-12)
    found = metrics.reliability(y, p, bins)
    assert found.counts.sum() == len(y)
    assert found.edges.shape == (bins + 1,)
    np.testing.assert_array_equal(np.isnan(found.accuracy), found.counts == 0)


def test_a_classifier_that_is_as_sure_as_it_is_right_is_calibrated():
    p = np.tile([0.75, 0.25], (400, 1))
    assert metrics.expected_calibration_error(np.repeat([0, 1], [300, 100]), p) == 0
    assert metrics.expected_calibration_error(np.zeros(400), p) == 0.25


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: metrics.rmse(Y, Y[:, 0]), bbb.errors.ShapeError, "mean of the shape (7, 2) of y, got (7,)"),
        (lambda: metrics.rmse([], []), bbb.errors.ShapeError, "y to have a leading row axis with at least one row"),
        (lambda: metrics.crps_normal(Y, Y, 0.0), bbb.errors.InputError, "std to be finite and above 0, got 0.0"),
        (
            lambda: metrics.crps_normal(Y, Y, np.ones(3)),
            bbb.errors.ShapeError,
            "broadcasts to the means' (7, 2), got (3,)",
        ),
        (
            lambda: metrics.crps_normal(Y * np.nan, Y, 1.0),
            bbb.errors.NonFiniteInputError,
            "y to hold finite numbers only",
        ),
        (lambda: metrics.crps_draws(Y, DRAWS[:, :, 0]), bbb.errors.ShapeError, "draws of shape (draws, 7, 2)"),
        (lambda: metrics.crps_draws(Y, Y), bbb.errors.ShapeError, "Pass draws of y, with the draws on the first axis."),
        (lambda: metrics.crps_normal_mixture(Y, DRAWS, -STDS), bbb.errors.InputError, "std to be finite and above 0"),
        (lambda: metrics.coverage(Y, Y + 1, Y), bbb.errors.InputError, "lower ends at most as high as upper ends"),
        (lambda: metrics.interval_width([1, 3], [2, 2]), bbb.errors.InputError, "got 3 above 2 at index (1,)"),
        (
            lambda: metrics.interval_score(Y, Y, Y, 1.0),
            bbb.errors.InputError,
            "level to be one number inside (0, 1), got 1.0",
        ),
        (lambda: metrics.pit(KEY, [0.5], [0.4]), bbb.errors.InputError, "below to be at most upto, got 0.5 above 0.4"),
        (lambda: metrics.pit(KEY, [0.5], [1.4]), bbb.errors.InputError, "upto inside [0, 1], got 1.4"),
        (lambda: metrics.pit(0, [0.5], [0.6]), bbb.errors.KeyTypeError, "one typed JAX key"),
        (lambda: metrics.pit_draws(0, Y, DRAWS), bbb.errors.KeyTypeError, "one typed JAX key"),
        (lambda: metrics.observed_coverage([1.5], [0.5]), bbb.errors.InputError, "pit inside [0, 1], got 1.5"),
        (lambda: metrics.observed_coverage([0.5], [0.9, 0.5]), bbb.errors.InputError, "levels in rising order"),
        (lambda: metrics.observed_coverage([0.5], []), bbb.errors.InputError, "levels in rising order, at least one"),
        (
            lambda: metrics.observed_coverage([0.5], [0.5, 95]),
            bbb.errors.InputError,
            "levels to be one number inside (0, 1)",
        ),
        (
            lambda: metrics.accuracy(CLASSES, SURE[None]),
            bbb.errors.ShapeError,
            "probabilities of shape (rows, classes)",
        ),
        (
            lambda: metrics.accuracy(CLASSES[1:], SURE),
            bbb.errors.ShapeError,
            "y of shape (60,), as probabilities are (60, 4)",
        ),
        (lambda: metrics.brier(CLASSES + 1, SURE), bbb.errors.InputError, "classes from 0 to 3 in y, got 4"),
        (lambda: metrics.brier(CLASSES + 0.5, SURE), bbb.errors.InputError, "classes from 0 to 3 in y, got"),
        (lambda: metrics.brier(CLASSES, SURE - 1), bbb.errors.InputError, "probabilities of at least 0 that sum to 1"),
        (lambda: metrics.brier(CLASSES, 2 * SURE), bbb.errors.InputError, "a sum off by 1.0"),
        (
            lambda: metrics.reliability(CLASSES, SURE, 0),
            bbb.errors.InputError,
            "bins to be a whole number of at least 1",
        ),
    ],
)
def test_what_a_metric_cannot_mean_is_refused(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


def fit_digits(split):
    """Train a flax classifier of digits; return it, the test rows of the split, and its probabilities there.

    Width, prior and KL weight were chosen by the log score of rows held out of the training rows of three other
    splits. At a KL weight of 1 the classifier is less sure than it should be: its calibration error was twice as large.
    """
    datasets, linen = pytest.importorskip("sklearn.datasets"), pytest.importorskip("flax.linen")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    test, train = np.split(np.random.default_rng(split).permutation(len(x)), [len(x) // 5])
    network, steps = linen.Sequential([linen.Dense(200), linen.relu, linen.Dense(10)]), 2500
    params = network.init(jax.random.key(0), x[:1])
    prior, likelihood = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Categorical()
    model = bbb.bayesianize(network, params, prior=prior, likelihood=likelihood)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    how = {"steps": steps, "batch_size": 128, "optimizer": optimizer, "progress": False}
    objective = bbb.train.Objective(kl_weight=0.03, forward=bbb.forwards.local_reparam(model.apply))
    model, _ = bbb.fit(jax.random.key(0), model, x[train], y[train], objective=objective, **how)
    return model, x[test], y[test]


def probabilities(model, x):
    return bbb.predict(jax.random.key(2), model, x, draws=200).y.probabilities


def pruned(model):
    return dataclasses.replace(model, posterior=prune(model.posterior, 0.75))


@pytest.fixture
def flax_is_not_strict():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.usefixtures("flax_is_not_strict")
def test_a_flax_classifier_of_digits_is_right_calibrated_and_can_be_pruned_and_knows_what_is_no_digit():
    auc = pytest.importorskip("sklearn.metrics").roc_auc_score
    model, x, y = fit_digits(0)
    p = probabilities(model, x)
    assert metrics.accuracy(y, p) >= 0.975
    assert metrics.expected_calibration_error(y, p) < 0.03
    lost = metrics.accuracy(y, p) - metrics.accuracy(y, probabilities(pruned(model), x))
    assert round(lost * len(y)) <= 3  # of 360 rows; the half point is held over five splits, below
    shuffled = np.random.default_rng(0).permuted(x, axis=1)
    entropy = [bbb.predict(jax.random.key(2), model, rows, draws=200).y.entropy.total for rows in (x, shuffled)]
    assert auc(np.repeat([0, 1], len(y)), np.concatenate(entropy)) > 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("flax_is_not_strict")
def test_over_five_splits_digits_are_right_calibrated_and_can_be_pruned():
    scores = []
    for split in range(5):
        model, x, y = fit_digits(split)
        p, fewer = probabilities(model, x), probabilities(pruned(model), x)
        error = metrics.expected_calibration_error(y, p)
        scores.append([metrics.accuracy(y, p), error, metrics.accuracy(y, p) - metrics.accuracy(y, fewer)])
    accuracy, error, cost = np.mean(scores, axis=0)
    assert accuracy >= 0.975
    assert error < 0.03
    assert cost <= 0.005
