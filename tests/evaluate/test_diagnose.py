"""The second opinion: every fault is planted once and found, and a healthy fit is let pass in silence."""

import functools

import jax
import numpy as np
import optax
import pytest

import bbb
from bbb.evaluate.diagnosis import of_training
from bbb.tables import csv, fit

RNG = np.random.default_rng(0)
STEPS = 1_500
FALLING = optax.adam(optax.cosine_decay_schedule(0.02, STEPS))
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.relu, bbb.nn.linear(20, 1))
WIDE = bbb.nn.sequential(bbb.nn.linear(1, 400), bbb.nn.relu, bbb.nn.linear(400, 1))
BOUNDED = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
LINE = bbb.nn.sequential(bbb.nn.linear(1, 1))


def data(rows, noise=0.3):
    x = RNG.uniform(-2, 2, (rows, 1))
    return x, np.sin(2 * x) + x + noise * RNG.normal(size=x.shape)


TRAIN, TEST = data(200), data(200)


@functools.cache
def trained(network=NETWORK, prior_std=1.0, noise=0.5, learn=True, kl_weight=1.0, draws=4, **options):
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, prior_std) if prior_std else bbb.priors.fan_in(network.init(jax.random.key(0))),
        likelihood=bbb.likelihoods.Gaussian(noise, learn=learn),
    )
    options = {"steps": STEPS, "optimizer": FALLING, **options}
    objective = bbb.train.Objective(kl_weight=kl_weight, forward=bbb.forwards.local_reparam(network.apply), draws=draws)
    return bbb.fit(jax.random.key(1), model, *TRAIN, objective=objective, **options)


def found(model, history, rows=TEST):
    return {finding.name for finding in bbb.diagnose(model, history, *rows)}


def test_a_healthy_fit_is_let_pass():
    report = bbb.diagnose(*trained(), *TEST)
    assert report == ()
    assert str(report) == "Nothing looks wrong."


CONSTANT_RATE = optax.adam(5e-4)
FAULTS = {
    "not converged": {"steps": 100, "optimizer": CONSTANT_RATE},
    "data term outweighs KL": {"kl_weight": 0.05},
    "KL outweighs data term": {"kl_weight": 10.0},
    "collapsed onto the prior": {"prior_std": 0.03},
    "units collapsed onto the prior": {"network": WIDE, "prior_std": None},
    "noise far above the residuals": {"noise": 1.5, "learn": False},
    "noise far below the residuals": {"network": LINE, "noise": 0.1, "learn": False},
    "intervals too wide": {"noise": 1.5, "learn": False},
    "no more spread away from the data": {"network": BOUNDED},
}


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].get("network") is not WIDE])
def test_a_planted_fault_is_found(name):
    assert name in found(*trained(**FAULTS[name]))


@pytest.mark.slow
def test_a_wide_network_of_which_little_is_used_is_found():
    assert "units collapsed onto the prior" in found(*trained(**FAULTS["units collapsed onto the prior"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["concrete", "energy", "wine-quality-red", "yacht"])
def test_a_healthy_fit_of_real_data_is_let_pass(uci_csv, name):
    train, test = (csv.read(path) for path in uci_csv(name, 0))
    model, history = fit.fit_table(train, "target", progress=False)
    rows = test.select(model.features), model.observed(test)
    assert bbb.diagnose(model.model, history, *rows) == ()


def test_standard_deviations_that_never_moved_are_found():
    model, history = trained()
    untrained = bbb.bayesianize(
        model.apply, model.posterior.mean, prior=model.prior, likelihood=model.likelihood, std=0.1
    )
    assert "standard deviations still at their start" in found(untrained, None)
    assert "standard deviations still at their start" not in found(model, history)


def test_rows_unlike_those_of_training_make_intervals_too_narrow():
    model, history = trained()
    x, y = TEST
    assert "intervals too narrow" in found(model, history, (x, y + 1.0))


@pytest.mark.slow
def test_restarts_that_disagree_are_found():
    """Without a prior's pull or noise to hide in, small networks end in different places."""
    x = np.linspace(-2, 2, 30)[:, None]
    y = np.sin(6 * x)
    network = bbb.nn.sequential(bbb.nn.linear(1, 6), bbb.nn.tanh, bbb.nn.linear(6, 1))
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 10.0),
        likelihood=bbb.likelihoods.Gaussian(0.05),
    )
    options = {"steps": STEPS, "optimizer": FALLING, "restarts": bbb.train.Restarts(4, network.init)}
    model, history = bbb.fit(jax.random.key(1), model, x, y, **options)
    assert "results hang on the start" in found(model, history, (x, y))


@pytest.mark.slow
def test_restarts_that_agree_are_not():
    network, (x, y) = LINE, TRAIN
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5, learn=True),
    )
    options = {"steps": STEPS, "optimizer": FALLING, "restarts": bbb.train.Restarts(3, network.init)}
    model, history = bbb.fit(jax.random.key(1), model, x, y, **options)
    assert "results hang on the start" not in found(model, history)


def test_miscalibrated_classes_are_found():
    x = RNG.normal(size=(300, 2))
    y = (x[:, 0] + 1.5 * RNG.normal(size=300) > 0).astype(int)

    def apply(w, x):
        return x @ w

    sure = bbb.bayesianize(
        apply,
        np.array([[-40.0, 40.0], [0.0, 0.0]], np.float32),
        prior=bbb.priors.Normal(0.0, 50.0),
        likelihood=bbb.likelihoods.Categorical(),
    )
    assert "probabilities miscalibrated" in found(sure, None, (x, y))


def test_the_batches_of_an_epoch_may_count_the_kl_differently():
    """Blundell's weights are 1 on average, and next to 0 for the last batch of an epoch."""
    _, history = trained(steps=80, batch_size=25, kl_weight=bbb.objectives.minibatch_weights(8), draws=1)
    assert (history.loss[-1] - history.data_term[-1]) / history.kl[-1] < 0.05
    assert not {"data term outweighs KL", "KL outweighs data term"} & {f.name for f in of_training(history)}


def test_the_report_says_what_was_seen_and_what_to_try():
    report = bbb.diagnose(*trained(**FAULTS["data term outweighs KL"]), *TEST)
    assert "data term outweighs KL: the KL divergence counted 0.05 times" in str(report)
    assert "Use kl_weight=1" in str(report)


def test_the_same_report_can_be_had_again():
    model, history = trained()
    assert bbb.diagnose(model, history, *TEST) == bbb.diagnose(model, history, *TEST, key=jax.random.key(0))


def test_rows_that_do_not_fit_are_refused():
    model, history = trained()
    with pytest.raises(bbb.errors.ShapeError, match="to have the shape"):
        bbb.diagnose(model, history, TEST[0], TEST[1][:, 0])


def test_what_is_no_history_is_refused():
    with pytest.raises(bbb.errors.InputError, match="history to be a History, got"):
        bbb.diagnose(trained()[0], 3, *TEST)


@pytest.mark.parametrize("scales", [False, True])
def test_a_network_that_scales_its_columns_itself_is_not_told_to(scales):
    hidden = (bbb.nn.linear(1, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
    network = bbb.nn.sequential(*([bbb.nn.affine([0.0], [0.01])] if scales else []), *hidden)
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(0.5),
    )
    x, y = TEST
    assert ("columns not standardised" in found(model, None, (100 * x, 50 * y))) is not scales
