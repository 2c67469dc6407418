"""Bad input to the checks of models: refused by name, before any draw."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.decide import model_checks as checked
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from bbb.likelihoods.per_member import PerMember
from bbb.posteriors import Ensemble, Point
from tests.bad_input import (
    KEY,
    MODEL,
    X,
    Y,
    assert_refused,
    bayesian,
    classifier,
    ensemble,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
)

UNKNOWN = {"a word": "all", "nothing": None, "a number": 3}


def infer(key, model, x, y):
    raise AssertionError("no inference before the checks")


def check(key=KEY, model=MODEL, x=X, y=Y, **options):
    return checked.posterior_predictive_check(key, model, x, y, **{"held_out": True, "draws": 100, **options})


def psis(key=KEY, model=MODEL, x=X, y=Y, **options):
    return checked.psis(key, model, x, y, **{"draws": 100, **options})


def loo(key=KEY, model=MODEL, x=X, y=Y, **options):
    return checked.loo(key, model, x, y, **{"draws": 100, **options})


def sbc(key=KEY, model=MODEL, x=X, inferred=infer, **options):
    return checked.simulation_based_calibration(key, model, x, inferred, **{"simulations": 20, "draws": 10, **options})


def audit(key=KEY, model=MODEL, x=X, y=Y, **options):
    return checked.audit(key, model, x, y, **options)


def prior_predict(key=KEY, model=MODEL, x=X, **options):
    return checked.prior_predict(key, model, x, **{"draws": 10, **options})


VERBS = {
    "prior_predict": prior_predict,
    "decide.posterior_predictive_check": check,
    "decide.psis": psis,
    "decide.loo": loo,
    "decide.simulation_based_calibration": sbc,
    "audit": audit,
}

WITH_Y = {name: VERBS[name] for name in VERBS if not name.endswith(("prior_predict", "calibration"))}


def each(argument, verbs=None):
    """Return a call of each verb with one argument of it."""
    found = {}
    for name, verb in (verbs or VERBS).items():
        found[f"{name}: {argument}"] = lambda value, verb=verb: verb(**{argument: value})
    return found


ROWED = {**each("x"), **each("y", WITH_Y)}
"""Calls of an array with a row for each observation."""

COUNTS = {**each("draws"), "decide.simulation_based_calibration: simulations": lambda n: sbc(simulations=n)}
COUNTS |= {f"audit: {name}": lambda n, name=name: audit(**{name: n}) for name in ("warmup", "steps", "thin")}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cauchy:
    """A prior with a density, but no draws."""

    scale: float = 1.0

    def log_density(self, params):
        return jax.tree.map(lambda w: -jnp.log(jnp.pi * self.scale * (1 + (w / self.scale) ** 2)), params)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Closed:
    """A prior of a KL alone."""

    scale: float = 1.0

    def kl(self, posterior):
        return self.scale * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(posterior.mean))


def two_outputs():
    def apply(params, x):
        return {"a": x @ params, "b": x @ params}

    parts = {"a": bbb.likelihoods.Gaussian(1.0), "b": bbb.likelihoods.Gaussian(2.0)}
    return bbb.bayesianize(apply, jnp.ones((1, 1)), prior=bbb.priors.Normal(), likelihood=parts)


def held(points=5):
    posterior = jax.tree.map(lambda leaf: jnp.stack([leaf] * points), MODEL.posterior.mean)
    fixed = jax.tree.map(lambda leaf: None, posterior)
    return dataclasses.replace(MODEL, posterior=Ensemble(Point(posterior, fixed)))


def own_noises():
    gaussian = bbb.likelihoods.Gaussian(np.array([0.5]))
    noises = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), gaussian)
    return dataclasses.replace(ensemble(), likelihood=PerMember(noises))


CASES = {
    **wrong_keys(each("key")),
    **wrong_rows(ROWED),
    **wrong_counts(COUNTS),
    **wrong_models({**each("model"), "decide.at_prior: model": checked.at_prior}),
    "prior_predict: a level of 2": (
        lambda: prior_predict(levels=(2,)),
        InputError,
        r"level to be one number in",
    ),
    "prior_predict: too little memory": (lambda: prior_predict(memory=100), InputError, "memory of at least"),
    "prior_predict: rows of a word": (lambda: prior_predict(rows="all"), InputError, '"apart" or "together"'),
    "decide.at_prior: a prior without draws": (
        lambda: checked.at_prior(bayesian(prior=Cauchy())),
        InputError,
        "a prior with `sample_params`, which at_prior needs, got a Cauchy without",
    ),
    "decide.at_prior: a prior without a density": (
        lambda: checked.at_prior(bayesian(prior=Closed())),
        InputError,
        "a prior with `log_prob` or `log_density`, for at_prior, got a Closed",
    ),
    "decide.at_prior: scales of draws": (
        lambda: checked.at_prior(dataclasses.replace(held(), prior=bbb.priors.EmpiricalNormal())),
        InputError,
        "a prior with a density of its own, for at_prior",
    ),
    **{
        f"{name}: several outputs": (
            lambda verb=verb: verb(model=two_outputs()),
            InputError,
            r"a model of one output, for \w+, got one of 2. Pass model.head\('a'\)",
        )
        for name, verb in VERBS.items()
        if name != "prior_predict"
    },
    **{
        f"{name}: y of other rows": (lambda verb=verb: verb(y=Y[:5]), ShapeError, "the 6 rows of x")
        for name, verb in WITH_Y.items()
    },
    **{
        f"{name}: rows of a word": (lambda verb=verb: verb(rows="all"), InputError, 'rows to be "apart" or "together"')
        for name, verb in VERBS.items()
    },
    **{
        f"{name}: too little memory": (lambda verb=verb: verb(memory=1), InputError, "memory of (at least|more than)")
        for name, verb in VERBS.items()
    },
    **{
        f"{name}: memory in words": (lambda verb=verb: verb(memory="much"), InputError, "memory to be a positive")
        for name, verb in VERBS.items()
    },
    **{
        f"decide.posterior_predictive_check: held_out is {what}": (
            lambda value=value: check(held_out=value),
            InputError,
            "held_out to be a bool",
        )
        for what, value in UNKNOWN.items()
    },
    "decide.posterior_predictive_check: few draws": (lambda: check(draws=38), InputError, "draws of at least 39"),
    "decide.posterior_predictive_check: no such statistic": (
        lambda: check(statistics="median"),
        InputError,
        "a statistic to be one of mean, std, min",
    ),
    "decide.posterior_predictive_check: no statistic": (
        lambda: check(statistics=[]),
        InputError,
        "at least one statistic",
    ),
    "decide.posterior_predictive_check: a number for a statistic": (
        lambda: check(statistics=3),
        InputError,
        "a statistic to be a function, got a int",
    ),
    "decide.posterior_predictive_check: a number for a name": (
        lambda: check(statistics={3: jnp.max}),
        InputError,
        "names of statistics to be words, got 3",
    ),
    "decide.posterior_predictive_check: shares of numbers": (
        lambda: check(statistics="shares"),
        InputError,
        "a likelihood for the statistic 'shares', got a Gaussian",
    ),
    "decide.posterior_predictive_check: a mean of each row": (
        lambda: check(statistics={"rows": lambda y, f: y}),
        ShapeError,
        r"the statistic 'rows' to be one number, got shape \(6, 1\)",
    ),
    "decide.posterior_predictive_check: a function of y alone": (
        lambda: check(statistics={"alone": lambda y: y.max()}),
        InputError,
        "a statistic that JAX can trace, got 'alone', which fails",
    ),
    "decide.posterior_predictive_check: a method that y has not": (
        lambda: check(statistics={"none": lambda y, f: y.median()}),
        InputError,
        "a statistic that JAX can trace, got 'none', which fails",
    ),
    "decide.posterior_predictive_check: a function by NumPy": (
        lambda: check(statistics={"numpy": lambda y, f: np.asarray(y).max()}),
        InputError,
        "a statistic that JAX can trace, got 'numpy', which fails",
    ),
    "decide.posterior_predictive_check: classes that are none": (
        lambda: check(model=classifier(), y=np.full(6, 2)),
        InputError,
        "classes from 0 to 1 in y",
    ),
    "decide.psis: few draws": (lambda: psis(draws=99), InputError, "draws of at least 100, to fit the tail"),
    "decide.loo: few draws": (lambda: loo(draws=99), InputError, "draws of at least 100, to fit the tail"),
    "decide.loo: few draws that are held": (
        lambda: loo(model=held()),
        InputError,
        "a posterior of at least 100 draws, got one that holds 5",
    ),
    "decide.psis: draws that are held": (
        lambda: psis(model=held()),
        InputError,
        "a posterior with a density, for psis, got draws",
    ),
    "decide.psis: noises of members": (
        lambda: psis(model=own_noises()),
        InputError,
        "one posterior, for psis, got 2 members, each with a noise of its own",
    ),
    "decide.loo: linearised members": (
        lambda: loo(model=dataclasses.replace(ensemble(), linearized=True)),
        InputError,
        "one posterior, for loo, got 2 members, each with a linearisation of its own",
    ),
    "decide.psis: a prior without a density": (
        lambda: psis(model=bayesian(prior=Closed())),
        InputError,
        "a prior with `log_prob` or `log_density`, for psis",
    ),
    "decide.simulation_based_calibration: few simulations": (
        lambda: sbc(simulations=19),
        InputError,
        "simulations of at least 20",
    ),
    "decide.simulation_based_calibration: few draws": (lambda: sbc(draws=9), InputError, "draws of at least 10"),
    "decide.simulation_based_calibration: no function": (
        lambda: sbc(inferred="fit"),
        InputError,
        "infer to be a function, got a str",
    ),
    "decide.simulation_based_calibration: an infer that returns a pair": (
        lambda: sbc(inferred=lambda key, model, x, y: (model, None)),
        InputError,
        "what infer returns to be a BNN, got tuple",
    ),
    "decide.simulation_based_calibration: an infer of other outputs": (
        lambda: sbc(inferred=lambda key, model, x, y: classifier()),
        ShapeError,
        r"infer to return a model of outputs \(6, 1\), got one of \(6, 2\)",
    ),
    "decide.simulation_based_calibration: several members": (
        lambda: sbc(model=ensemble()),
        InputError,
        "a model of one posterior, got one of 2 members",
    ),
    "decide.simulation_based_calibration: no such quantity": (
        lambda: sbc(quantities="weights"),
        InputError,
        "a statistic to be one of",
    ),
    "audit: no such sampler": (lambda: audit(sampler="gibbs"), InputError, "sampler to be one of hmc, nuts"),
    "audit: an option of another sampler": (
        lambda: audit(doublings=3),
        InputError,
        "an option of sampler='hmc' to be one of steps, thin, accept, sample_weight, got 'doublings'",
    ),
    "audit: no chains": (lambda: audit(chains=0), InputError, "chains to be a whole number"),
    "audit: at of NaN": (lambda: audit(at=np.full((3, 1), np.nan)), NonFiniteInputError, "at to hold finite"),
    "audit: at without rows": (lambda: audit(at=np.zeros((0, 1))), ShapeError, "at to have a leading row axis"),
    "audit: at of other columns": (
        lambda: audit(at=np.zeros((3, 2))),
        InputError,
        "an x that the network accepts",
    ),
    "audit: draws that are held": (lambda: audit(model=held()), InputError, "a model that was trained"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
