"""Models that are too sure between groups of rows are named, and no others."""

import functools

import jax
import numpy as np
import optax
import pytest

import bbb
from bbb.evaluate.checks_between import DISTINCT, NAME, empty_stretches

STEPS, SEEDS = 1_500, 20
FALLING = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))
KEYS = jax.random.split(jax.random.key(1), SEEDS)


def rows(seed, count=80, low=0.7, high=1.6):
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.uniform(-high, -low, count // 2), rng.uniform(low, high, count // 2)])[:, None]
    return x, truth(x) + 0.1 * rng.normal(size=x.shape)


def truth(x):
    return 0.7 * np.sin(4 * x) + 0.4 * x


@functools.cache
def trained(activation, count, low=0.7):
    network = bbb.nn.sequential(bbb.nn.linear(1, 30), getattr(bbb.nn, activation), bbb.nn.linear(30, 1))
    models = [
        bbb.bayesianize(
            network.apply,
            network.init(key),
            prior=bbb.priors.Normal(0.0, 1.0),
            likelihood=bbb.likelihoods.Gaussian(0.1),
        )
        for key in KEYS[:count]
    ]
    x, y = zip(*(rows(seed, low=low) for seed in range(count)), strict=True)
    objective = bbb.train.Objective(bbb.objectives.exact_elbo_cost, kl_weight=bbb.objectives.warm_up(1_000))
    options = {"steps": STEPS, "optimizer": FALLING, "objective": objective, "progress": False}
    return bbb.train.fit_each(KEYS[:count], models, x, y, **options)[0], list(zip(x, y, strict=True))


def is_named(model, x, y):
    return NAME in {finding.name for finding in bbb.diagnose(model, None, x, y, draws=200)}


def log_score(model, x, y):
    outputs = bbb.draws(KEYS[0], model, x, draws=500)
    return float(np.mean(bbb.mixture.log_score(model.likelihood, outputs, y)))


def test_independent_gaussians_are_named_and_who_follows_the_advice_predicts_the_gap_better():
    models, data = trained("relu", 2)
    x = np.linspace(-0.6, 0.6, 100)[:, None]
    for k, (model, given) in enumerate(zip(models, data, strict=True)):
        (finding,) = [f for f in bbb.diagnose(model, None, *given, draws=200) if f.name == NAME]
        assert "no rows for x[:, 0] from -0.7" in finding.seen
        assert "Use bbb.laplace(key, model, x, y)" in finding.advice
        assert is_named(model, *rows(100 + k, 60))  # rows that it was not trained on show it too
        wide = bbb.laplace(KEYS[k], model, *given)
        assert not is_named(wide, *given)
        y = truth(x) + 0.1 * np.random.default_rng(k).normal(size=x.shape)
        assert log_score(wide, x, y) > log_score(model, x, y) + 1


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_of_twenty_seeds_nineteen_at_least_are_told_right(activation):
    models, data = trained(activation, SEEDS)
    wide = [bbb.laplace(KEYS[0], model, *given) for model, given in zip(models, data, strict=True)]
    held = [rows(100 + seed, 60) for seed in range(SEEDS)]
    assert sum(is_named(model, *given) for model, given in zip(models, data, strict=True)) >= 19
    assert sum(is_named(model, *given) for model, given in zip(models, held, strict=True)) >= 19
    assert sum(is_named(model, *given) for model, given in zip(wide, held, strict=True)) <= 1
    healthy, full = trained(activation, SEEDS, low=0.0)
    assert sum(is_named(model, *given) for model, given in zip(healthy, full, strict=True)) <= 1


KINDS = {
    "uniform": lambda rng, size: rng.uniform(size=size),
    "normal": lambda rng, size: rng.normal(size=size),
    "lognormal": lambda rng, size: np.exp(rng.normal(size=size)),
    "Cauchy": lambda rng, size: rng.standard_cauchy(size=size),
    "whole": lambda rng, size: rng.integers(0, 60, size).astype(float),
    "two modes": lambda rng, size: rng.normal(size=size) + 3 * rng.integers(0, 2, size),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_gaps_have_no_empty_stretch(kind):
    rng = np.random.default_rng(0)
    sizes = [(count, columns) for count in (50, 200, 1_000) for columns in (1, 3, 8)] * 5
    assert sum(bool(empty_stretches(KINDS[kind](rng, size))) for size in sizes) <= 2


def test_the_points_are_in_the_middle_of_the_stretch_and_near_the_rows():
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, (300, 3))
    x = x[np.abs(x[:, 1]) > 0.4] * (1, 1, 1000)
    (stretch, *_) = empty_stretches(x)
    assert stretch.where.startswith("for x[:, 1] from -0.4")
    np.testing.assert_allclose(stretch.points[:, 1], stretch.points[0, 1], atol=1e-12)
    assert abs(stretch.points[0, 1]) < 0.05
    assert (np.abs(stretch.points[:, (0, 2)]) <= (1, 1000)).all()


def test_clusters_along_a_diagonal_are_seen():
    rng = np.random.default_rng(3)
    along = np.concatenate([rng.uniform(-3, -1, 60), rng.uniform(1, 3, 60)])
    across = rng.uniform(-3, 3, 120)
    (stretch, *_) = empty_stretches(np.stack([along + across, along - across], axis=1))
    assert "principal axis" in stretch.where
    assert (np.abs(stretch.points.sum(axis=1)) < 0.3).all()


def test_the_order_of_rows_and_their_units_do_not_matter():
    x = rows(0)[0]
    order = np.random.default_rng(0).permutation(len(x))
    (given,), (turned,), (large,) = map(empty_stretches, (x, x[order], 1e6 * x + 1e3))
    np.testing.assert_array_equal(given.points, turned.points)
    np.testing.assert_allclose(1e6 * given.points + 1e3, large.points, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("x", [np.ones((200, 2)), rows(0, DISTINCT - 2)[0], np.repeat([[0.0], [1.0]], 50, axis=0)])
def test_few_values_leave_no_stretch(x):
    assert empty_stretches(x) == []


def test_what_cannot_be_looked_at_is_said():
    network = bbb.nn.sequential(bbb.nn.linear(1, 3), bbb.nn.relu, bbb.nn.linear(3, 1))
    model = bbb.bayesianize(
        network.apply,
        network.init(KEYS[0]),
        prior=bbb.priors.Laplace(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(0.1),
    )
    report = bbb.diagnose(model, None, *rows(0), draws=200)
    (skipped,) = report.skipped
    assert skipped.name == NAME
    assert "a prior with `curvature`" in skipped.reason
    assert str(report).endswith(f"It was not looked at whether the model is {NAME}: {skipped.reason}")
    assert bbb.diagnose(model, None, *rows(0, low=0.0), draws=200).skipped == ()
