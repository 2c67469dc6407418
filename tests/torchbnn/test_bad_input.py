"""Bad input to `torchbnn`: refused by name, and nothing is written."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import priors, torchbnn
from bbb.errors import InputError, ModelFileError, ShapeError
from bbb.networks import nn
from tests.bad_input import (
    MODEL,
    NAN,
    NO_PATHS,
    POSTERIOR,
    assert_refused,
    classifier,
    crossed,
    ensemble,
    linearized,
    not_above_0,
    of,
    wrong_counts,
    wrong_likelihoods,
    wrong_models,
    wrong_posteriors,
    wrong_priors,
)


def silently(call, *args):
    """Call what warns besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args)


def state(**changes):
    """Return the state dict of torchbnn's BayesLinear(1, 1), changed."""
    made = {f"{part}_{which}": np.ones(shape, "f4") for part, shape in PARTS for which in ("mu", "log_sigma")}
    return {name: array for name, array in (made | changes).items() if array is not None}


PARTS = (("weight", (1, 1)), ("bias", (1,)))


def from_state(changes, network=None):
    given = {"prior": MODEL.prior, "likelihood": MODEL.likelihood}
    return torchbnn.from_state_dict(network or nn.linear(1, 1), state(**changes), **given)


ABOVE_0 = {
    "torchbnn.explain_kl_weight: kl_weight": lambda weight: torchbnn.explain_kl_weight(weight, 5, 1, 5),
    "torchbnn.implied_noise_std: kl_weight": lambda weight: torchbnn.implied_noise_std(weight, 5, 1, 5),
}

COUNTS = {
    "torchbnn.explain_kl_weight: num_data": lambda n: torchbnn.explain_kl_weight(0.1, n, 1, 5),
    "torchbnn.explain_kl_weight: outputs": lambda n: torchbnn.explain_kl_weight(0.1, 5, n, 5),
    "torchbnn.implied_noise_std: weights": lambda n: torchbnn.implied_noise_std(0.1, 5, 1, n),
}

MODELS = {"torchbnn.to_state_dict: model": torchbnn.to_state_dict}
POSTERIORS = {"torchbnn.last_bias_kl: posterior": lambda q: silently(torchbnn.last_bias_kl, q, priors.Normal())}

LIKELIHOODS = {
    "torchbnn.from_state_dict": lambda one: torchbnn.from_state_dict(
        nn.linear(1, 1), state(), prior=MODEL.prior, likelihood=one
    )
}

PRIORS = {
    "torchbnn.last_bias_kl": lambda one: silently(torchbnn.last_bias_kl, POSTERIOR, one),
    "torchbnn.from_state_dict": lambda one: torchbnn.from_state_dict(
        nn.linear(1, 1), state(), prior=one, likelihood=MODEL.likelihood
    ),
}

STATE_PATHS = {
    "torchbnn.from_state_dict: path": lambda path: torchbnn.from_state_dict(
        nn.linear(1, 1), path, prior=MODEL.prior, likelihood=MODEL.likelihood
    ),
    "torchbnn.frozen_noise: path": lambda path: torchbnn.frozen_noise(nn.linear(1, 1), path),
}

CASES = {
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **wrong_models(MODELS),
    **wrong_posteriors(POSTERIORS),
    **wrong_likelihoods(LIKELIHOODS),
    **wrong_priors(PRIORS),
    **crossed(STATE_PATHS, NO_PATHS, ModelFileError, "state dict", " is"),
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
    "torchbnn.to_state_dict: a linearised model": (
        lambda: torchbnn.to_state_dict(linearized()),
        InputError,
        r"a model of the network itself, as torchbnn's are, got a linearised one\. Pass dataclasses\.replace",
    ),
    "torchbnn.to_state_dict: an ensemble": (
        lambda: torchbnn.to_state_dict(ensemble()),
        InputError,
        "one posterior, to ask for its means, got an ensemble of 2",
    ),
    "torchbnn.TorchbnnCost: another loss": (lambda: torchbnn.TorchbnnCost("mae"), InputError, 'loss to be "mse"'),
    "torchbnn.TorchbnnCost: another reduction": (
        lambda: torchbnn.TorchbnnCost("mse", "none"),
        InputError,
        'reduction to be "mean" or "sum"',
    ),
    "torchbnn.last_bias_kl: another prior": (
        lambda: silently(torchbnn.last_bias_kl, POSTERIOR, priors.Laplace()),
        InputError,
        "a prior.Normal",
    ),
    "torchbnn.last_bias_kl: no layers": (
        lambda: silently(torchbnn.last_bias_kl, bbb.MeanField(jnp.ones(2), jnp.ones(2)), priors.Normal()),
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
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
