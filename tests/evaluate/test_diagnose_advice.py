"""What `diagnose` advises depends on the model, and helps: who follows it predicts rows held out better.

Slow, as most of these train twice; `python -m pytest -m slow tests/evaluate/test_diagnose_advice.py`.
"""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import bbb
from bbb.evaluate.diagnosis.checks_of_predictive import FAR
from tests.evaluate.test_diagnose import (
    BOUNDED,
    CONSTANT_RATE,
    FALLING,
    LINE,
    NETWORK,
    STEPS,
    TEST,
    TRAIN,
    WIDE,
    trained,
)

pytestmark = pytest.mark.slow

LEARNED = bbb.likelihoods.Gaussian(0.5, learn=True)
FAN_IN = "bbb.priors.fan_in(params)"


def fitted(network, likelihood, rows=TRAIN, prior=None, steps=STEPS, apply=None, seed=0, kl_weight=1.0, **options):
    params = network.init(jax.random.key(seed))
    prior = bbb.priors.Normal(0.0, 1.0) if prior is None else bbb.priors.fan_in(params) if prior == "fan-in" else prior
    model = bbb.bayesianize(apply or network.apply, params, prior=prior, likelihood=likelihood)
    objective = bbb.train.Objective(kl_weight=kl_weight, forward=bbb.forwards.local_reparam(model.apply), draws=4)
    options = {"optimizer": FALLING, "objective": objective, **options}
    return bbb.fit(jax.random.key(1), model, *rows, steps=steps, **options)


def score(model, rows=TEST):
    """The mean log score of rows held out: nats a row."""
    outputs = bbb.draws(jax.random.key(2), model, rows[0], draws=300)
    return float(np.mean(bbb.mixture.log_score(model.likelihood, outputs, rows[1])))


def advice(name, model, history=None, rows=TEST, draws=300):
    report = {finding.name: finding.advice for finding in bbb.diagnose(model, history, *rows, draws=draws)}
    assert name in report, report
    return report[name]


def test_train_for_more_steps():
    early, history = trained(steps=100, optimizer=CONSTANT_RATE)
    assert "Train for more steps, or let the learning rate fall" in advice("not converged", early, history)
    assert score(trained()[0]) > score(early) + 0.1


def test_over_all_of_which_the_rate_falls():
    early, history = trained(steps=100, optimizer=optax.adam(optax.cosine_decay_schedule(0.01, 100)))
    assert advice("not converged", early, history) == "Train for more steps, over all of which the learning rate falls."
    assert score(trained()[0]) > score(early) + 0.1


def test_count_the_kl_once():
    often, history = trained(kl_weight=1_000.0)
    assert "kl_weight=1" in advice("KL outweighs data term", often, history)
    flat = jax.tree.map(lambda leaf: 0 * leaf, often.posterior)
    at_the_prior = dataclasses.replace(often, posterior=flat)
    said = advice("collapsed onto the prior", at_the_prior, history, draws=5_000)
    assert said.endswith("too often: use kl_weight=1.")
    assert score(trained()[0]) > score(often) + 0.1


def test_count_the_kl_no_less_than_once():
    """24 rows of 20 columns: without a prior's pull, a line goes through the noise, and is sure of it."""
    rng = np.random.default_rng(6)
    slopes = 0.2 * rng.normal(size=(20, 1))
    train, test = (
        (x, x @ slopes + rng.normal(size=(len(x), 1))) for x in (rng.normal(size=(n, 20)) for n in (24, 200))
    )
    how = {"network": bbb.nn.linear(20, 1), "likelihood": bbb.likelihoods.Gaussian(1.0), "rows": train}
    how |= {"prior": bbb.priors.Normal(0.0, 0.2)}
    seldom, history = fitted(**how, kl_weight=1e-3)
    assert "Use kl_weight=1" in advice("data term outweighs KL", seldom, history, test)
    assert score(fitted(**how)[0], test) > score(seldom, test) + 0.1


def test_move_the_standard_deviations():
    model, _ = trained()
    start = dataclasses.replace(model.posterior, log_std=jax.tree.map(lambda s: 0 * s - 0.5, model.posterior.log_std))
    unmoved = dataclasses.replace(model, posterior=start)
    assert "Train longer" in advice("standard deviations still at their start", unmoved)
    assert score(model) > score(unmoved) + 0.1


def test_let_the_standard_deviations_grow():
    few = tuple(part[:12] for part in TRAIN)
    model, _ = fitted(NETWORK, bbb.likelihoods.Gaussian(0.3), few)
    shrunk = jax.tree.map(lambda s: s - 8, model.posterior.log_std)
    sure = dataclasses.replace(model, posterior=dataclasses.replace(model.posterior, log_std=shrunk))
    assert "Start from larger ones" in advice("standard deviations far too small", sure)
    assert score(model) > score(sure) + 0.05


def test_of_a_narrow_prior_take_a_wider_one():
    narrow, history = trained(prior_std=0.03)
    said = advice("collapsed onto the prior", narrow, history)
    assert FAN_IN in said
    assert "too narrow" in said
    assert score(trained(prior_std=None)[0]) > score(narrow) + 0.1


def test_of_a_wide_prior_on_many_units_take_one_scaled_by_fan_in():
    """2,000 units and 30 rows under N(0, 1), of which a wider prior made more noise yet."""
    network = bbb.nn.sequential(bbb.nn.linear(1, 2_000), bbb.nn.relu, bbb.nn.linear(2_000, 1))
    rows = tuple(part[:30] for part in TRAIN)
    wide, history = fitted(network, LEARNED, rows)
    said = advice("units collapsed onto the prior", wide, history)
    assert FAN_IN in said
    assert "a wider" not in said
    scaled, _ = fitted(network, LEARNED, rows, prior="fan-in")
    assert score(scaled) > score(wide) + 0.3


def test_learn_the_noise_unless_it_is_learned():
    loud, history = trained(noise=1.5, learn=False)
    assert "learn=True" in advice("noise far above the residuals", loud, history)
    assert "learn=True" in advice("intervals too wide", loud, history)
    assert score(trained()[0]) > score(loud) + 0.5
    quiet, history = trained(network=LINE, noise=0.1, learn=False)
    assert "learn=True" in advice("noise far below the residuals", quiet, history)
    assert "learn=True" in advice("intervals too narrow", quiet, history)
    assert score(trained(network=LINE)[0]) > score(quiet) + 0.5


@pytest.mark.parametrize("members", [1, 2])
def test_of_a_noise_that_is_learned_train_longer(members):
    """Also where each member of an ensemble has learned its own, and `learn` of the whole is False."""
    options = {"steps": 100, "optimizer": optax.adam(5e-3), "restarts": bbb.train.Restarts(members, NETWORK.init)}
    early, history = trained(noise=4.0, **options)
    for name in ("noise far above the residuals", "intervals too wide"):
        said = advice(name, early, history)
        assert "rain longer" in said
        assert "learn=True" not in said
    assert score(trained()[0]) > score(early) + 0.5


def test_of_a_learned_noise_train_on_rows_like_these():
    model, history = trained()
    moved = TEST[0], TEST[1] + 4.0
    for name in ("noise far below the residuals", "intervals too narrow", "worse than the mean of y"):
        said = advice(name, model, history, moved)
        assert "like these" in said or "unlike those of training" in said
        assert "learn=True" not in said
    like, _ = fitted(NETWORK, LEARNED, (TRAIN[0], TRAIN[1] + 4.0))
    assert score(like, moved) > score(model, moved) + 1


def test_give_each_row_noise_of_its_own():
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(2):
        x = rng.uniform(-2, 2, (200, 1))
        rows.append((x, x + 0.05 * np.exp(1.5 * np.abs(x)) * rng.normal(size=x.shape)))
    one, history = fitted(NETWORK, LEARNED, rows[0])
    said = advice("noise depends on the row", one, history, rows[1])
    assert "HeteroscedasticGaussian()" in said
    twice = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.relu, bbb.nn.linear(20, 2))
    each, history = fitted(twice, bbb.likelihoods.HeteroscedasticGaussian(), rows[0])
    assert score(each, rows[1]) > score(one, rows[1]) + 0.1
    assert "noise depends on the row" not in [f.name for f in bbb.diagnose(each, history, *rows[1])]


def test_let_counts_vary_more_than_a_poisson():
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(2):
        x = rng.uniform(-2, 2, (200, 1))
        rows.append((x, rng.poisson(np.exp(1.5 + 0.3 * x) * rng.gamma(1.0, 1.0, x.shape))))
    poisson, history = fitted(NETWORK, bbb.likelihoods.Poisson(), rows[0])
    assert "NegativeBinomial(learn=True)" in advice("intervals too narrow", poisson, history, rows[1])
    other, history = fitted(NETWORK, bbb.likelihoods.NegativeBinomial(learn=True), rows[0])
    assert score(other, rows[1]) > score(poisson, rows[1]) + 0.1
    assert bbb.diagnose(other, history, *rows[1]) == ()


@pytest.mark.parametrize(("scale", "shift"), [(1_000.0, 0.0), (1.0, 500.0)])
def test_standardise_columns(scale, shift):
    train, test = ((x, scale * y + shift) for x, y in (TRAIN, TEST))
    raw, history = fitted(NETWORK, LEARNED, train)
    assert "bbb.networks.standardize" in advice("columns not standardised", raw, history, test)
    apply = bbb.networks.standardize(NETWORK.apply, *train)
    likelihood = bbb.likelihoods.Gaussian(0.5 * scale, learn=True)
    units, history = fitted(NETWORK, likelihood, train, apply=apply)
    assert score(units, test) > score(raw, test) + 1
    assert bbb.diagnose(units, history, *test) == ()


def test_train_classes_on_the_full_bound():
    rng = np.random.default_rng(5)
    network = bbb.nn.linear(2, 2)
    rows = []
    for _ in range(2):
        x = rng.normal(size=(200, 2))
        rows.append((x, (x[:, 0] + 1.5 * rng.normal(size=200) > 0).astype(int)))
    model, _ = fitted(network, bbb.likelihoods.Categorical(), rows[0])
    sharp = jax.tree.map(lambda leaf: 30 * leaf, model.posterior.mean)
    sure = dataclasses.replace(model, posterior=dataclasses.replace(model.posterior, mean=sharp))
    assert "kl_weight=1" in advice("probabilities miscalibrated", sure, rows=rows[1])
    assert score(model, rows[1]) > score(sure, rows[1]) + 0.1


def test_take_activations_without_bounds():
    bounded, history = trained(network=BOUNDED)
    assert "use relu" in advice("no more spread away from the data", bounded, history)
    x = FAR * TEST[0]
    far = x, np.sin(2 * x) + x
    assert score(trained()[0], far) > score(bounded, far) + 1


def test_which_a_network_that_has_them_is_not_told():
    """Rectified units that are sure of themselves everywhere: all but the output's offset is a point estimate."""
    params = NETWORK.init(jax.random.key(0))
    where = lambda path, leaf: leaf.shape == (1,)  # noqa: E731
    model = bbb.bayesianize(
        NETWORK.apply, params, prior=bbb.priors.Normal(0.0, 0.01), likelihood=LEARNED, where=where, std=0.01
    )
    said = advice("no more spread away from the data", model)
    assert "relu" not in said
    assert "wider" in said


def test_keep_the_ensemble():
    x = np.linspace(-2, 2, 24)[:, None]
    held = np.linspace(-1.95, 1.95, 40)[:, None]
    network = bbb.nn.sequential(bbb.nn.linear(1, 6), bbb.nn.tanh, bbb.nn.linear(6, 1))
    options = {"prior": bbb.priors.Normal(0.0, 10.0), "restarts": bbb.train.Restarts(4, network.init)}
    model, history = fitted(network, bbb.likelihoods.Gaussian(0.05), (x, np.sin(6 * x)), **options)
    rows = held, np.sin(6 * held)
    assert "Keep the ensemble" in advice("results hang on the start", model, history, rows)
    alone = [score(model.member(k), rows) for k in range(4)]
    assert score(model, rows) > np.mean(alone) + 0.5


def test_of_a_narrow_enough_prior_take_fewer_units():
    many, history = trained(network=WIDE, prior_std=None)
    assert "Use fewer units" in advice("units collapsed onto the prior", many, history)
    assert score(trained(prior_std=None)[0]) > score(many)
