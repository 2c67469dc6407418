"""Bad input to priors and `kl`: refused by name, and nothing is written."""

import pytest

import bbb
from bbb import InputError, ShapeError, prior
from tests.bad_input import (
    INF,
    KEY,
    NAN,
    POINT,
    POSTERIOR,
    assert_refused,
    ensemble,
    not_above_0,
    wrong_counts,
    wrong_keys,
    wrong_posteriors,
    wrong_priors,
)

KEYED = {"kl: key": lambda key: bbb.kl(POSTERIOR, prior.ScaleMixture(), key=key)}

ABOVE_0 = {
    "prior.Normal: std": lambda std: prior.Normal(0.0, std),
    "prior.Normal.around: std": lambda std: prior.Normal.around(POINT, std),
    "prior.Laplace: scale": lambda scale: prior.Laplace(0.0, scale),
    "prior.ScaleMixture: weight": prior.ScaleMixture,
    "prior.ScaleMixture: std1": lambda std: prior.ScaleMixture(0.5, std),
    "prior.ScaleMixture: std2": lambda std: prior.ScaleMixture(0.5, 1.0, std),
    "prior.fan_in: gain": lambda gain: prior.fan_in(POINT, gain),
}

COUNTS = {"kl: draws": lambda n: bbb.kl(POSTERIOR, prior.ScaleMixture(), key=KEY, draws=n)}
POSTERIORS = {"kl: posterior": lambda q: bbb.kl(q, prior.Normal())}
PRIORS = {"kl": lambda one: bbb.kl(POSTERIOR, one)}

CASES = {
    **wrong_keys(KEYED),
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **wrong_posteriors(POSTERIORS),
    **wrong_priors(PRIORS),
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
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
