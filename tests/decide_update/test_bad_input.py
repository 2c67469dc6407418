"""Bad input to `update` and `drift`, and to priors that they make: refused by name, and nothing is written."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb import likelihoods, priors
from bbb.decide import continual
from bbb.errors import InputError, ShapeError
from bbb.objectives import elbo_cost
from tests.bad_input import (
    KEY,
    MODEL,
    POINT,
    POSTERIOR,
    X,
    Y,
    assert_refused,
    ensemble,
    linearized,
    not_above_0,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
    wrong_weights,
)


def update(key=KEY, model=MODEL, x=X, y=Y, **options):
    return continual.update(key, model, x, y, **{"steps": 1, "draws": 4, "progress": False, **options})


def drift(key=KEY, model=MODEL, x=X, y=Y, **options):
    return continual.drift(key, model, x, y, **{"draws": 4, "replicates": 2, **options})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Silent:
    """A likelihood that cannot draw."""

    learn: bool = dataclasses.field(default=False, metadata={"static": True})
    std: float = 1.0

    def as_target(self, y, outputs):
        return y.astype(outputs.dtype)

    def log_prob(self, y, outputs):
        return -jnp.sum(jnp.abs(y - outputs), axis=-1)


def silent():
    return dataclasses.replace(MODEL, likelihood=Silent())


KEYED = {
    "update: key": update,
    "decide.drift: key": drift,
}
ROWED = {
    "update: x": lambda x: update(x=x),
    "update: y": lambda y: update(y=y),
    "decide.drift: x": lambda x: drift(x=x),
    "decide.drift: y": lambda y: drift(y=y),
}
COUNTS = {
    "update: steps": lambda n: update(steps=n),
    "update: epochs": lambda n: update(steps=None, epochs=n),
    "update: batch_size": lambda n: update(batch_size=n),
    "update: draws": lambda n: update(draws=n),
    "decide.drift: draws": lambda n: drift(draws=n),
    "decide.drift: replicates": lambda n: drift(replicates=n),
}
MODELS = {
    "update: model": lambda model: update(model=model),
    "decide.drift: model": lambda model: drift(model=model),
}
WEIGHTS = {
    "update: sample_weight": lambda w: update(sample_weight=w),
    "decide.drift: sample_weight": lambda w: drift(sample_weight=w),
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_rows(ROWED),
    **wrong_counts(COUNTS),
    **wrong_models(MODELS),
    **wrong_weights(WEIGHTS),
    **not_above_0({"update: discount": lambda value: update(discount=value)}),
    "update: a discount above 1": (lambda: update(discount=1.5), InputError, "a discount of at most 1, got 1.5"),
    "update: an ensemble": (
        lambda: update(model=ensemble()),
        InputError,
        "a model of one Gaussian posterior, for update, got 2 members",
    ),
    "update: draws of chains": (
        lambda: update(model=dataclasses.replace(MODEL, posterior=chains())),
        InputError,
        "got 2 draws, which are points",
    ),
    "update: other columns": (lambda: update(x=np.ones((6, 3))), ShapeError, "Expected"),
    "update: other rows": (lambda: update(y=Y[:4]), ShapeError, "rows"),
    "update: an objective of Laplace": (
        lambda: update(model=linearized(), objective=elbo_cost),
        InputError,
        "no objective for a Laplace posterior",
    ),
    "update: steps and epochs": (lambda: update(epochs=2), InputError, "steps or epochs, got both"),
    "update: no optimizer": (lambda: update(optimizer="adam"), InputError, "an optimizer"),
    "update: no bool": (lambda: update(learn_noise="yes"), InputError, "learn_noise to be a bool"),
    "update: too little memory": (lambda: update(memory=10), InputError, "memory of at least"),
    "update: too little memory for the curvature": (
        lambda: update(model=linearized(), memory=10),
        InputError,
        "memory of at least",
    ),
    "update: lbfgs by parts": (
        lambda: update(model=linearized(), optimizer=optax.lbfgs(), batch_size=2),
        InputError,
        "all rows at every step",
    ),
    "decide.drift: one replicate": (lambda: drift(replicates=1), InputError, "at least 2 replicates"),
    "decide.drift: no sample": (lambda: drift(model=silent()), InputError, "a likelihood with `sample`, which drift"),
    "decide.drift: several outputs": (lambda: drift(model=several()), InputError, "a network of one output, for drift"),
    "priors.MultivariateNormal: an ensemble": (
        lambda: priors.MultivariateNormal(ensemble().posterior),
        InputError,
        "a Gaussian posterior as a prior, got a Ensemble",
    ),
    "priors.as_prior: no posterior": (lambda: priors.as_prior(POINT), InputError, "a Gaussian posterior as a prior"),
    "laplace: a prior of another family": (
        lambda: bbb.laplace(KEY, dependent(), X, Y, structure="kron"),
        InputError,
        "a prior of a Kronecker for the structure 'kron', got one of a FullRank",
    ),
    "laplace: a prior of more weights": (
        lambda: bbb.laplace(KEY, dependent(), X, Y, structure="last_layer"),
        ShapeError,
        "got one of 10 weights for 4",
    ),
}


def chains():
    point = bbb.posteriors.Point(POINT, jax.tree.map(lambda _: None, POINT))
    return bbb.posteriors.Ensemble(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), point))


def several():
    def apply(params, x):
        return {"a": x * params["w"], "b": x * params["w"]}

    both = {"a": likelihoods.Gaussian(), "b": likelihoods.Gaussian()}
    return bbb.bayesianize(apply, {"w": jnp.ones((1, 1))}, prior=priors.Normal(), likelihood=both)


def dependent():
    return dataclasses.replace(MODEL, prior=priors.MultivariateNormal(bbb.posteriors.as_full_rank(POSTERIOR)))


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
