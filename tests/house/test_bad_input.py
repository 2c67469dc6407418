"""Everything a user may get wrong, over every public function and every command: refused by name, and nothing written.

A case is named by what is called, as a user writes it after `bbb.`, a colon, and what is wrong. Families of cases
give one bad value after the other to each argument that takes such values.
"""

import functools
import inspect
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import bbb
from bbb import InputError, KeyTypeError, ModelFileError, NonFiniteInputError, ShapeError, WriteError, cli, tabular

KEY = jax.random.key(0)
X, Y = np.linspace(-1, 1, 6)[:, None], np.linspace(0, 1, 6)[:, None]
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 3), bbb.nn.tanh, bbb.nn.linear(3, 1))
NAN, INF = float("nan"), float("inf")
nn, prior, likelihood, metrics, mixture, plot, torchbnn = (
    getattr(bbb, name) for name in ("nn", "prior", "likelihood", "metrics", "mixture", "plot", "torchbnn")
)


def bayesian(network=NETWORK, **parts):
    given = {"prior": prior.Normal(0.0, 1.0), "likelihood": likelihood.Gaussian(0.5), **parts}
    return bbb.bayesianize(network.apply, network.init(KEY), **given)


MODEL = bayesian()
POSTERIOR = MODEL.posterior
POINT = MODEL.posterior.mean


@functools.cache
def ensemble():
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), POSTERIOR)
    return bbb.BNN(MODEL.apply, bbb.posterior.Ensemble(members), MODEL.prior, MODEL.likelihood)


@functools.cache
def classifier():
    return bayesian(nn.linear(1, 2), likelihood=likelihood.Categorical())


@functools.cache
def band():
    return bbb.predict(KEY, MODEL, X, draws=4)


@functools.cache
def without_draws():
    with pytest.raises(InputError) as caught:
        bbb.predict(KEY, MODEL, np.repeat(X, 250, axis=0), draws=100, memory=1)
    least = int(re.search(r"at least ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    return bbb.predict(KEY, MODEL, np.repeat(X, 250, axis=0), draws=100, memory=least)


@functools.cache
def class_band():
    return bbb.predict(KEY, classifier(), X, draws=4)


@functools.cache
def history(cost="elbo_cost"):
    return bbb.History(np.ones(3), np.ones(3), np.ones(3), None, cost)


def fit(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.fit(key, model, x, y, **{"steps": 1, "progress": False, **options})


def predict(x=X, key=KEY, model=MODEL, **options):
    return bbb.predict(key, model, x, **{"draws": 4, **options})


def elbo(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.negative_elbo(key, model, x, y, **options)


def ax():
    return Figure().add_subplot()


def put(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


# Families: what takes such a value, the values, and what is said


KEYED = {
    "fit: key": lambda key: fit(key=key),
    "predict: key": lambda key: predict(key=key),
    "draws: key": lambda key: bbb.draws(key, MODEL, X, draws=4),
    "negative_elbo: key": lambda key: elbo(key=key),
    "sample: key": lambda key: bbb.sample(key, POSTERIOR),
    "kl: key": lambda key: bbb.kl(POSTERIOR, prior.ScaleMixture(), key=key),
    "diagnose: key": lambda key: bbb.diagnose(MODEL, None, X, Y, key=key),
    "ensemble.spread: key": lambda key: bbb.ensemble.spread(key, ensemble(), X),
    "to_datatree: key": lambda key: bbb.to_datatree(key, MODEL, X),
    "member_keys: key": lambda key: bbb.member_keys(key, 2),
    "metrics.pit: key": lambda key: metrics.pit(key, [0.1], [0.2]),
    "metrics.pit_draws: key": lambda key: metrics.pit_draws(key, [0.0], [[0.1], [0.2]]),
    "mixture.sample_y: key": lambda key: mixture.sample_y(key, MODEL.likelihood, jnp.ones((2, 3, 1))),
    "nn.linear: key of init": lambda key: nn.linear(1, 1).init(key),
    "nn.conv: key of init": lambda key: nn.conv(1, 1, 3).init(key),
    "nn.batch_norm: key of init": lambda key: nn.batch_norm(1).init(key),
    "nn.layer_norm: key of init": lambda key: nn.layer_norm(1).init(key),
    "nn.sequential: key of init": NETWORK.init,
    "nn.residual: key of init": lambda key: nn.residual(nn.linear(1, 1)).init(key),
    "weight_sampling: key": lambda key: bbb.weight_sampling(MODEL.apply)(key, POSTERIOR, X),
    "local_reparam: key": lambda key: bbb.local_reparam(MODEL.apply)(key, POSTERIOR, X),
    "flipout: key": lambda key: bbb.flipout(MODEL.apply)(key, POSTERIOR, X),
}
KEYS = {
    "a number": 0,
    "nothing": None,
    "an old key": np.zeros(2, np.uint32),
    "several keys": jax.random.split(KEY),
    "a word": "key",
}

ROWED = {
    "fit: x": lambda x: fit(x=x),
    "fit: y": lambda y: fit(y=y),
    "fit: x held out": lambda x: fit(validation=(x, Y)),
    "fit: y held out": lambda y: fit(validation=(X, y)),
    "fit_each: x": lambda x: bbb.fit_each(jax.random.split(KEY), [MODEL, MODEL], [x, X], [Y, Y], steps=1),
    "fit_each: y": lambda y: bbb.fit_each(jax.random.split(KEY), [MODEL, MODEL], [X, X], [Y, y], steps=1),
    "predict: x": lambda x: predict(x=x),
    "draws: x": lambda x: bbb.draws(KEY, MODEL, x, draws=4),
    "negative_elbo: x": lambda x: elbo(x=x),
    "negative_elbo: y": lambda y: elbo(y=y),
    "ensemble.spread: x": lambda x: bbb.ensemble.spread(KEY, ensemble(), x),
    "to_datatree: x": lambda x: bbb.to_datatree(KEY, MODEL, x),
    "to_datatree: y": lambda y: bbb.to_datatree(KEY, MODEL, X, y),
    "diagnose: x": lambda x: bbb.diagnose(MODEL, None, x, Y),
    "diagnose: y": lambda y: bbb.diagnose(MODEL, None, X, y),
    "standardize: x": lambda x: bbb.standardize(MODEL.apply, x, Y),
    "standardize: y": lambda y: bbb.standardize(MODEL.apply, X, y),
    "metrics.rmse: y": lambda y: metrics.rmse(y, Y),
    "metrics.crps_normal: mean": lambda mean: metrics.crps_normal(Y, mean, 1.0),
    "metrics.crps_normal_mixture: means": lambda means: metrics.crps_normal_mixture(Y, means, 1.0),
    "metrics.crps_draws: draws": lambda draws: metrics.crps_draws(Y, draws),
    "metrics.interval_score: y": lambda y: metrics.interval_score(y, Y, Y, 0.9),
    "metrics.coverage: lower": lambda lower: metrics.coverage(Y, lower, Y),
    "metrics.interval_width: upper": lambda upper: metrics.interval_width(Y, upper),
    "metrics.pit_draws: y": lambda y: metrics.pit_draws(KEY, y, Y[None]),
    "mixture.log_score: y": lambda y: mixture.log_score(MODEL.likelihood, jnp.ones((2, 6, 1)), y),
    "mixture.cdf: y": lambda y: mixture.cdf(MODEL.likelihood, jnp.ones((2, 6, 1)), y),
}
ROWS = {
    "NaN": (put(Y, (2, 0), NAN), NonFiniteInputError, r"finite numbers only, got 1 .* index \(2, 0\)"),
    "infinity": (put(Y, (3, 0), -INF), NonFiniteInputError, r"finite numbers only, got 1 .* index \(3, 0\)"),
    "words": (np.full((6, 1), "a"), InputError, "real numbers in an array"),
    "nothing": (None, InputError, "real numbers in an array, got None"),
    "ragged rows": ([[1.0], [1.0, 2.0]], InputError, "real numbers in an array"),
    "objects": (put(np.zeros((6, 1), object), 0, None), InputError, "real numbers in an array"),
    "complex numbers": (Y + 1j, InputError, "real numbers in an array"),
    "dates": (np.zeros((6, 1), "datetime64[D]"), InputError, "real numbers in an array"),
    "keys": (jax.random.split(KEY, (6, 1)), InputError, "real numbers in an array"),
    "masked numbers": (np.ma.masked_less(Y, 0.5), InputError, "without a mask"),
    "no rows": (Y[:0], ShapeError, "at least one row"),
    "one number": (1.0, ShapeError, r"got shape \(\)"),
}

ABOVE_0 = {
    "likelihood.Gaussian: std": likelihood.Gaussian,
    "likelihood.StudentT: scale": likelihood.StudentT,
    "likelihood.NegativeBinomial: dispersion": likelihood.NegativeBinomial,
    "prior.Normal: std": lambda std: prior.Normal(0.0, std),
    "prior.Normal.around: std": lambda std: prior.Normal.around(POINT, std),
    "prior.Laplace: scale": lambda scale: prior.Laplace(0.0, scale),
    "prior.ScaleMixture: weight": prior.ScaleMixture,
    "prior.ScaleMixture: std1": lambda std: prior.ScaleMixture(0.5, std),
    "prior.ScaleMixture: std2": lambda std: prior.ScaleMixture(0.5, 1.0, std),
    "prior.fan_in: gain": lambda gain: prior.fan_in(POINT, gain),
    "bayesianize: std": lambda std: bayesian(std=std),
    "MeanField.around: std": lambda std: bbb.MeanField.around(POINT, std),
    "posterior.relative_std: delta": lambda delta: bbb.posterior.relative_std(POINT, delta),
    "posterior.relative_std: least": lambda least: bbb.posterior.relative_std(POINT, 0.1, least),
    "metrics.crps_normal: std": lambda std: metrics.crps_normal(Y, Y, std),
    "metrics.crps_normal_mixture: stds": lambda stds: metrics.crps_normal_mixture(Y, Y[None], stds),
    "torchbnn.explain_kl_weight: kl_weight": lambda weight: torchbnn.explain_kl_weight(weight, 5, 1, 5),
    "torchbnn.implied_noise_std: kl_weight": lambda weight: torchbnn.implied_noise_std(weight, 5, 1, 5),
    "nn.batch_norm: eps": lambda eps: nn.batch_norm(1, eps=eps),
    "nn.layer_norm: eps": lambda eps: nn.layer_norm(1, eps=eps),
    "plot.band: sigmas": lambda sigmas: plot.band(X, band(), sigmas=sigmas, ax=ax()),
    "Marginal.sigma_interval: sigmas": band().f.sigma_interval,
    "Marginal.mcse_sigma_interval: sigmas": band().y.mcse_sigma_interval,
    "predict: tolerance": lambda tolerance: predict(draws="auto", tolerance=tolerance),
}
NOT_ABOVE_0 = {"0": 0, "-1.0": -1.0, "NaN": NAN, "infinity": INF, "a word": "x", "an object": object()}

COUNTS = {
    "fit: steps": lambda n: fit(steps=n),
    "fit: epochs": lambda n: fit(steps=None, epochs=n),
    "fit: batch_size": lambda n: fit(batch_size=n),
    "fit: draws": lambda n: fit(draws=n),
    "fit: restarts": lambda n: fit(restarts=n, init=NETWORK.init),
    "fit: every": lambda n: fit(checkpoint="run", every=n),
    "fit: patience": lambda n: fit(validation=0.5, patience=n),
    "fit: validate_every": lambda n: fit(validation=0.5, validate_every=n),
    "fit_each: steps": lambda n: bbb.fit_each(jax.random.split(KEY), [MODEL, MODEL], [X, X], [Y, Y], steps=n),
    "member_keys: restarts": lambda n: bbb.member_keys(KEY, n),
    "negative_elbo: draws": lambda n: elbo(draws=n),
    "negative_elbo: num_data": lambda n: elbo(num_data=n),
    "predict: draws": lambda n: predict(draws=n),
    "draws: draws": lambda n: bbb.draws(KEY, MODEL, X, draws=n),
    "to_datatree: draws": lambda n: bbb.to_datatree(KEY, MODEL, X, draws=n),
    "diagnose: draws": lambda n: bbb.diagnose(MODEL, None, X, Y, draws=n),
    "ensemble.spread: draws": lambda n: bbb.ensemble.spread(KEY, ensemble(), X, draws=n),
    "kl: draws": lambda n: bbb.kl(POSTERIOR, prior.ScaleMixture(), key=KEY, draws=n),
    "nn.linear: in_features": lambda n: nn.linear(n, 1),
    "nn.linear: out_features": lambda n: nn.linear(1, n),
    "nn.conv: in_channels": lambda n: nn.conv(n, 1, 3),
    "nn.conv: out_channels": lambda n: nn.conv(1, n, 3),
    "nn.conv: kernel_size": lambda n: nn.conv(1, 1, n),
    "nn.conv: stride": lambda n: nn.conv(1, 1, 3, stride=n),
    "nn.conv: dilation": lambda n: nn.conv(1, 1, 3, dilation=(1, n)),
    "nn.conv: groups": lambda n: nn.conv(1, 1, 3, groups=n),
    "nn.max_pool: kernel_size": nn.max_pool,
    "nn.max_pool: stride": lambda n: nn.max_pool(2, stride=n),
    "nn.avg_pool: kernel_size": nn.avg_pool,
    "nn.batch_norm: num_features": nn.batch_norm,
    "nn.layer_norm: shape": lambda n: nn.layer_norm((2, n)),
    "schedule.warm_up: steps": bbb.schedule.warm_up,
    "schedule.WarmUp: steps": bbb.schedule.WarmUp,
    "schedule.minibatch_weights: batches": bbb.schedule.minibatch_weights,
    "schedule.MinibatchWeights: batches": bbb.schedule.MinibatchWeights,
    "metrics.reliability: bins": lambda n: metrics.reliability([0], [[0.5, 0.5]], n),
    "metrics.expected_calibration_error: bins": lambda n: metrics.expected_calibration_error([0], [[0.5, 0.5]], n),
    "plot.pit_histogram: bins": lambda n: plot.pit_histogram([0.5], bins=n, ax=ax()),
    "torchbnn.explain_kl_weight: num_data": lambda n: torchbnn.explain_kl_weight(0.1, n, 1, 5),
    "torchbnn.explain_kl_weight: outputs": lambda n: torchbnn.explain_kl_weight(0.1, 5, n, 5),
    "torchbnn.implied_noise_std: weights": lambda n: torchbnn.implied_noise_std(0.1, 5, 1, n),
}
NOT_COUNTS = {"0": 0, "-1": -1, "1.5": 1.5, "True": True, "a word": "two", "NaN": NAN}

INSIDE_0_1 = {
    "predict: levels": lambda p: predict(levels=(0.5, p)),
    "predict: quantiles": lambda p: predict(quantiles=(p,)),
    "fit: validation": lambda p: fit(validation=p),
    "Marginal.interval: level": band().f.interval,
    "Marginal.mcse_interval: level": band().y.mcse_interval,
    "Marginal.quantile: p": band().y.quantile,
    "Marginal.mcse_quantile: p": band().f.mcse_quantile,
    "metrics.interval_score: level": lambda p: metrics.interval_score(Y, Y, Y, p),
    "metrics.observed_coverage: levels": lambda p: metrics.observed_coverage([0.5], (0.1, p)),
    "mixture.quantile: p": lambda p: mixture.quantile(MODEL.likelihood, jnp.ones((2, 3, 1)), p),
    "plot.fan: levels": lambda p: plot.fan(X, band().f, levels=(p,), ax=ax()),
    "plot.predicted_against_observed: level": lambda p: plot.predicted_against_observed(Y, band().y, level=p, ax=ax()),
    "plot.calibration: levels": lambda p: plot.calibration([0.5], levels=(p,), ax=ax()),
}
NOT_INSIDE_0_1 = {"0.0": 0.0, "1": 1, "-0.5": -0.5, "1.5": 1.5, "NaN": NAN, "a word": "half", "a list": [[0.1, 0.2]]}

MODELS = {
    "fit: model": lambda model: fit(model=model),
    "fit_each: models": lambda model: bbb.fit_each(KEY[None], [model], [X], [Y], steps=1),
    "draws: model": lambda model: bbb.draws(KEY, model, X, draws=4),
    "negative_elbo: model": lambda model: elbo(model=model),
    "to_datatree: model": lambda model: bbb.to_datatree(KEY, model, X),
    "ensemble.spread: model": lambda model: bbb.ensemble.spread(KEY, model, X),
    "save: model": lambda model: bbb.save("new", model),
    "load: like": lambda model: bbb.load("model", like=model) if model is not None else bbb.load("model", like=0),
    "pruning_curve: model": lambda model: bbb.pruning_curve(model, [0.5], len),
    "torchbnn.to_state_dict: model": torchbnn.to_state_dict,
}
NO_MODELS = {"a word": "model", "nothing": None, "a posterior": POSTERIOR, "a network": NETWORK}

POSTERIORS = {
    "sample: posterior": lambda q: bbb.sample(KEY, q),
    "log_prob: posterior": lambda q: bbb.log_prob(q, POINT),
    "kl: posterior": lambda q: bbb.kl(q, prior.Normal()),
    "prune: posterior": lambda q: bbb.prune(q, 0.5),
    "signal_to_noise: posterior": bbb.signal_to_noise,
    "explain: posterior": lambda q: bbb.explain(MODEL.apply, q, X),
    "plot.signal_to_noise: posterior": lambda q: plot.signal_to_noise(q, ax=ax()),
    "plot.weight_density: posterior": lambda q: plot.weight_density(q, prior.Normal(), ax=ax()),
    "torchbnn.last_bias_kl: posterior": lambda q: silently(torchbnn.last_bias_kl, q, prior.Normal()),
    "weight_sampling: posterior": lambda q: bbb.weight_sampling(MODEL.apply)(KEY, q, X),
    "local_reparam: posterior": lambda q: bbb.local_reparam(MODEL.apply)(KEY, q, X),
    "flipout: posterior": lambda q: bbb.flipout(MODEL.apply)(KEY, q, X),
    "moments: posterior": lambda q: bbb.moments(MODEL.apply)(q, X),
    "ClosedForm.exactness: posterior": lambda q: bbb.moments(MODEL.apply).exactness(q, X),
}
NO_POSTERIORS = {"a word": "posterior", "nothing": None, "a model": MODEL, "a tree": POINT}

APPLIES = {
    "bayesianize: apply": lambda apply: bbb.bayesianize(apply, POINT, prior=MODEL.prior, likelihood=MODEL.likelihood),
    "explain: apply": lambda apply: bbb.explain(apply, POSTERIOR, X),
    "weight_sampling: apply": bbb.weight_sampling,
    "local_reparam: apply": bbb.local_reparam,
    "flipout: apply": bbb.flipout,
    "moments: apply": bbb.moments,
    "standardize: apply": lambda apply: bbb.standardize(apply, X, Y),
}
NO_APPLIES = {"a word": "apply", "nothing": None, "the network itself": NETWORK}

PROBABILITIES = {
    "metrics.accuracy": metrics.accuracy,
    "metrics.brier": metrics.brier,
    "metrics.reliability": metrics.reliability,
    "metrics.expected_calibration_error": metrics.expected_calibration_error,
}
HALVES = np.full((2, 2), 0.5)
NO_PROBABILITIES = {
    "one axis": ([0, 1], [0.5, 0.5], ShapeError, r"\(rows, classes\)"),
    "no classes": ([0, 1], np.zeros((2, 0)), ShapeError, r"\(rows, classes\)"),
    "a negative one": ([0, 1], [[1.5, -0.5]] * 2, InputError, "sum to 1"),
    "logits": ([0, 1], [[3.0, 1.0]] * 2, InputError, "sum to 1"),
    "NaN among them": ([0, 1], [[NAN, 1.0]] * 2, NonFiniteInputError, "finite numbers"),
    "words": ([0, 1], [["a", "b"]] * 2, InputError, "real numbers"),
    "other rows": ([0, 1, 0], HALVES, ShapeError, r"y of shape \(2,\)"),
    "a class beyond": ([0, 2], HALVES, InputError, "classes from 0 to 1 in y, got 2"),
    "a class below": ([0, -1], HALVES, InputError, "classes from 0 to 1 in y, got -1"),
    "half a class": ([0, 0.5], HALVES, InputError, "classes from 0 to 1 in y, got 0.5"),
    "a class in words": (["a", "b"], HALVES, InputError, "y to be real numbers"),
}

OUTPUTS = {
    "mixture.log_score": lambda outputs: mixture.log_score(MODEL.likelihood, outputs, Y),
    "mixture.cdf": lambda outputs: mixture.cdf(MODEL.likelihood, outputs, Y),
    "mixture.quantile": lambda outputs: mixture.quantile(MODEL.likelihood, outputs, 0.5),
    "mixture.sample_y": lambda outputs: mixture.sample_y(KEY, MODEL.likelihood, outputs),
}
NO_OUTPUTS = {
    "one axis": (jnp.ones(6), ShapeError, r"\(draws, rows, ...\)"),
    "no draws": (jnp.ones((0, 6, 1)), ShapeError, r"\(draws, rows, ...\)"),
    "no rows": (jnp.ones((2, 0, 1)), ShapeError, r"\(draws, rows, ...\)"),
    "words": ([["a"] * 6], InputError, "real numbers"),
    "NaN": (jnp.full((2, 6, 1), NAN), NonFiniteInputError, "outputs to hold finite numbers"),
    "nothing": (None, InputError, "real numbers"),
}
LIKELIHOODS = {
    "mixture.log_score": lambda one: mixture.log_score(one, jnp.ones((2, 6, 1)), Y),
    "mixture.cdf": lambda one: mixture.cdf(one, jnp.ones((2, 6, 1)), Y),
    "mixture.quantile": lambda one: mixture.quantile(one, jnp.ones((2, 6, 1)), 0.5),
    "mixture.sample_y": lambda one: mixture.sample_y(KEY, one, jnp.ones((2, 6, 1))),
    "bayesianize": lambda one: bayesian(likelihood=one),
    "torchbnn.from_state_dict": lambda one: torchbnn.from_state_dict(
        nn.linear(1, 1), state(), prior=MODEL.prior, likelihood=one
    ),
}
NO_LIKELIHOODS = {"a word": "gaussian", "nothing": None, "its class": likelihood.Gaussian, "a prior": MODEL.prior}
PRIORS = {
    "kl": lambda one: bbb.kl(POSTERIOR, one),
    "bayesianize": lambda one: bayesian(prior=one),
    "plot.weight_density": lambda one: plot.weight_density(POSTERIOR, one, ax=ax()),
    "torchbnn.last_bias_kl": lambda one: silently(torchbnn.last_bias_kl, POSTERIOR, one),
    "torchbnn.from_state_dict": lambda one: torchbnn.from_state_dict(
        nn.linear(1, 1), state(), prior=one, likelihood=MODEL.likelihood
    ),
}
NO_PRIORS = {"a word": "normal", "nothing": None, "its class": prior.Normal, "a likelihood": MODEL.likelihood}

OBSERVED = {
    "likelihood.Gaussian": likelihood.Gaussian(),
    "likelihood.StudentT": likelihood.StudentT(),
    "likelihood.Poisson": likelihood.Poisson(),
    "likelihood.NegativeBinomial": likelihood.NegativeBinomial(),
    "likelihood.Bernoulli": likelihood.Bernoulli(),
}
DRAWN = {
    "plot.band": lambda one: plot.band(X, band(), ax=one),
    "plot.fan": lambda one: plot.fan(X, band().f, ax=one),
    "plot.predicted_against_observed": lambda one: plot.predicted_against_observed(Y, band().y, ax=one),
    "plot.calibration": lambda one: plot.calibration([0.5], ax=one),
    "plot.pit_histogram": lambda one: plot.pit_histogram([0.5], ax=one),
    "plot.reliability": lambda one: plot.reliability(metrics.reliability([0], [[1.0, 0.0]]), ax=one),
    "plot.signal_to_noise": lambda one: plot.signal_to_noise(POSTERIOR, ax=one),
    "plot.weight_density": lambda one: plot.weight_density(POSTERIOR, prior.Normal(), ax=one),
    "plot.pruning": lambda one: plot.pruning([0.0], [1.0], ax=one),
    "plot.training": lambda one: plot.training(history(), ax=one),
}
PATHS = {
    "save: path": lambda path: bbb.save(path, MODEL),
    "load: path": bbb.load,
    "read_metadata: path": bbb.read_metadata,
}
STATE_PATHS = {
    "torchbnn.from_state_dict: path": lambda path: torchbnn.from_state_dict(
        nn.linear(1, 1), path, prior=MODEL.prior, likelihood=MODEL.likelihood
    ),
    "torchbnn.frozen_noise: path": lambda path: torchbnn.frozen_noise(nn.linear(1, 1), path),
}
NO_PATHS = {"nothing": None, "a number": 3, "a zero byte": "a\0b"}


def silently(call, *args):
    """Call what warns besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args)


def state(**changes):
    """Give the state dict of torchbnn's BayesLinear(1, 1), changed."""
    made = {f"{part}_{which}": np.ones(shape, "f4") for part, shape in PARTS for which in ("mu", "log_sigma")}
    return {name: array for name, array in (made | changes).items() if array is not None}


PARTS = (("weight", (1, 1)), ("bias", (1,)))


def from_state(changes, network=None):
    given = {"prior": MODEL.prior, "likelihood": MODEL.likelihood}
    return torchbnn.from_state_dict(network or nn.linear(1, 1), state(**changes), **given)


def crossed(table, values, error, text, link):
    """Give a case for each of the calls of a table and each of the values: its name, and a call, an error, a text."""
    return {
        f"{name}{link} {what}": (functools.partial(call, value), error, text)
        for name, call in table.items()
        for what, value in values.items()
        if value is not None or name not in HAS_A_DEFAULT
    }


def crossed_with(table, values, link):
    """Do the same with values that have errors and texts of their own."""
    found = {}
    for what, (value, error, text) in values.items():
        found |= crossed(table, {what: value}, error, text, link)
    return found


def scored(score, y_and_p):
    return score(*y_and_p)


def observed(one, y):
    return one.log_prob(y, jnp.ones((6, 1)))


def fitted(one, y):
    return fit(y=y, model=bayesian(likelihood=one))


HAS_A_DEFAULT = ("kl: key", "diagnose: key", "to_datatree: y")
OTHER_Y = {"y without its column": np.zeros(6), "y of other rows": np.zeros((5, 1))}

FAMILIES = {
    **crossed(KEYED, KEYS, KeyTypeError, "one typed JAX key, got", " is"),
    **crossed_with(ROWED, ROWS, " is"),
    **crossed(ABOVE_0, NOT_ABOVE_0, InputError, "above 0|real numbers", " is"),
    **crossed(COUNTS, NOT_COUNTS, InputError, "whole number", " is"),
    **crossed(INSIDE_0_1, NOT_INSIDE_0_1, InputError, r"inside \(0, 1\)|real numbers|pair of arrays", " is"),
    **crossed(MODELS, NO_MODELS, InputError, "to be a BNN, got|network of bbb.nn", " is"),
    **crossed(POSTERIORS, NO_POSTERIORS, InputError, "to be a MeanField", " is"),
    **crossed(APPLIES, NO_APPLIES, InputError, "to be a function|network to standardise", " is"),
    **crossed(LIKELIHOODS, NO_LIKELIHOODS, InputError, "a likelihood", ": the likelihood is"),
    **crossed(PRIORS, NO_PRIORS, InputError, "a prior", ": the prior is"),
    **crossed_with(
        {name: functools.partial(scored, score) for name, score in PROBABILITIES.items()},
        {what: ((y, p), error, text) for what, (y, p, error, text) in NO_PROBABILITIES.items()},
        ":",
    ),
    **crossed_with(OUTPUTS, NO_OUTPUTS, ": outputs are"),
    **crossed({n: functools.partial(observed, one) for n, one in OBSERVED.items()}, OTHER_Y, ShapeError, "y to h", ":"),
    **crossed(
        {name: functools.partial(fitted, one) for name, one in OBSERVED.items()}, OTHER_Y, ShapeError, "y", ": to fit,"
    ),
    **crossed(DRAWN, {"a word": "axes"}, InputError, "ax to be matplotlib's axes", ": ax is"),
    **crossed(PATHS, NO_PATHS, InputError, "a path", " is"),
    **crossed(STATE_PATHS, NO_PATHS, ModelFileError, "state dict", " is"),
}


# One by one


class Impure:
    """A network that is another one at each call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _, x):
        self.calls += 1
        return x * self.calls


def of(apply, params=None, model=MODEL):
    return bbb.bayesianize(apply, params or {"w": jnp.ones((1, 1))}, prior=model.prior, likelihood=model.likelihood)


def each(keys=2, models=2, x=2, y=2, **options):
    given = [MODEL] * models if isinstance(models, int) else models
    return bbb.fit_each(jax.random.split(KEY, keys), given, [X] * x, [Y] * y, **{"steps": 1, **options})


BATCH = nn.sequential(nn.linear(1, 2), nn.batch_norm(2), nn.linear(2, 1))

SINGLE = {
    # training
    "fit: y without its column": (lambda: fit(y=Y[:, 0]), ShapeError, r"Pass y.reshape\(-1, 1\)"),
    "fit: y of other rows": (lambda: fit(y=Y[:5]), ShapeError, "the 6 rows of x, got 5 rows"),
    "fit: x of other columns": (lambda: fit(x=np.ones((6, 2))), ShapeError, "number of columns of x"),
    "fit: y beyond float32": (lambda: fit(y=Y * 1e300), NonFiniteInputError, "y in float32"),
    "fit: whole numbers beyond int32": (lambda: fit(y=Y.astype(int) + 2**40), InputError, "y in int32"),
    "fit: steps and epochs": (lambda: fit(epochs=2), InputError, "steps or epochs, got both"),
    "fit: restarts without init": (lambda: fit(restarts=2), InputError, "init with restarts"),
    "fit: kl_weight of -1": (lambda: fit(kl_weight=-1), InputError, "kl_weight to be one finite number"),
    "fit: kl_weight an array": (lambda: fit(kl_weight=np.ones(2)), InputError, "kl_weight to be one finite number"),
    "fit: kl_weight a word": (lambda: fit(kl_weight="warm"), InputError, "kl_weight to be real numbers"),
    "fit: an optimiser's name": (lambda: fit(optimizer="adam"), InputError, "an optimizer such as optax.adam"),
    "fit: an optimiser's maker": (lambda: fit(optimizer=optax.adam), InputError, "an optimizer such as optax.adam"),
    "fit: a forward's name": (lambda: fit(forward="flipout"), InputError, "a forward, a function, got 'flipout'"),
    "fit: a forward's maker": (lambda: fit(forward=bbb.flipout), InputError, r"Pass bbb.flipout\(model.apply\)"),
    "fit: on_nonfinite of another word": (lambda: fit(on_nonfinite="stop"), InputError, '"raise" or "skip"'),
    "fit: resume without a folder": (lambda: fit(resume=True), InputError, "a folder of checkpoints"),
    "fit: every without a folder": (lambda: fit(every=5), InputError, "a folder of checkpoints"),
    "fit: a file for a folder": (lambda: fit(checkpoint="train.csv"), WriteError, "a folder that can be written"),
    "fit: a folder in a file": (lambda: fit(checkpoint="train.csv/a"), WriteError, "a folder that can be written"),
    "fit: validation of three": (lambda: fit(validation=(X, Y, Y)), InputError, "validation to be a pair"),
    "fit: validation of all rows": (lambda: fit(validation=0.99), InputError, "leave a row to train on"),
    "fit: validation of other columns": (lambda: fit(validation=(np.ones((6, 2)), Y)), ShapeError, "columns of x"),
    "fit: an ensemble": (lambda: fit(model=ensemble()), InputError, "a model of one posterior"),
    "fit: more steps than keys": (lambda: fit(steps=2**40), InputError, "Train in several calls"),
    "fit: one class alone": (
        lambda: fit(y=np.zeros(6, int), model=classifier()),
        InputError,
        "two classes or more in y, got 0 in every one of 6 rows",
    ),
    "fit: a class beyond": (lambda: fit(y=np.arange(6), model=classifier()), InputError, "classes from 0 to 1 in y"),
    "fit: classes in floats": (lambda: fit(y=np.zeros(6), model=classifier()), InputError, "y of an integer dtype"),
    "fit: classes one-hot": (
        lambda: fit(y=np.eye(2, dtype=int)[[0, 1] * 3], model=classifier()),
        ShapeError,
        r"Pass y.argmax\(axis=1\)",
    ),
    "fit: a network that is not pure": (lambda: fit(model=of(Impure())), InputError, "a pure function"),
    "fit: a network that gives a tuple": (lambda: fit(model=of(lambda p, x: (x, x))), ShapeError, "got a tuple"),
    "fit: a network that sums rows": (lambda: fit(model=of(lambda p, x: jnp.sum(x))), ShapeError, "got shape"),
    "fit: a batch of one row to normalise": (
        lambda: fit(X[:1], Y[:1], model=bayesian(BATCH)),
        ShapeError,
        "more than one value of each channel",
    ),
    "fit_each: no models": (lambda: bbb.fit_each(KEY[None], [], [X], [Y]), InputError, "at least one model"),
    "fit_each: other keys": (lambda: each(keys=3), KeyTypeError, "2 typed JAX keys"),
    "fit_each: other x": (lambda: each(x=3), ShapeError, "x for each of 2 members"),
    "fit_each: other y": (lambda: each(y=1), ShapeError, "y for each of 2 members"),
    "fit_each: rows of another number": (
        lambda: bbb.fit_each(jax.random.split(KEY), [MODEL, MODEL], [X, X[:3]], [Y, Y[:3]], steps=1),
        ShapeError,
        "x of one shape for all members",
    ),
    "fit_each: other priors": (
        lambda: each(models=[MODEL, bayesian(prior=prior.Laplace())]),
        ShapeError,
        "members of one network and one structure",
    ),
    "negative_elbo: kl_weight NaN": (lambda: elbo(kl_weight=NAN), InputError, "kl_weight to be one finite number"),
    "negative_elbo: an ensemble": (lambda: elbo(model=ensemble()), InputError, "a model of one posterior"),
    "negative_elbo: a forward's maker": (lambda: elbo(forward=bbb.local_reparam), InputError, "a forward of a network"),
    "objective.elbo_cost: an ensemble": (
        lambda: bbb.objective.elbo_cost(ensemble(), jnp.ones((1, 6, 1)), jnp.ones((6, 1)), jnp.ones(6), 6, 1.0),
        InputError,
        "one mean-field posterior, got an ensemble of 2",
    ),
    "objective.exact_elbo_cost: draws of outputs": (
        lambda: bbb.objective.exact_elbo_cost(MODEL, jnp.ones((2, 6, 1)), jnp.ones((6, 1)), jnp.ones(6), 6, 1.0),
        ShapeError,
        r"shape \(1, 2, rows, \.\.\.\), their mean and variance, for exact_elbo_cost, got shape \(2, 6, 1\)",
    ),
    "torchbnn.mse_cost: an ensemble": (
        lambda: torchbnn.mse_cost(ensemble(), jnp.ones((1, 6, 1)), jnp.ones((6, 1)), jnp.ones(6), 6, 1.0),
        InputError,
        "one mean-field posterior",
    ),
    "torchbnn.cross_entropy_cost: a class beyond": (
        lambda: torchbnn.cross_entropy_cost(classifier(), jnp.ones((1, 6, 2)), jnp.arange(6), jnp.ones(6), 6, 1.0),
        InputError,
        "classes from 0 to 1",
    ),
    "History.negative_elbo: of another cost": (
        lambda: history("mse_cost").negative_elbo,
        InputError,
        "a history of elbo_cost, got one of mse_cost",
    ),
    # predicting
    "predict: x beyond float32": (lambda: predict(X * 1e300), NonFiniteInputError, "x in float32"),
    "predict: whole numbers beyond int32": (lambda: predict(np.full((6, 1), 2**40)), InputError, "x in int32"),
    "predict: x without columns": (lambda: predict(X[:, 0]), ShapeError, r"takes x of shape \(rows, features\)"),
    "predict: draws in other words": (lambda: predict(draws="many"), InputError, 'a whole number or "auto"'),
    "predict: auto without a tolerance": (lambda: predict(draws="auto"), InputError, 'a tolerance with draws="auto"'),
    "predict: a tolerance without auto": (lambda: predict(tolerance=0.1), InputError, 'a tolerance with draws="auto"'),
    "predict: a tolerance with moments": (
        lambda: predict(draws="auto", tolerance=0.1, method="moments"),
        InputError,
        "no tolerance with a closed form",
    ),
    "predict: odd antithetic draws": (lambda: predict(draws=3, sampling="antithetic"), InputError, "an even number"),
    "predict: another sampling": (lambda: predict(sampling="sobol"), InputError, '"independent" or "antithetic"'),
    "predict: another method": (lambda: predict(method="laplace"), InputError, "draws, last_layer, moments"),
    "predict: moments of classes": (
        lambda: predict(model=classifier(), method="moments"),
        InputError,
        "a likelihood that adds Gaussian noise",
    ),
    "predict: memory in words": (lambda: predict(memory="lots"), InputError, "memory to be a positive number of bytes"),
    "predict: memory of nothing": (lambda: predict(memory=None), InputError, "memory to be a positive number"),
    "predict: too little memory": (lambda: predict(memory=10), InputError, "memory of at least"),
    "predict: more draws than memory": (lambda: predict(draws=10**30), InputError, "more memory or fewer draws"),
    "predict: a level too near to 1": (lambda: predict(levels=(1 - 1e-14,)), InputError, "float32 can tell from 0"),
    "predict: parameters of another network": (
        lambda: predict(model=of(NETWORK.apply, nn.linear(2, 7).init(KEY))),
        ShapeError,
        "parameters are this network's",
    ),
    "draws: another sampling": (lambda: bbb.draws(KEY, MODEL, X, sampling=1), InputError, '"independent" or'),
    "draws: too little memory": (lambda: bbb.draws(KEY, MODEL, X, memory="1 B"), InputError, "memory of at least"),
    "Marginal.quantile: of draws not kept": (
        lambda: without_draws().f.quantile(0.123),
        bbb.QuantileError,
        "a quantile that was asked for when predicting",
    ),
    "Marginal.interval: too near to 1": (lambda: band().f.interval(1 - 1e-14), InputError, "float32 can tell from 0"),
    "Marginal.sigma_interval: two numbers": (lambda: band().f.sigma_interval([1, 2]), InputError, "one number"),
    "ensemble.spread: one posterior": (
        lambda: bbb.ensemble.spread(KEY, MODEL, X),
        InputError,
        "a model of several members, got one of a single posterior",
    ),
    "ensemble.spread: a draw of each": (
        lambda: bbb.ensemble.spread(KEY, ensemble(), X, draws=2),
        InputError,
        "two draws of each member",
    ),
    "diagnose: y of other rows": (lambda: bbb.diagnose(MODEL, None, X, Y[:5]), ShapeError, "the 6 rows of x"),
    "BNN.member: beyond": (lambda: MODEL.member(1), InputError, "a member from 0 to 0, got 1"),
    "BNN.member: below": (lambda: ensemble().member(-1), InputError, "a member from 0 to 1, got -1"),
    "BNN.member: a word": (lambda: ensemble().member("first"), InputError, "a member from 0 to 1, got 'first'"),
    "BNN.member: half": (lambda: ensemble().member(0.5), InputError, "a member from 0 to 1, got 0.5"),
    # models
    "bayesianize: no parameters": (lambda: of(NETWORK.apply, {"w": ()}), ShapeError, "at least one array"),
    "bayesianize: whole numbers": (lambda: of(NETWORK.apply, {"w": np.ones(2, int)}), InputError, "floating-point"),
    "bayesianize: a plain number": (lambda: of(NETWORK.apply, {"w": 1.0}), InputError, "got a float"),
    "bayesianize: NaN": (lambda: of(NETWORK.apply, {"w": np.full(2, NAN)}), InputError, "leaf 'w' to be finite"),
    "bayesianize: std of another shape": (lambda: bayesian(std=np.ones(5)), ShapeError, "every std to broadcast"),
    "bayesianize: std that is no prefix": (
        lambda: bayesian(std=(1.0, 2.0)),
        ShapeError,
        "std to be a number or a tree",
    ),
    "bayesianize: where nothing matches": (lambda: bayesian(where="kernel"), InputError, "to pick at least one leaf"),
    "bayesianize: where is a number": (lambda: bayesian(where=3), InputError, "every leaf of where to be a bool"),
    "bayesianize: where picks nothing": (lambda: bayesian(where=lambda *_: False), InputError, "at least one leaf"),
    "bayesianize: where of another structure": (lambda: bayesian(where=(True,)), ShapeError, "where to be a pattern"),
    "bayesianize: a prior of another structure": (
        lambda: bayesian(prior=prior.Normal((0.0, 1.0))),
        ShapeError,
        "prior mean to be a number or a tree",
    ),
    "bayesianize: a wrapper that hides state": (
        lambda: of(jax.jit(BATCH.apply), BATCH.init(KEY)),
        InputError,
        "state and training mode can be seen",
    ),
    "BNN: a network without a hash": (lambda: of(Unhashable()), InputError, "apply to have a hash"),
    "MeanField: of another structure": (
        lambda: bbb.MeanField({"w": jnp.ones(2)}, {"v": jnp.ones(2)}),
        ShapeError,
        "log_std to have the structure of mean",
    ),
    "MeanField: of another shape": (
        lambda: bbb.MeanField({"w": jnp.ones(2)}, {"w": jnp.ones(3)}),
        ShapeError,
        r"leaf 'w' to have the shape \(2,\) of mean's",
    ),
    "MeanField: words": (lambda: bbb.MeanField("a", "b"), InputError, "floating-point"),
    "MeanField: whole numbers": (
        lambda: bbb.MeanField({"w": np.ones(2, int)}, {"w": np.ones(2, int)}),
        InputError,
        "log_std leaf 'w' to be a floating-point array",
    ),
    "MeanField.around: words": (lambda: bbb.MeanField.around({"w": "a"}, 0.1), InputError, "floating-point array"),
    "MeanField.around: where is no bool": (
        lambda: bbb.MeanField.around(POINT, 0.1, "weight"),
        InputError,
        "every leaf of where to be a bool",
    ),
    "MeanField.around: where of another structure": (
        lambda: bbb.MeanField.around(POINT, 0.1, (True,)),
        ShapeError,
        "where to be a bool or a tree",
    ),
    "posterior.Ensemble: its mean": (lambda: ensemble().posterior.mean, InputError, "one posterior, to ask for its m"),
    "posterior.Ensemble: its std": (lambda: ensemble().posterior.std, InputError, "one posterior, to ask for its s"),
    "torchbnn.to_state_dict: an ensemble": (
        lambda: torchbnn.to_state_dict(ensemble()),
        InputError,
        "one posterior, to ask for its means, got an ensemble of 2",
    ),
    "log_prob: another structure": (lambda: bbb.log_prob(POSTERIOR, {"w": 1.0}), ShapeError, "params to have the str"),
    "log_prob: another shape": (
        lambda: bbb.log_prob(POSTERIOR, jax.tree.map(lambda leaf: leaf[:1], POINT)),
        ShapeError,
        "to have the shape",
    ),
    "kl: no closed form": (lambda: bbb.kl(POSTERIOR, prior.ScaleMixture()), InputError, "a key, to estimate a KL"),
    "kl: an ensemble": (lambda: bbb.kl(ensemble().posterior, prior.Normal()), InputError, "one mean-field posterior"),
    "kl: a prior of another structure": (
        lambda: bbb.kl(POSTERIOR, prior.Normal((0.0, 0.0))),
        ShapeError,
        "prior mean to be a number or a tree",
    ),
    "prior.Normal: a mean of NaN": (lambda: prior.Normal(NAN), InputError, "prior mean to be finite"),
    "prior.Normal: a mean in words": (lambda: prior.Normal("zero"), InputError, "prior mean to be real numbers"),
    "prior.Normal.around: words": (lambda: prior.Normal.around({"w": "a"}), InputError, "real numbers"),
    "prior.Laplace: a mean of infinity": (lambda: prior.Laplace(INF), InputError, "prior mean to be finite"),
    "prior.EmpiricalNormal: a mean of NaN": (lambda: prior.EmpiricalNormal(NAN), InputError, "prior mean to be fin"),
    "prior.EmpiricalNormal: per weight": (lambda: prior.EmpiricalNormal(per="weight"), InputError, '"leaf", "layer"'),
    "prior.ScaleMixture: a weight of 1": (lambda: prior.ScaleMixture(1.0), InputError, r"inside \(0, 1\)"),
    "prior.fan_in: an axis that is not there": (lambda: prior.fan_in(POINT, output_axis=5), InputError, "output_axis"),
    "prior.fan_in: two gains": (lambda: prior.fan_in(POINT, [1.0, 2.0]), InputError, "one number"),
    "likelihood.StudentT: df of 2": (lambda: likelihood.StudentT(1.0, 2.0), InputError, "df to be one number above 2"),
    "likelihood.StudentT: df in words": (lambda: likelihood.StudentT(1.0, "four"), InputError, "df to be real numbers"),
    "likelihood.StudentT: df alone": (
        lambda: likelihood.StudentT(learn_df=True),
        InputError,
        "a scale that is learned where df is",
    ),
    "likelihood.Gaussian: learn in words": (lambda: likelihood.Gaussian(1.0, "yes"), InputError, "learn to be a bool"),
    "likelihood.NegativeBinomial: learn in words": (
        lambda: likelihood.NegativeBinomial(1.0, "yes"),
        InputError,
        "learn to be a bool",
    ),
    "likelihood.Gaussian: two stds for one output": (
        lambda: fit(model=bayesian(likelihood=likelihood.Gaussian([0.5, 0.5]))),
        ShapeError,
        "noise std to broadcast",
    ),
    "likelihood.HeteroscedasticGaussian: an odd number of outputs": (
        lambda: fit(model=bayesian(likelihood=likelihood.HeteroscedasticGaussian())),
        ShapeError,
        "a mean and a logarithm",
    ),
    "likelihood.HeteroscedasticGaussian: y without its column": (
        lambda: likelihood.HeteroscedasticGaussian().log_prob(np.zeros(3), jnp.ones((3, 2))),
        ShapeError,
        r"Pass y.reshape\(-1, 1\)",
    ),
    "likelihood.Poisson: a negative count": (
        lambda: fit(y=-np.ones((6, 1)), model=bayesian(likelihood=likelihood.Poisson())),
        InputError,
        r"counts in y, whole numbers of at least 0, got -1 at index \(0, 0\)",
    ),
    "likelihood.NegativeBinomial: half a count": (
        lambda: fit(y=Y, model=bayesian(likelihood=likelihood.NegativeBinomial())),
        InputError,
        "counts in y",
    ),
    "likelihood.Bernoulli: a 2": (
        lambda: fit(y=2 * np.ones((6, 1)), model=bayesian(likelihood=likelihood.Bernoulli())),
        InputError,
        "0 and 1 alone in y, got 2",
    ),
    "likelihood.Categorical: one output": (
        lambda: fit(y=np.zeros(6, int), model=bayesian(likelihood=likelihood.Categorical())),
        ShapeError,
        "a logit for each of two classes or more",
    ),
    "likelihood.Categorical: a class beyond": (
        lambda: likelihood.Categorical().log_prob(np.array([0, 3]), jnp.ones((2, 3))),
        InputError,
        "classes from 0 to 2 in y, got 3",
    ),
    # the network and its forwards
    "explain: a forward of another kind": (
        lambda: bbb.explain(MODEL.apply, POSTERIOR, X, lambda apply: apply),
        InputError,
        "a forward of bbb",
    ),
    "explain: a forward's name": (
        lambda: bbb.explain(MODEL.apply, POSTERIOR, X, "flipout"),
        InputError,
        "forward to b",
    ),
    "explain: x of other columns": (
        lambda: bbb.explain(MODEL.apply, POSTERIOR, np.ones((6, 2))),
        ShapeError,
        "columns",
    ),
    "explain: x in words": (lambda: bbb.explain(MODEL.apply, POSTERIOR, "x"), InputError, "x that the network accepts"),
    "weight_sampling: x of other columns": (
        lambda: bbb.weight_sampling(MODEL.apply)(KEY, POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "x",
    ),
    "weight_sampling: x in words": (
        lambda: bbb.weight_sampling(MODEL.apply)(KEY, POSTERIOR, "x"),
        InputError,
        "x that the network accepts",
    ),
    "local_reparam: x of other columns": (
        lambda: bbb.local_reparam(MODEL.apply)(KEY, POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "check the shapes of params and x",
    ),
    "flipout: x in words": (lambda: bbb.flipout(MODEL.apply)(KEY, POSTERIOR, "x"), InputError, "the network accepts"),
    "local_reparam: noise of another posterior": (
        lambda: bbb.local_reparam(MODEL.apply).evaluate((), POSTERIOR, X.astype("f4")),
        ShapeError,
        "got no more arrays",
    ),
    "moments: x of other columns": (
        lambda: bbb.moments(MODEL.apply)(POSTERIOR, np.ones((6, 2), "f4")),
        InputError,
        "check the shapes of params and x",
    ),
    "moments: an operation without a rule": (
        lambda: bbb.moments(lambda p, x: jnp.sort(x @ p["w"], axis=0))(of(NETWORK.apply).posterior, X.astype("f4")),
        bbb.UnknownPrimitiveError,
        "sort",
    ),
    "moments: two outputs": (
        lambda: bbb.moments(lambda p, x: (x @ p["w"], x))(of(NETWORK.apply).posterior, X.astype("f4")),
        ShapeError,
        "the network to return one array",
    ),
    "standardize: a constant column": (
        lambda: bbb.standardize(MODEL.apply, 0 * X, Y),
        InputError,
        r"x\[:, 0\] to vary",
    ),
    "standardize: y of one axis": (lambda: bbb.standardize(MODEL.apply, X, Y[:, 0]), ShapeError, r"\(rows, columns\)"),
    "standardize: a training mode": (lambda: bbb.standardize(BATCH.apply.__self__, X, Y), InputError, "a network"),
    "standardize: numbers whose spread overflows": (
        lambda: bbb.standardize(MODEL.apply, X * 1e300, Y),
        InputError,
        r"a standard deviation of x\[:, 0\] that is finite",
    ),
    "standardize: other rows": (lambda: bbb.standardize(MODEL.apply, X, Y[:5]), ShapeError, "the 6 rows of x"),
    "nn.linear: another init": (lambda: nn.linear(1, 1, init="xavier"), InputError, 'init_by to be "he" or "torchbnn"'),
    "nn.linear: bias in words": (lambda: nn.linear(1, 1, bias="yes"), InputError, "bias to be a bool"),
    "nn.linear: x of other columns": (
        lambda: nn.linear(2, 1).apply(nn.linear(2, 1).init(KEY), jnp.ones((3, 5))),
        ShapeError,
        "linear takes x of shape",
    ),
    "nn.linear: parameters of nothing": (lambda: nn.linear(2, 1).apply({}, jnp.ones((3, 2))), ShapeError, "parameters"),
    "nn.conv: another init": (lambda: nn.conv(1, 1, 3, init="zeros"), InputError, "init_by to be"),
    "nn.conv: four dimensions": (lambda: nn.conv(1, 1, 3, dims=4), InputError, "dims to be 1, 2 or 3"),
    "nn.conv: padding in other words": (lambda: nn.conv(1, 1, 3, padding="full"), InputError, 'padding to be "same"'),
    "nn.conv: padding of -1": (lambda: nn.conv(1, 1, 3, padding=-1), InputError, "padding to be a whole number"),
    "nn.conv: padding of three": (lambda: nn.conv(1, 1, 3, padding=(1, 1, 1)), InputError, "padding to be a whole"),
    "nn.conv: same padding with a stride": (
        lambda: nn.conv(1, 1, 3, padding="same", stride=2),
        InputError,
        'stride 1 with padding="same"',
    ),
    "nn.conv: a kernel of three for two": (lambda: nn.conv(1, 1, (3, 3, 3)), InputError, "or 2 of them"),
    "nn.conv: groups that do not divide": (lambda: nn.conv(3, 3, 3, groups=2), InputError, "a multiple of the 2"),
    "nn.conv: another padding mode": (
        lambda: nn.conv(1, 1, 3, padding_mode="mirror"),
        InputError,
        "padding_mode to be",
    ),
    "nn.conv: a list for a padding mode": (lambda: nn.conv(1, 1, 3, padding_mode=["zeros"]), InputError, "padding_mod"),
    "nn.conv: x of other channels": (
        lambda: nn.conv(3, 1, 3).apply(nn.conv(3, 1, 3).init(KEY), jnp.ones((1, 2, 5, 5))),
        ShapeError,
        "conv takes x of shape",
    ),
    "nn.max_pool: padding of more than half": (lambda: nn.max_pool(2, padding=2), InputError, "at most half"),
    "nn.max_pool: x too small": (lambda: nn.max_pool(3).apply((), jnp.ones((1, 1, 2, 2))), ShapeError, "at least"),
    "nn.avg_pool: padding in words": (lambda: nn.avg_pool(2, padding="some"), InputError, "padding to be"),
    "nn.avg_pool: count_include_pad in words": (
        lambda: nn.avg_pool(2, count_include_pad="no"),
        InputError,
        "count_include_pad to be a bool",
    ),
    "nn.batch_norm: momentum of 2": (lambda: nn.batch_norm(1, momentum=2.0), InputError, "momentum to be at most 1"),
    "nn.batch_norm: affine in words": (lambda: nn.batch_norm(1, affine="no"), InputError, "affine to be a bool"),
    "nn.batch_norm: another init": (lambda: nn.batch_norm(1, init="he"), InputError, "init_by to be"),
    "nn.batch_norm: x of other channels": (
        lambda: nn.batch_norm(2).apply(nn.batch_norm(2).init(KEY), jnp.ones((3, 5))),
        ShapeError,
        "batch_norm takes x of shape",
    ),
    "nn.layer_norm: no axes": (lambda: nn.layer_norm(()), InputError, "normalized_shape"),
    "nn.layer_norm: bias in words": (lambda: nn.layer_norm(2, bias="no"), InputError, "bias to be a bool"),
    "nn.layer_norm: x of other features": (
        lambda: nn.layer_norm(2).apply(nn.layer_norm(2).init(KEY), jnp.ones((3, 5))),
        ShapeError,
        "layer_norm takes x of shape",
    ),
    "nn.dropout: a rate of 1": (lambda: nn.dropout(1.0), InputError, "rate to be below 1"),
    "nn.dropout: a rate of -1": (lambda: nn.dropout(-1.0), InputError, "rate to be one finite number"),
    "nn.dropout: a rate in words": (lambda: nn.dropout("half"), InputError, "rate to be real numbers"),
    "nn.sequential: no layers": (nn.sequential, InputError, "at least one layer"),
    "nn.sequential: a function": (lambda: nn.sequential(jnp.tanh), InputError, "every layer to come from bbb.nn"),
    "nn.sequential: a list": (lambda: nn.sequential([nn.relu]), InputError, "every layer to come from bbb.nn"),
    "nn.sequential: parameters of fewer layers": (
        lambda: NETWORK.apply(NETWORK.init(KEY)[:2], jnp.ones((3, 1))),
        ShapeError,
        "parameters of 3 layers",
    ),
    "nn.residual: no layers": (nn.residual, InputError, "at least one layer"),
    "nn.residual: another shape": (
        lambda: nn.residual(nn.linear(1, 2)).apply(nn.residual(nn.linear(1, 2)).init(KEY), jnp.ones((3, 1))),
        ShapeError,
        "cannot be added",
    ),
    "nn.affine: numbers of two lengths": (lambda: nn.affine([1.0], [1.0, 2.0]), ShapeError, "scale to have the 1"),
    "nn.affine: NaN": (lambda: nn.affine([NAN], [1.0]), InputError, "shift to be finite"),
    "nn.affine: words": (lambda: nn.affine("ab", "cd"), InputError, "shift to be real numbers"),
    "nn.affine: one number": (lambda: nn.affine(1.0, 2.0), ShapeError, "shift to be a list of numbers"),
    "nn.affine: nothing": (lambda: nn.affine(None, None), InputError, "shift to be real numbers"),
    "nn.affine: x of other features": (
        lambda: nn.affine([1.0], [1.0]).apply((), jnp.ones((3, 2))),
        ShapeError,
        "affine takes x of shape",
    ),
    "nn.build: another kind": (
        lambda: nn.build({"kind": "os.system"}),
        InputError,
        "the description of a bbb.nn layer",
    ),
    "nn.build: a number": (lambda: nn.build(3), InputError, "the description of a bbb.nn layer"),
    "nn.build: nothing": (lambda: nn.build(None), InputError, "the description of a bbb.nn layer"),
    "nn.build: an option too many": (
        lambda: nn.build({"kind": "relu", "inplace": True}),
        InputError,
        "the description of a bbb.nn layer",
    ),
    "nn.build: another function": (
        lambda: nn.build({"kind": "elementwise", "function": ["relu"]}),
        InputError,
        "function to be one of|description",
    ),
    "nn.build: very deep": (lambda: nn.build(nested(5000)), InputError, "the description of a bbb.nn layer"),
    # metrics and mixtures
    "metrics.rmse: other shapes": (lambda: metrics.rmse(Y, Y[:, 0]), ShapeError, "mean of the shape"),
    "metrics.crps_normal: a std of another shape": (
        lambda: metrics.crps_normal(Y, Y, np.ones(5)),
        ShapeError,
        "a std that broadcasts",
    ),
    "metrics.crps_draws: draws of other rows": (lambda: metrics.crps_draws(Y, Y), ShapeError, "draws of shape"),
    "metrics.crps_normal_mixture: means of other rows": (
        lambda: metrics.crps_normal_mixture(Y, Y, 1.0),
        ShapeError,
        "draws of shape",
    ),
    "metrics.interval_score: ends the wrong way round": (
        lambda: metrics.interval_score(Y, Y + 1, Y, 0.9),
        InputError,
        "Pass lower before upper",
    ),
    "metrics.coverage: ends the wrong way round": (lambda: metrics.coverage(Y, Y + 1, Y), InputError, "lower before"),
    "metrics.interval_width: ends the wrong way round": (
        lambda: metrics.interval_width(Y + 1, Y),
        InputError,
        "lower before upper",
    ),
    "metrics.pit: above 1": (lambda: metrics.pit(KEY, [0.5], [1.5]), InputError, r"upto inside \[0, 1\]"),
    "metrics.pit: the wrong way round": (lambda: metrics.pit(KEY, [0.5], [0.1]), InputError, "below to be at most"),
    "metrics.pit_draws: other rows": (lambda: metrics.pit_draws(KEY, Y, Y), ShapeError, "draws of shape"),
    "metrics.observed_coverage: no transform": (
        lambda: metrics.observed_coverage([3.0], (0.5,)),
        InputError,
        r"pit inside \[0, 1\]",
    ),
    "metrics.observed_coverage: levels that fall": (
        lambda: metrics.observed_coverage([0.5], (0.9, 0.5)),
        InputError,
        "levels in rising order",
    ),
    "metrics.observed_coverage: no levels": (lambda: metrics.observed_coverage([0.5], ()), InputError, "at least one"),
    "metrics.unit: above 1": (lambda: metrics.unit("p", [1.5]), InputError, r"p inside \[0, 1\]"),
    "metrics.rising: levels that fall": (lambda: metrics.rising("levels", (0.5, 0.1)), InputError, "rising order"),
    "metrics.predictive_entropy: two axes": (
        lambda: metrics.predictive_entropy(HALVES),
        ShapeError,
        r"\(draws, rows, classes\)",
    ),
    "metrics.predictive_entropy: logits": (
        lambda: metrics.predictive_entropy(np.ones((2, 2, 2))),
        InputError,
        "sum to 1 over the last axis",
    ),
    "metrics.predictive_entropy: words": (
        lambda: metrics.predictive_entropy([[["a", "b"]]]),
        InputError,
        "real numbers",
    ),
    "metrics.predictive_entropy: nothing": (lambda: metrics.predictive_entropy(None), InputError, "real numbers"),
    "mixture.log_score: y of other rows": (
        lambda: mixture.log_score(MODEL.likelihood, jnp.ones((2, 6, 1)), Y[:5]),
        ShapeError,
        "y to have the shape",
    ),
    "mixture.cdf: y of other rows": (
        lambda: mixture.cdf(MODEL.likelihood, jnp.ones((2, 6, 1)), Y[:5]),
        ShapeError,
        "y of shape",
    ),
    "mixture.cdf: of classes": (
        lambda: mixture.cdf(likelihood.Categorical(), jnp.ones((2, 6, 2)), np.zeros(6)),
        InputError,
        "a likelihood of numbers",
    ),
    "mixture.quantile: of classes": (
        lambda: mixture.quantile(likelihood.Categorical(), jnp.ones((2, 6, 2)), 0.5),
        InputError,
        "a likelihood of numbers",
    ),
    # pruning
    "prune: a fraction of 2": (lambda: bbb.prune(POSTERIOR, 2), InputError, "a fraction from 0 to 1"),
    "prune: a fraction of -1": (lambda: bbb.prune(POSTERIOR, -1), InputError, "fraction to be one finite number"),
    "prune: a fraction of NaN": (lambda: bbb.prune(POSTERIOR, NAN), InputError, "fraction to be one finite number"),
    "prune: a fraction in words": (lambda: bbb.prune(POSTERIOR, "half"), InputError, "fraction to be real numbers"),
    "pruning_curve: fractions that fall": (lambda: bbb.pruning_curve(MODEL, (0.5, 0.1), len), InputError, "rising ord"),
    "pruning_curve: no fractions": (
        lambda: bbb.pruning_curve(MODEL, (), len),
        InputError,
        "rising order, at least one",
    ),
    "pruning_curve: one number": (lambda: bbb.pruning_curve(MODEL, 0.5, len), ShapeError, "fractions"),
    "pruning_curve: no measure": (lambda: bbb.pruning_curve(MODEL, (0.5,), "accuracy"), InputError, "measure to be a"),
    # pictures
    "plot.band: two inputs": (lambda: plot.band(np.ones((6, 2)), band(), ax=ax()), ShapeError, "x to be one column"),
    "plot.band: other rows": (lambda: plot.band(X[:5], band(), ax=ax()), ShapeError, "rows"),
    "plot.band: x in words": (lambda: plot.band(["a"] * 6, band(), ax=ax()), InputError, "x to be real numbers"),
    "plot.band: x of NaN": (lambda: plot.band(X * NAN, band(), ax=ax()), NonFiniteInputError, "x to hold finite"),
    "plot.band: no predictive": (lambda: plot.band(X, band().f, ax=ax()), InputError, "predictive to be a Predictive"),
    "plot.band: data of one array": (lambda: plot.band(X, band(), data=X, ax=ax()), InputError, "data to be a pair"),
    "plot.band: data of other rows": (lambda: plot.band(X, band(), data=(X, Y[:3]), ax=ax()), ShapeError, "rows"),
    "plot.band: a target of other rows": (lambda: plot.band(X, band(), target=Y[:3], ax=ax()), ShapeError, "rows"),
    "plot.band: an observation of classes": (
        lambda: plot.band(X, class_band(), observation=True, ax=ax()),
        InputError,
        "one column|a Marginal",
    ),
    "plot.fan: classes": (lambda: plot.fan(X, class_band().y, ax=ax()), InputError, "marginal to be a Marginal"),
    "plot.fan: a predictive": (lambda: plot.fan(X, band(), ax=ax()), InputError, "marginal to be a Marginal"),
    "plot.fan: other rows": (lambda: plot.fan(X[:5], band().f, ax=ax()), ShapeError, "rows"),
    "plot.fan: levels that fall": (lambda: plot.fan(X, band().f, levels=(0.9, 0.1), ax=ax()), InputError, "rising"),
    "plot.fan: draws not kept": (
        lambda: plot.fan(np.repeat(X, 250, axis=0), without_draws().f, ax=ax()),
        bbb.QuantileError,
        "asked for when predicting",
    ),
    "plot.predicted_against_observed: other rows": (
        lambda: plot.predicted_against_observed(Y[:5], band().y, ax=ax()),
        ShapeError,
        "rows",
    ),
    "plot.predicted_against_observed: classes": (
        lambda: plot.predicted_against_observed(Y, class_band().y, ax=ax()),
        InputError,
        "marginal to be a Marginal",
    ),
    "plot.calibration: no transforms": (lambda: plot.calibration([5.0], ax=ax()), InputError, r"pit inside \[0, 1\]"),
    "plot.pit_histogram: no transforms": (lambda: plot.pit_histogram([-1.0], ax=ax()), InputError, "pit inside"),
    "plot.pit_histogram: nothing": (lambda: plot.pit_histogram([], ax=ax()), ShapeError, "at least one row"),
    "plot.reliability: an array": (lambda: plot.reliability(HALVES, ax=ax()), InputError, "to be a Reliability"),
    "plot.pruning: other lengths": (lambda: plot.pruning([0, 0.5], [1.0], ax=ax()), ShapeError, "rows"),
    "plot.pruning: nothing": (lambda: plot.pruning([], [], ax=ax()), ShapeError, "at least one row"),
    "plot.pruning: words": (lambda: plot.pruning(["a"], [1.0], ax=ax()), InputError, "fractions to be real numbers"),
    "plot.training: a model": (lambda: plot.training(MODEL, ax=ax()), InputError, "history to be a History"),
    "plot.training: nothing": (lambda: plot.training(None, ax=ax()), InputError, "history to be a History"),
    "plot.png: no function": (lambda: plot.png("ax"), InputError, "draw to be a function"),
    # torchbnn
    "torchbnn.TorchbnnCost: another loss": (lambda: torchbnn.TorchbnnCost("mae"), InputError, 'loss to be "mse"'),
    "torchbnn.TorchbnnCost: another reduction": (
        lambda: torchbnn.TorchbnnCost("mse", "none"),
        InputError,
        'reduction to be "mean" or "sum"',
    ),
    "torchbnn.last_bias_kl: another prior": (
        lambda: silently(torchbnn.last_bias_kl, POSTERIOR, prior.Laplace()),
        InputError,
        "a prior.Normal",
    ),
    "torchbnn.last_bias_kl: no layers": (
        lambda: silently(torchbnn.last_bias_kl, bbb.MeanField(jnp.ones(2), jnp.ones(2)), prior.Normal()),
        InputError,
        "a bbb.nn network with a Gaussian weight",
    ),
    "torchbnn.explain_kl_weight: another loss": (
        lambda: torchbnn.explain_kl_weight(0.1, 5, 1, 5, loss="mae"),
        InputError,
        "loss to be",
    ),
    "torchbnn.explain_kl_weight: two weights": (
        lambda: torchbnn.explain_kl_weight([0.1, 0.2], 5, 1, 5),
        InputError,
        "one number",
    ),
    "torchbnn.from_state_dict: no network": (lambda: from_state({}, "linear"), InputError, "a network of bbb.nn"),
    "torchbnn.from_state_dict: a missing key": (lambda: from_state({"bias_mu": None}), InputError, "'bias_mu'"),
    "torchbnn.from_state_dict: a key left over": (lambda: from_state({"scale": np.ones(1)}), InputError, "'scale' bes"),
    "torchbnn.from_state_dict: a key that is no word": (
        lambda: torchbnn.from_state_dict(nn.linear(1, 1), {0: 1}, prior=MODEL.prior, likelihood=MODEL.likelihood),
        InputError,
        "names",
    ),
    "torchbnn.from_state_dict: another shape": (
        lambda: from_state({"bias_mu": np.ones(3)}),
        ShapeError,
        r"shape \(1,\)",
    ),
    "torchbnn.from_state_dict: NaN": (
        lambda: from_state({"bias_mu": np.full(1, NAN, "f4")}),
        InputError,
        "to be finite",
    ),
    "torchbnn.from_state_dict: whole numbers": (
        lambda: from_state({"bias_mu": np.ones(1, int)}),
        InputError,
        "floating-point numbers",
    ),
    "torchbnn.from_state_dict: words": (lambda: from_state({"bias_mu": ["a"]}), InputError, "floating-point numbers"),
    "torchbnn.from_state_dict: float64": (
        lambda: from_state({"bias_mu": np.ones(1)}),
        InputError,
        "dtype JAX is set to",
    ),
    "torchbnn.from_state_dict: a file that is none": (
        lambda: torchbnn.from_state_dict(nn.linear(1, 1), "train.csv", prior=MODEL.prior, likelihood=MODEL.likelihood),
        ModelFileError,
        "a safetensors file of a state dict",
    ),
    "torchbnn.frozen_noise: not frozen": (
        lambda: torchbnn.frozen_noise(nn.linear(1, 1), state()),
        InputError,
        "state dict of a frozen model",
    ),
    "torchbnn.to_state_dict: another library's network": (
        lambda: torchbnn.to_state_dict(of(lambda p, x: x @ p["w"])),
        InputError,
        "a network of bbb.nn",
    ),
    "torchbnn.to_state_dict: noise of another structure": (
        lambda: torchbnn.to_state_dict(MODEL, {"w": 1.0}),
        ShapeError,
        "noise to have the structure",
    ),
    # files
    "save: no such folder": (lambda: bbb.save("nowhere/model", MODEL), WriteError, "Check that the folder exists"),
    "save: a folder": (lambda: bbb.save("folder", MODEL), WriteError, "to be able to write"),
    "save: the folder here": (lambda: bbb.save(".", MODEL), bbb.BBBError, "a file's name"),
    "save: no name": (lambda: bbb.save("", MODEL), bbb.BBBError, "a file's name"),
    "save: in a file": (lambda: bbb.save("train.csv/model", MODEL), WriteError, "to be able to write"),
    "save: metadata of a set": (lambda: bbb.save("new", MODEL, {"a": {1}}), InputError, "metadata of JSON values"),
    "save: metadata of NaN": (lambda: bbb.save("new", MODEL, {"a": NAN}), InputError, "metadata of JSON values"),
    "save: metadata in words": (lambda: bbb.save("new", MODEL, "columns"), InputError, "metadata to be a dictionary"),
    "save: metadata of a number": (lambda: bbb.save("new", MODEL, 3), InputError, "metadata to be a dictionary"),
    "load: no such file": (lambda: bbb.load("none"), ModelFileError, "No such file"),
    "load: a folder": (lambda: bbb.load("folder"), ModelFileError, "regular file"),
    "load: a table": (lambda: bbb.load("train.csv"), ModelFileError, "to be a whole model file"),
    "load: like another model": (lambda: bbb.load("model", like=classifier()), ModelFileError, "of the model given as"),
    "read_metadata: no such file": (lambda: bbb.read_metadata("none"), ModelFileError, "No such file"),
    "read_metadata: a table": (lambda: bbb.read_metadata("train.csv"), ModelFileError, "to be a whole model file"),
    "export: no model": (lambda: bbb.export("new", "model", X), InputError, "Expected model to be a BNN"),
    "export: no draws": (lambda: bbb.export("new", MODEL, X, draws=0), InputError, "draws to be a whole number"),
    "export: a level of 2": (lambda: bbb.export("new", MODEL, X, levels=(2,)), InputError, "level to be one number"),
    "export: x in words": (lambda: bbb.export("new", MODEL, "x"), InputError, "x to be real numbers"),
    "load_exported: nothing": (lambda: bbb.load_exported(None), InputError, "a path"),
    "load_exported: no such file": (lambda: bbb.load_exported("none"), ModelFileError, "No such file"),
    "load_exported: a model": (lambda: bbb.load_exported("model"), ModelFileError, "a file that bbb wrote"),
    # other libraries' networks
    "adapters.linen: no variables": (lambda: bbb.adapters.linen(NETWORK, {}), InputError, 'a collection "params"'),
    "adapters.linen: a list": (lambda: bbb.adapters.linen(NETWORK, []), InputError, 'a collection "params"'),
    "adapters.restore: another structure": (
        lambda: bbb.adapters.restore(MODEL, {"w": 1.0}),
        ShapeError,
        "params to have the structure of the model",
    ),
}


class Unhashable:
    """A network without a hash."""

    __hash__ = None

    def __call__(self, params, x):
        return x @ params["w"]


def nested(depth):
    """Describe layers in layers."""
    description = {"kind": "elementwise", "function": "relu"}
    for _ in range(depth):
        description = {"kind": "sequential", "layers": [description]}
    return description


CASES = FAMILIES | SINGLE


# Estimators: what scikit-learn's own checks refuse is refused in its way


def estimator(kind="BayesianMLPRegressor", **options):
    return getattr(bbb, kind)(**{"steps": 1, "random_state": 0, **options})


def regress(x=X, y=Y[:, 0], **options):
    return estimator(**options).fit(x, y)


def classify(x=X, y=(0, 1) * 3, **options):
    return estimator("BayesianMLPClassifier", **options).fit(x, y)


@functools.cache
def regressor():
    return regress(hidden_layer_sizes=(2,))


@functools.cache
def label_classifier():
    return classify(hidden_layer_sizes=(2,))


ESTIMATORS = {
    "BayesianMLPRegressor: NaN": (lambda: regress(X * NAN), ValueError, "NaN"),
    "BayesianMLPRegressor: one axis": (lambda: regress(X[:, 0]), ValueError, "2D array"),
    "BayesianMLPRegressor: words": (lambda: regress(np.full((6, 1), "a")), ValueError, "could not convert|dtype"),
    "BayesianMLPRegressor: no rows": (lambda: regress(X[:0], Y[:0, 0]), ValueError, "0 sample"),
    "BayesianMLPRegressor: other rows": (lambda: regress(X, Y[:5, 0]), ValueError, "inconsistent numbers"),
    "BayesianMLPRegressor: y of NaN": (lambda: regress(X, Y[:, 0] * NAN), ValueError, "NaN"),
    "BayesianMLPRegressor: steps of 0": (lambda: regress(steps=0), InputError, "steps to be a whole number"),
    "BayesianMLPRegressor: batch_size of 0": (lambda: regress(batch_size=0), InputError, "batch_size to be a whole"),
    "BayesianMLPRegressor: draws_per_step of 0": (
        lambda: regress(draws_per_step=0),
        InputError,
        "draws_per_step to be",
    ),
    "BayesianMLPRegressor: learning_rate of 0": (lambda: regress(learning_rate=0), InputError, "learning_rate to be"),
    "BayesianMLPRegressor: learning_rate of two": (
        lambda: regress(learning_rate=[0.1, 0.2]),
        InputError,
        "learning_rate to be one number",
    ),
    "BayesianMLPRegressor: prior_gain of -1": (lambda: regress(prior_gain=-1), InputError, "gain to be finite"),
    "BayesianMLPRegressor: kl_warm_up of -1": (lambda: regress(kl_warm_up=-1), InputError, "kl_warm_up to be"),
    "BayesianMLPRegressor: kl_warm_up of 2": (lambda: regress(kl_warm_up=2), InputError, "kl_warm_up to be at most 1"),
    "BayesianMLPRegressor: another activation": (lambda: regress(activation="swish"), InputError, "activation to be"),
    "BayesianMLPRegressor: a list of activations": (lambda: regress(activation=["relu"]), InputError, "activation to"),
    "BayesianMLPRegressor: a layer of 0": (lambda: regress(hidden_layer_sizes=(5, 0)), InputError, "whole number of"),
    "BayesianMLPRegressor: a layer in words": (lambda: regress(hidden_layer_sizes="5"), InputError, "whole number of"),
    "BayesianMLPRegressor: half a layer": (lambda: regress(hidden_layer_sizes=(2.5,)), InputError, "whole number of"),
    "BayesianMLPRegressor: a random state in words": (lambda: regress(random_state="now"), ValueError, "now"),
    "BayesianMLPRegressor.predict: not fitted": (lambda: estimator().predict(X), ValueError, "not fitted"),
    "BayesianMLPRegressor.predict: other columns": (lambda: regressor().predict(np.ones((2, 3))), ValueError, "3 feat"),
    "BayesianMLPRegressor.predict: of another word": (lambda: regressor().predict(X, of="g"), InputError, "of to be"),
    "BayesianMLPRegressor.predict_interval: coverage of 2": (
        lambda: regressor().predict_interval(X, 2),
        InputError,
        r"coverage to be one number inside \(0, 1\)",
    ),
    "BayesianMLPRegressor.predict_quantiles: a quantile of 0": (
        lambda: regressor().predict_quantiles(X, (0,)),
        InputError,
        r"quantile to be one number inside \(0, 1\)",
    ),
    "BayesianMLPRegressor.predict_quantiles: none": (
        lambda: regressor().predict_quantiles(X, ()),
        InputError,
        "at least one quantile",
    ),
    "BayesianMLPRegressor.sample_y: no samples": (lambda: regressor().sample_y(X, 0), InputError, "n_samples to be"),
    "BayesianMLPRegressor.log_score: not fitted": (lambda: estimator().log_score(X, Y), ValueError, "not fitted"),
    "BayesianMLPRegressor.log_score: two targets": (
        lambda: regressor().log_score(X, np.ones((6, 2))),
        ShapeError,
        "y of 1 targets",
    ),
    "BayesianMLPRegressor.partial_fit: two targets": (
        lambda: regressor().partial_fit(X, np.ones((6, 2))),
        ShapeError,
        "y of 1 targets",
    ),
    "BayesianMLPClassifier: one class": (lambda: classify(y=[0] * 6), InputError, "labels of at least two classes"),
    "BayesianMLPClassifier: measurements": (lambda: classify(y=Y[:, 0]), ValueError, "[Uu]nknown label type"),
    "BayesianMLPClassifier: NaN": (lambda: classify(X * NAN), ValueError, "NaN"),
    "BayesianMLPClassifier: steps of 0": (lambda: classify(steps=0), InputError, "steps to be a whole number"),
    "BayesianMLPClassifier.predict: not fitted": (
        lambda: estimator("BayesianMLPClassifier").predict(X),
        ValueError,
        "not fitted",
    ),
    "BayesianMLPClassifier.predict_proba: other columns": (
        lambda: label_classifier().predict_proba(np.ones((2, 3))),
        ValueError,
        "3 features",
    ),
    "BayesianMLPClassifier.predict_entropy: words": (
        lambda: label_classifier().predict_entropy(np.full((6, 1), "a")),
        ValueError,
        "could not convert|dtype",
    ),
    "BayesianMLPClassifier.score: a label never seen": (
        lambda: label_classifier().score(X, [7] * 6),
        InputError,
        "y of the classes 0, 1, got 7",
    ),
    "BayesianMLPClassifier.log_score: a label never seen": (
        lambda: label_classifier().log_score(X, [7] * 6),
        InputError,
        "y of the classes 0, 1, got 7",
    ),
    "BayesianMLPClassifier.partial_fit: a label never seen": (
        lambda: label_classifier().partial_fit(X, [7] * 6),
        InputError,
        "y of the classes 0, 1, got 7",
    ),
}


# The command


TABLES = {
    "missing": (None, "No such file"),
    "empty": ("", "got an empty file"),
    "blank": ("\n\n\n", "got an empty file"),
    "header": ("a,b,y\n", "got a header alone"),
    "short": ("a,b,y\n1,2,3\n4,5\n", "got 2 in line 3"),
    "long": ("a,b,y\n1,2,3,4\n", "got 4 in line 2"),
    "word": ("a,b,y\n1,2,3\n1,x,4\n", "got 'x' in line 3"),
    "hole": ("a,b,y\n1,2,3\n1,,4\n", "an empty cell in line 3"),
    "nan": ("a,b,y\n1,2,3\n1,nan,4\n", "got 'nan' in line 3"),
    "infinite": ("a,b,y\n1,2,3\n1,inf,4\n", "got 'inf' in line 3"),
    "beyond": ("a,b,y\n1,2,3\n1,1e999,4\n", "got '1e999' in line 3"),
    "hexadecimal": ("a,b,y\n1,2,3\n1,0x10,4\n", "got '0x10' in line 3"),
    "grouped": ("a,b,y\n1,2,3\n1,1_000,4\n", "got '1_000' in line 3"),
    "twice": ("a,a,y\n1,2,3\n", "got 'a' twice"),
    "nameless": ("a,,y\n1,2,3\n", "a column without a name"),
    "quote": ('a,b,y\n1,"2,3\n', "unexpected end of data"),
    "latin": ("ä,b,y\n1,2,3\n".encode("latin-1"), "a CSV file in UTF-8"),
    "giant": ("a,b,y\n1," + "9" * 200_000 + ",3\n", "field larger than field limit|got '999"),
}
CONSTANT = "a,b,y\n1,2,3\n1,3,4\n1,5,6\n"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with tables and models, good and bad, which no refusal may change."""
    folder = tmp_path_factory.mktemp("bad_input")
    (folder / "train.csv").write_text("a,b,y\n1,2,3.5\n2,3,4.5\n3,5,6.5\n4,9,9.5\n")
    (folder / "constant.csv").write_text(CONSTANT)
    (folder / "words.csv").write_text("a,b,y\n1,2,red\n2,3,green\n3,5,red\n")
    (folder / "one.csv").write_text("y\n1\n2\n")
    for name, (content, _) in TABLES.items():
        if content is not None:
            (folder / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "folder").mkdir()
    bbb.save(folder / "model", MODEL)
    network = nn.sequential(nn.linear(2, 3), nn.relu, nn.linear(3, 1))
    tabular.TabularModel(bayesian(network), ("a", "b"), "y").save(folder / "m")
    two = bayesian(nn.linear(2, 2), likelihood=likelihood.Categorical())
    tabular.TabularModel(two, ("a", "b"), "y", ("red", "blue")).save(folder / "classes")
    for name, changes in METADATA.items():
        about = {"features": ["a", "b"], "target": "y", **changes}
        bbb.save(folder / name, bayesian(network), {k: v for k, v in about.items() if v is not None})
    (folder / "damaged").write_bytes((folder / "m").read_bytes()[:-1])
    return folder


METADATA = {
    "nameless_model": {"features": None},
    "targetless_model": {"target": None},
    "number_of_features": {"features": 2},
    "one_word_of_features": {"features": "ab"},
    "features_of_numbers": {"features": [1, 2]},
    "features_twice": {"features": ["a", "a"]},
    "features_too_many": {"features": ["a", "b", "c"]},
    "target_of_a_list": {"target": ["y"]},
    "classes_of_a_number": {"classes": 2},
    "classes_of_numbers": {"classes": ["red", "blue"]},
}


def contents(folder):
    """Give every file's bytes, and every folder, by their paths."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


FIT, PREDICT, EVALUATE = ("fit", "--target", "y", "--out", "new"), ("predict", "m"), ("evaluate", "m")
WRONG_NUMBERS = ("0", "-1", "1.5", "many", "")
WRONG_LEVELS = ("0", "1", "-0.5", "95", "nan", "wide")


def wrong_usage():
    """Give arguments, the exit status, and what is said, of what argparse refuses."""
    wholes = {
        "demo": ("--steps", "--draws", "--hidden"),
        "fit train.csv --target y": ("--hidden", "--epochs", "--restarts"),
        "predict m train.csv": ("--draws",),
        "evaluate m train.csv": ("--draws",),
    }
    for command, options in wholes.items():
        for option in options:
            for value in WRONG_NUMBERS:
                yield [*command.split(), f"{option}={value}"], 2, f"{option}: expected a whole number of at least 1"
        for value in (*WRONG_NUMBERS, "99999"):
            yield [*command.split(), f"--devices={value}"], 2, "--devices: expected a whole number of devices from 1 to"
        for value in ("-1", "1.5", "now", "2147483648"):
            yield [*command.split(), f"--seed={value}"], 2, "--seed: expected a whole number from 0 to 2147483647"
        yield [*command.split(), "--quick"], 2, "unrecognized arguments: --quick"
    for command in ("predict m train.csv", "evaluate m train.csv"):
        for value in WRONG_LEVELS:
            yield [*command.split(), f"--interval={value}"], 2, r"--interval: expected a number inside \(0, 1\)"
    for value in ("1", "-0.1", "nan", "some"):
        yield ["fit", "train.csv", "--target", "y", f"--validation={value}"], 2, "--validation: expected a share"
    for value in ("0", "-1", "nan", "inf", "wide"):
        yield ["demo", f"--prior-std={value}"], 2, "--prior-std: expected a finite number above 0"
    yield ["demo", "--objective", "map"], 2, "invalid choice: 'map'"
    yield ["fit", "train.csv", "--target", "y", "--likelihood", "cauchy"], 2, "invalid choice: 'cauchy'"
    yield ["fit", "train.csv", "--target", "y", "--prior", "flat"], 2, "invalid choice: 'flat'"
    yield [], 2, "required: COMMAND"
    yield ["train"], 2, "invalid choice: 'train'"
    yield ["fit", "train.csv"], 2, "required: --target"
    yield ["fit", "--target", "y"], 2, "required: DATA.csv"
    yield ["predict"], 2, "required: MODEL, NEW.csv"
    yield ["predict", "m"], 2, "required: NEW.csv"
    yield ["evaluate", "m"], 2, "required: TEST.csv"


def refusals():
    """Give the same of what is refused later: tables, models and places to write to."""
    for name, (_, text) in TABLES.items():
        for command in (FIT, PREDICT, EVALUATE):
            yield [*command, f"{name}.csv"], 1, text
    for command in (PREDICT, EVALUATE):
        yield [*command, "folder"], 1, "a CSV file|a table"
        yield [*command, "one.csv"], 1, "a column 'a' in one.csv, got only y"
        for name, text in {
            "none": "a model file at none, got: No such file",
            "folder": "regular file",
            "train.csv": "to be a whole model file",
            "damaged": "to be a whole model file",
            "model": "the names of its columns",
            **dict.fromkeys(METADATA, "the names of its columns|classes"),
        }.items():
            yield [command[0], name, "train.csv"], 1, text
    yield ["evaluate", "classes", "words.csv"], 1, "classes of 'y' among red, blue in words.csv, got 'green'"
    yield ["evaluate", "m", "words.csv"], 1, "a finite number in every row of column 'y'"
    yield ["evaluate", "m", "train.csv", "--pictures", "train.csv"], 1, "a folder that can be written"
    yield ["predict", "m", "train.csv", "--out", "folder"], 1, "--out to be a file, got the folder folder"
    yield ["predict", "m", "train.csv", "--out", "."], 1, "--out to be a file, got the folder ."
    yield ["predict", "m", "train.csv", "--out", "train.csv/new"], 1, "a folder that can be written"
    yield ["predict", "m", "train.csv", "--draws", "9" * 30], 1, "more memory or fewer draws"
    yield ["predict", "m", "train.csv", "--interval", "0.99999999999"], 1, "float32 can tell from 0 and 1"
    yield [*FIT, "folder"], 1, "a CSV file"
    yield [*FIT, "constant.csv"], 1, "column 'a' to vary"
    yield [*FIT, "one.csv"], 1, "at least one column besides 'y'"
    yield [*FIT, "train.csv", "--drop", "c"], 1, "a column 'c'"
    yield [*FIT, "train.csv", "--drop", "y"], 1, "a target that is kept"
    yield [*FIT, "train.csv", "--drop", "a", "--drop", "b"], 1, "besides 'y'"
    yield [*FIT, "words.csv", "--likelihood", "gaussian"], 1, "numbers in column 'y' for a gaussian likelihood"
    yield [*FIT, "train.csv", "--likelihood", "poisson"], 1, "counts, whole numbers from 0, in column 'y', got 3.5|3.5"
    yield [*FIT, "train.csv", "--validation", "0.99"], 1, "leave a row to train on"
    yield (
        [*FIT, "train.csv", "--devices", "3"],
        1,
        "--devices to divide the 4 rows of a training step, or the number of",
    )
    yield ["demo", "--devices", "3"], 1, "--devices to divide the 500 rows of a training step, got 3"
    yield [*FIT, "train.csv", "--resume"], 1, "--checkpoint DIR with --resume"
    yield [*FIT, "train.csv", "--checkpoint", "train.csv"], 1, "a folder that can be written"
    yield [*FIT, "train.csv", "--epochs", "9" * 15], 1, "Train in several calls"
    yield ["fit", "train.csv", "--target", "z", "--out", "new"], 1, "a column 'z' in train.csv, got only a, b, y"
    yield ["fit", "train.csv", "--target", "", "--out", "new"], 1, "a column ''"
    yield ["fit", "train.csv", "--target", "y", "--out", "folder"], 1, "--out to be a file, got the folder folder"
    yield ["fit", "train.csv", "--target", "y", "--out", "train.csv/new"], 1, "a folder that can be written"
    yield ["demo", "--out", "train.csv"], 1, "a folder that can be written"


COMMANDS = {" ".join(arguments): (arguments, status, text) for arguments, status, text in (*wrong_usage(), *refusals())}


# The tests


@pytest.mark.parametrize("case", CASES | ESTIMATORS)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    call, error, text = (CASES | ESTIMATORS)[case]
    monkeypatch.chdir(work)
    before = contents(work)
    with pytest.raises(error, match=text) as caught:
        call()
    if isinstance(caught.value, bbb.BBBError):
        message = str(caught.value)
        assert message.startswith("Expected ")
        assert ", got" in message
        assert "Traced<" not in message
    else:
        assert error is ValueError  # scikit-learn's own
        assert case in ESTIMATORS
    assert contents(work) == before


@pytest.mark.parametrize("case", COMMANDS)
def test_a_bad_command_is_refused_in_one_sentence_and_nothing_is_written(case, work, monkeypatch, capsys):
    arguments, status, text = COMMANDS[case]
    monkeypatch.chdir(work)
    before = contents(work)
    try:
        got = cli.main(arguments)
    except SystemExit as stop:  # argparse leaves by itself
        got = stop.code
    out, err = capsys.readouterr()
    assert (got, out) == (status, "")
    assert "Traceback" not in err
    if status == 1:
        assert err.startswith("bbb: Expected ")
        assert err.count("\n") == 1
    assert re.search(text, err)
    assert contents(work) == before


RECORDS = {
    *("Explanation", "Route", "Diagnosis", "Finding", "Closed", "Interval", "ClassMarginal", "Marginal", "Predictive"),
    *("ensemble.Spread", "metrics.Entropy", "metrics.Reliability", "mixture.Pairs", "mixture.Root", "mixture.At"),
    *("objective.Cost", "torchbnn.KLWeight", "History", "ClosedForm", "Standardized", "adapters.Network"),
    *("adapters.Static", "adapters.Linen", "adapters.NNX", "adapters.Equinox", "adapters.Haiku", "mixture.Mixture"),
    *("mixture.Normals", "Exported", "tasks.Regression", "tasks.Settings", "prior.WithNoise"),
}
"""What functions give back: nobody else makes them."""

PARTS_OF_OTHERS = {
    *("objective.data_for", "objective.draw_keys", "objective.evaluate_draws", "objective.with_kl_noise"),
    *("objective.Integrated", "objective.has_exact_elbo", "adapters.library_of"),
    *("objective.with_std_error", "posterior.per_leaf", "posterior.reparameterize", "posterior.standard_normal"),
    *("posterior.first_member", "prior.check_fits", "prior.with_noise", "mixture.group_means", "mixture.mean_of_draws"),
    *("likelihood.check_likelihood", "likelihood.check_predicts", "likelihood.check_quantiles", "prior.check_prior"),
    *("likelihood.check_samples", "likelihood.observed", "posterior.check_random"),
    *("mixture.solve", "mixture.solve_near", "mixture.without_lone_axis", "posterior.check_posterior"),
    *("nn.Layer", "nn.Linear", "nn.Conv", "nn.BatchNorm", "nn.LayerNorm", "nn.MaxPool", "nn.AvgPool", "nn.Flatten"),
    *("nn.Dropout", "nn.Sequential", "nn.Residual", "nn.Affine", "nn.Elementwise"),
    *("prior.Prior", "prior.EstimatedPrior", "likelihood.Likelihood", "torchbnn.LastLayerWarning"),
}
"""What the modules use of each other, the classes that functions of nearly their names make, and protocols."""

WITHOUT_A_BAD_INPUT = {
    "tasks.clean",  # NumPy's own, and that of the demo alone: `reference/` reads it without the rest of bbb
    "tasks.regression",
    "adapters.network",  # gives None for what it does not know
    "adapters.nnx",  # asks the other library, which has errors of its own
    "adapters.equinox",
    "adapters.haiku",
}


def public():
    """Name every public callable: of `bbb`, and of the modules it shows."""
    for name, value in vars(bbb).items():
        home = getattr(value, "__module__", "")
        if name.startswith("_") or (isinstance(value, type) and issubclass(value, Exception)):
            continue
        if callable(value) and home.startswith("bbb"):
            yield name
        elif inspect.ismodule(value) and value.__name__ in MODULES:
            for inner, member in vars(value).items():
                ours = getattr(member, "__module__", None) == value.__name__
                again = inner in vars(bbb) and vars(bbb)[inner] is member
                if callable(member) and ours and not inner.startswith("_") and not again:
                    yield f"{name}.{inner}"


MODULES = {
    *("bbb.adapters", "bbb.ensemble", "bbb.likelihood", "bbb.metrics", "bbb.mixture", "bbb.nn", "bbb.objective"),
    *("bbb.plot", "bbb.posterior", "bbb.prior", "bbb.schedule", "bbb.tasks", "bbb.torchbnn"),
}


def test_every_public_function_and_command_has_bad_inputs_and_there_are_three_hundred():
    assert len(CASES) >= 300
    assert len(COMMANDS) >= 60
    named = {name.split(":")[0] for name in CASES | ESTIMATORS}
    named |= {".".join(name.split(".")[:-1]) for name in named if name.split(".")[-1].islower()}
    missing = set(public()) - named - RECORDS - PARTS_OF_OTHERS - WITHOUT_A_BAD_INPUT
    assert not missing
    assert {"BayesianMLPRegressor", "BayesianMLPClassifier"} <= named
    assert {arguments[0] for arguments, *_ in COMMANDS.values() if arguments} >= {"demo", "fit", "predict", "evaluate"}
