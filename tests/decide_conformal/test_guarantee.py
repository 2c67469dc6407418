"""Coverage over 1,000 repeats, within the binomial limits of the guarantee, of models that are right and wrong.

A fixed model predicts all rows once; each repeat calibrates on some of them at random and asks about another one.
"""

import jax
import numpy as np
import pytest
from scipy import stats

import bbb
from bbb.decide.coverage.calibration import calibration_of
from bbb.decide.coverage.cross import jackknife_plus
from bbb.decide.coverage.intervals import around_mean, around_quantiles, quantile_scores, std_scores, whole
from bbb.decide.coverage.sets import ClassScore, of_label, within
from bbb.networks import nn
from bbb.predictive.summary import Interval

REPEATS, ROWS = 1_000, 59
LEVELS = (0.5, 0.8, 0.9, 0.95)


def within_limits(inside, lowest, highest=1.0, sure=1e-4):
    """Hold that a number of successes is one of a probability between two, but for a chance of `sure` on each side."""
    hits, n = int(np.sum(inside)), len(inside)
    assert stats.binom.cdf(hits, n, lowest) > sure
    assert stats.binom.sf(hits - 1, n, highest) > sure


def normal_rows(seed, wrong):
    """Return y of 1,000 repeats, (repeats, rows + 1), whose last row is the new one, and what a model says of them."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (REPEATS, ROWS + 1))
    y = np.sin(3 * x) + (0.1 + 0.4 * np.abs(x)) * rng.standard_normal(x.shape)
    if wrong == "right":
        return y, np.sin(3 * x), 0.1 + 0.4 * np.abs(x)
    if wrong == "biased and far too sure":
        return y, np.sin(3 * x) + 1.0, np.full(x.shape, 0.02)
    if wrong == "far too wide":
        return y, np.zeros(x.shape), np.full(x.shape, 30.0)
    return rng.standard_cauchy(x.shape), np.zeros(x.shape), np.ones(x.shape)  # "with tails of another kind"


WRONG = ("right", "biased and far too sure", "far too wide", "with tails of another kind")


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("level", LEVELS)
def test_intervals_by_the_std_hold_the_level_over_1000_repeats(wrong, level):
    y, mean, std = normal_rows(0, wrong)
    inside = []
    for of, centre, spread in zip(y, mean, std, strict=True):
        found = calibration_of(std_scores(of[:-1], centre[:-1], spread[:-1])[None], (), None, None)
        lower, upper = around_mean(centre[-1:], spread[-1:], found.bounds(level, 1))
        inside.append(lower[0] <= of[-1] <= upper[0])
    within_limits(inside, level, level + 1 / (ROWS + 1))


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("level", LEVELS)
def test_intervals_by_quantiles_hold_the_level_over_1000_repeats(wrong, level):
    y, mean, std = normal_rows(1, wrong)
    z = stats.norm.ppf((1 + level) / 2)
    inside = []
    for of, lower, upper in zip(y, mean - z * std, mean + z * std, strict=True):
        scores = quantile_scores(of[:-1], Interval(lower[:-1], upper[:-1]))
        bounds = calibration_of(scores[None], (), None, None).bounds(level, 1)
        low, high = around_quantiles(Interval(lower[-1:], upper[-1:]), bounds)
        inside.append(low[0] <= of[-1] <= high[0])
    within_limits(inside, level, level + 1 / (ROWS + 1))


@pytest.mark.parametrize("level", LEVELS)
def test_counts_with_many_ties_hold_at_least_the_level(level):
    rng = np.random.default_rng(2)
    y = rng.poisson(2.0, (REPEATS, ROWS + 1)).astype(np.float32)
    mean, std = np.full(ROWS + 1, 1.7, np.float32), np.full(ROWS + 1, 0.4, np.float32)
    inside = []
    for of in y:
        bounds = calibration_of(std_scores(of[:-1], mean[:-1], std[:-1])[None], (), None, None).bounds(level, 1)
        lower, upper = whole(around_mean(mean[-1:], std[-1:], bounds))
        assert lower[0] == np.round(lower[0]) >= 0
        inside.append(lower[0] <= of[-1] <= upper[0])
    within_limits(inside, level)


@pytest.mark.parametrize("wrong", ["right", "wrong"])
@pytest.mark.parametrize("how", [ClassScore(), ClassScore(0.05, 1), ClassScore(randomised=True)])
def test_sets_of_classes_hold_the_level_over_1000_repeats(wrong, how):
    rng = np.random.default_rng(3)
    truth = rng.dirichlet([1.0] * 5, (REPEATS, ROWS + 1))
    y = np.array([[rng.choice(5, p=p) for p in rows] for rows in truth])
    said = truth if wrong == "right" else rng.dirichlet([0.3] * 5, (REPEATS, ROWS + 1))
    scores = how.scores(said, how.shares(jax.random.key(0), said.shape[:-1]))
    for level in (0.5, 0.9):
        inside = []
        for score, label, p in zip(scores, y, said, strict=True):
            calibrated = of_label(score[:-1], label[:-1])
            bounds = calibration_of(calibrated, (), None, None).bounds(level, 1)
            inside.append(within(score[-1:], bounds, p[-1:])[0, label[-1]])
        within_limits(inside, level)


def test_a_network_that_is_wrong_on_purpose_holds_the_level_over_1000_repeats():
    network = nn.sequential(nn.linear(1, 3), nn.tanh, nn.linear(3, 1))  # never trained, and of a tenth of the noise
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.1)}
    model = bbb.bayesianize(network.apply, network.init(jax.random.key(0)), **beliefs)
    rng = np.random.default_rng(7)
    x = rng.uniform(-1, 1, (4000, 1))
    y = np.sin(3 * x) + rng.standard_normal(x.shape)
    made = bbb.predict(jax.random.key(1), model, x, draws=20, levels=(0.9,)).y
    own, score = made.interval(0.9), std_scores(y, made.mean, made.std)
    by_quantile = quantile_scores(y, own)
    inside = {"own": [], "std": [], "quantile": []}
    for _ in range(REPEATS):
        *rows, new = rng.choice(4000, ROWS + 1, replace=False)
        here = slice(new, new + 1)
        bounds = calibration_of(score[rows][None], (), None, None).bounds(0.9, 1)
        moved = calibration_of(by_quantile[rows][None], (), None, None).bounds(0.9, 1)
        ends: dict = {"own": [end[here] for end in own]}
        ends["std"] = around_mean(made.mean[here], made.std[here], bounds)
        ends["quantile"] = around_quantiles(Interval(*ends["own"]), moved)
        for name, (lower, upper) in ends.items():
            inside[name].append(lower[0, 0] <= y[new, 0] <= upper[0, 0])
    within_limits(inside["std"], 0.9, 0.9 + 1 / (ROWS + 1))
    within_limits(inside["quantile"], 0.9, 0.9 + 1 / (ROWS + 1))
    assert np.mean(inside["own"]) < 0.5


def test_by_group_the_level_holds_within_each_where_one_calibration_for_all_fails():
    rng = np.random.default_rng(4)
    names = np.array(["easy"] * 90 + ["hard"] * 30)
    inside = {"easy": [], "hard": [], "hard, in one": []}
    for _ in range(REPEATS):
        scores = np.abs(rng.standard_normal(120)) * np.where(names == "easy", 1.0, 5.0)
        new = np.abs(rng.standard_normal(2)) * [1.0, 5.0]
        bounds = calibration_of(scores[None, :, None], (), names, None).bounds(0.9, 2, ["easy", "hard"])[:, 0]
        inside["easy"].append(new[0] <= bounds[0])
        inside["hard"].append(new[1] <= bounds[1])
        inside["hard, in one"].append(
            new[1] <= calibration_of(scores[None, :, None], (), None, None).bounds(0.9, 1)[0, 0]
        )
    within_limits(inside["easy"], 0.9, 0.9 + 1 / 91)
    within_limits(inside["hard"], 0.9, 0.9 + 1 / 31)
    assert np.mean(inside["hard, in one"]) < 0.8


def test_weights_hold_the_level_under_a_shift_of_x_where_none_fail():
    rng = np.random.default_rng(5)
    inside = {"weighted": [], "plain": []}
    for _ in range(REPEATS):
        x, new = rng.normal(0.0, 1.0, 300), rng.normal(1.0, 1.0)
        scores = np.abs(rng.standard_normal(300)) * np.exp(x)
        score = np.abs(rng.standard_normal()) * np.exp(new)
        ratio = np.exp(x - 0.5)  # N(1, 1)/N(0, 1)
        weighted = calibration_of(scores[None, :, None], (), None, ratio).bounds(0.8, 1, None, [np.exp(new - 0.5)])
        inside["weighted"].append(score <= weighted[0, 0])
        inside["plain"].append(score <= calibration_of(scores[None, :, None], (), None, None).bounds(0.8, 1)[0, 0])
    within_limits(inside["weighted"], 0.8)
    assert np.mean(inside["plain"]) < 0.7


def test_the_jackknife_holds_its_level_over_1000_repeats_also_with_a_wrong_model():
    rng = np.random.default_rng(6)
    inside, n = [], 20
    for _ in range(REPEATS):
        x = rng.uniform(-1, 1, n + 1)
        y = np.exp(2 * x) + 0.3 * rng.standard_normal(n + 1)  # which no line through the origin fits
        xy, xx = x[:n] @ y[:n] - x[:n] * y[:n], x[:n] @ x[:n] - x[:n] ** 2
        slopes = xy / xx  # of all rows but one
        means = (slopes * x[n])[:, None]
        lower, upper = jackknife_plus(means, np.abs(y[:n] - slopes * x[:n]), np.arange(n), 0.9)
        inside.append(lower[0] <= y[n] <= upper[0])
    within_limits(inside, 2 * 0.9 - 1)
    assert np.mean(inside) > 0.85
