"""Bad input to `hmc` and `nuts`: refused by name, before anything is sampled."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, ShapeError
from tests.bad_input import (
    KEY,
    MODEL,
    NAN,
    NOT_INSIDE_0_1,
    POINT,
    X,
    Y,
    assert_refused,
    bayesian,
    crossed,
    ensemble,
    of,
    put,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
    wrong_weights,
)


def hmc(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.mcmc.hmc(key, model, x, y, **options)


def nuts(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.mcmc.nuts(key, model, x, y, **options)


BOTH = {"mcmc.hmc": hmc, "mcmc.nuts": nuts}


def each(what, error, text, **options):
    """Return a case of both verbs."""
    return {f"{verb}: {what}": (lambda call=call: call(**options), error, text) for verb, call in BOTH.items()}


def draws():
    """Return a model that holds two draws."""
    leaves = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), POINT)
    point = bbb.posteriors.Point(leaves, jax.tree.map(lambda _: None, POINT))
    return dataclasses.replace(MODEL, posterior=bbb.posteriors.Ensemble(point))


def nan_at_the_second():
    """Return two members, one of which has weights that overflow."""
    model = ensemble()
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(1e30), model.posterior.members.mean)
    members = dataclasses.replace(model.posterior.members, mean=broken)
    return dataclasses.replace(model, posterior=bbb.posteriors.Ensemble(members))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Closed:
    """A prior with a KL and without a density."""

    def kl(self, posterior):
        return bbb.priors.Normal().kl(posterior)


NOTHING = jax.tree.map(lambda _: None, POINT)
ROWED = {"mcmc.hmc: x": hmc, "mcmc.hmc: y": lambda y: hmc(y=y), "mcmc.hmc: watch": lambda watch: hmc(watch=watch)}

CASES = {
    **wrong_weights(
        {
            "mcmc.hmc: sample_weight": lambda w: hmc(sample_weight=w),
            "mcmc.nuts: sample_weight": lambda w: nuts(sample_weight=w),
        }
    ),
    **wrong_keys({"mcmc.hmc: key": lambda key: hmc(key=key), "mcmc.nuts: key": lambda key: nuts(key=key)}),
    **wrong_rows({name: call for name, call in ROWED.items() if "watch" not in name}),
    **wrong_models({"mcmc.hmc: model": lambda model: hmc(model=model), "mcmc.nuts: model": lambda m: nuts(model=m)}),
    **wrong_counts(
        {
            "mcmc.hmc: draws": lambda value: hmc(draws=value),
            "mcmc.hmc: warmup": lambda value: hmc(warmup=value),
            "mcmc.hmc: chains": lambda value: hmc(chains=value),
            "mcmc.hmc: steps": lambda value: hmc(steps=value),
            "mcmc.hmc: thin": lambda value: hmc(thin=value),
            "mcmc.nuts: doublings": lambda value: nuts(doublings=value),
        }
    ),
    **crossed(
        {"mcmc.hmc: accept": lambda value: hmc(accept=value)},
        NOT_INSIDE_0_1,
        InputError,
        r"inside \(0, 1\)|real numbers",
        " is",
    ),
    **each("three draws", InputError, r"draws of at least 4, got 3\. .* the halves of a chain are compared", draws=3),
    **each("memory in words", InputError, "memory to be a positive number of bytes", memory="much"),
    **each(
        "too little memory",
        InputError,
        r"memory of at least [\d,]+ bytes for 800 draws of 10 weights and gradients of 4 chains, got 1,000\. Pass more",
        memory=1_000,
    ),
    **each("fewer rows of y", ShapeError, "rows", y=Y[:3]),
    **each("y of another shape", ShapeError, "shape", y=np.ones((6, 2))),
    **each(
        "a prior whose scales follow from the posterior",
        InputError,
        r"a prior with a density of its own, for (hmc|nuts), got a EmpiricalNormal, whose scales follow",
        model=bayesian(prior=bbb.priors.EmpiricalNormal()),
    ),
    **each(
        "a prior without a density",
        InputError,
        "a prior with `log_prob` or `log_density`, for (hmc|nuts), got a Closed without",
        model=bayesian(prior=Closed()),
    ),
    **each("draws", InputError, "a model that was trained, for (hmc|nuts), got 2 draws", model=draws()),
    **each(
        "nothing random",
        InputError,
        "a posterior with at least one Gaussian, for a model",
        model=dataclasses.replace(MODEL, posterior=bbb.MeanField(POINT, NOTHING)),
    ),
    **each(
        "a member at NaN",
        InputError,
        "a finite log density and gradient where chains start, got NaN or infinity at the start of chain 1, "
        "the weights of member 1",
        model=nan_at_the_second(),
    ),
    **each(
        "a gradient that is not finite",
        InputError,
        "got NaN or infinity at the start of chain 0, the weights. Train",
        model=of(lambda params, x: jnp.sqrt(jnp.abs(x * params["w"]))),
        x=put(X, (0, 0), 0.0),
    ),
    "mcmc.hmc: watch of NaN": (lambda: hmc(watch=put(X, (0, 0), NAN)), bbb.errors.NonFiniteInputError, "watch to hold"),
    "mcmc.hmc: watch of more columns": (lambda: hmc(watch=np.ones((3, 2))), InputError, "Expected"),
    "mcmc.nuts: too many doublings": (lambda: nuts(doublings=16), InputError, "doublings to be at most 15"),
    "posteriors.Point: a leaf twice": (
        lambda: bbb.posteriors.Point(POINT, POINT),
        ShapeError,
        "every leaf in drawn or in fixed, and in one of them alone",
    ),
    "posteriors.Point: of whole numbers": (
        lambda: bbb.posteriors.Point({"w": jnp.arange(3)}, {"w": None}),
        InputError,
        "drawn leaf 'w' to be a floating-point array",
    ),
    "predict: method of draws": (
        lambda: bbb.predict(KEY, draws(), X, method="moments"),
        InputError,
        "the draws of a posterior that holds them, 2 points, got method='moments'",
    ),
    "predict: more draws than there are": (
        lambda: bbb.predict(KEY, draws(), X, draws="auto", tolerance=0.1),
        InputError,
        'got draws="auto". Leave it out',
    ),
    "draws: antithetic, of draws": (
        lambda: bbb.draws(KEY, draws(), X, draws=2, sampling="antithetic"),
        InputError,
        "2 points, got sampling='antithetic'",
    ),
    "evaluate.spread: of draws": (
        lambda: bbb.evaluate.spread(KEY, draws(), X),
        InputError,
        "a model of several members, got 2 draws, which are points",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)


def test_without_blackjax_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(InputError, match=r"the package blackjax, got .* Run pip install blackjax; .*'\.\[mcmc\]'"):
        hmc()
