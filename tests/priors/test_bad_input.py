"""Bad input to priors and `kl`: refused by name, and nothing is written."""

import pytest

import bbb
from bbb import priors
from bbb.errors import InputError, ShapeError
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

KEYED = {"priors.kl: key": lambda key: bbb.priors.kl(POSTERIOR, priors.ScaleMixture(), key=key)}

ABOVE_0 = {
    "priors.Normal: std": lambda std: priors.Normal(0.0, std),
    "prior.Normal.around: std": lambda std: priors.Normal.around(POINT, std),
    "priors.Laplace: scale": lambda scale: priors.Laplace(0.0, scale),
    "priors.ScaleMixture: weight": priors.ScaleMixture,
    "priors.ScaleMixture: std1": lambda std: priors.ScaleMixture(0.5, std),
    "priors.ScaleMixture: std2": lambda std: priors.ScaleMixture(0.5, 1.0, std),
    "priors.fan_in: gain": lambda gain: priors.fan_in(POINT, gain),
}

COUNTS = {"priors.kl: draws": lambda n: bbb.priors.kl(POSTERIOR, priors.ScaleMixture(), key=KEY, draws=n)}
POSTERIORS = {"priors.kl: posterior": lambda q: bbb.priors.kl(q, priors.Normal())}
PRIORS = {"priors.kl": lambda one: bbb.priors.kl(POSTERIOR, one)}

CASES = {
    **wrong_keys(KEYED),
    **not_above_0(ABOVE_0),
    **wrong_counts(COUNTS),
    **wrong_posteriors(POSTERIORS),
    **wrong_priors(PRIORS),
    "priors.kl: no closed form": (
        lambda: bbb.priors.kl(POSTERIOR, priors.ScaleMixture()),
        InputError,
        "a key, to estimate a KL",
    ),
    "priors.kl: an ensemble": (
        lambda: bbb.priors.kl(ensemble().posterior, priors.Normal()),
        InputError,
        "one mean-field posterior",
    ),
    "priors.kl: a prior of another structure": (
        lambda: bbb.priors.kl(POSTERIOR, priors.Normal((0.0, 0.0))),
        ShapeError,
        "prior mean to be a number or a tree",
    ),
    "priors.Normal: a mean of NaN": (lambda: priors.Normal(NAN), InputError, "prior mean to be finite"),
    "priors.Normal: a mean in words": (lambda: priors.Normal("zero"), InputError, "prior mean to be real numbers"),
    "prior.Normal.around: words": (lambda: priors.Normal.around({"w": "a"}), InputError, "real numbers"),
    "priors.Laplace: a mean of infinity": (lambda: priors.Laplace(INF), InputError, "prior mean to be finite"),
    "priors.EmpiricalNormal: a mean of NaN": (lambda: priors.EmpiricalNormal(NAN), InputError, "prior mean to be fin"),
    "priors.EmpiricalNormal: per weight": (lambda: priors.EmpiricalNormal(per="weight"), InputError, '"leaf", "layer"'),
    "priors.ScaleMixture: a weight of 1": (lambda: priors.ScaleMixture(1.0), InputError, r"inside \(0, 1\)"),
    "priors.fan_in: an axis that is not there": (
        lambda: priors.fan_in(POINT, output_axis=5),
        InputError,
        "output_axis",
    ),
    "priors.fan_in: two gains": (lambda: priors.fan_in(POINT, [1.0, 2.0]), InputError, "one number"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
