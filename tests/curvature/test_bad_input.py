"""Bad input to `laplace` and `log_evidence`: refused by name, before the pass over the data where it can be known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, NonFiniteOutputError, ShapeError
from tests.bad_input import (
    KEY,
    MODEL,
    POINT,
    X,
    Y,
    assert_refused,
    bayesian,
    ensemble,
    of,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
    wrong_weights,
)


def laplace(x=X, y=Y, key=KEY, model=MODEL, **options):
    return bbb.laplace(key, model, x, y, **options)


def evidence(x=X, y=Y, model=MODEL, **options):
    return bbb.log_evidence(model, x, y, **options)


BOTH = {"laplace": laplace, "log_evidence": evidence}


def each(what, error, text, **options):
    """Return a case of both verbs."""
    return {f"{verb}: {what}": (lambda call=call: call(**options), error, text) for verb, call in BOTH.items()}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plain:
    """A likelihood with nothing but what training needs."""

    scale: float = 1.0

    @property
    def learn(self):
        return False

    def as_target(self, y, outputs):
        return y.astype(outputs.dtype)

    def log_prob(self, y, outputs):
        return -jnp.sum(jnp.square(y - outputs), axis=1)


class Wrong(Plain):
    """One whose information has no axes for the outputs."""

    def fisher_root(self, outputs):
        return jnp.ones_like(outputs)


jax.tree_util.register_dataclass(Wrong, ["scale"], [])


def root(params, x):
    """A network whose gradient is infinite where x is 0."""
    return jnp.sqrt(jnp.abs(x * params["w"]))


ROOT = of(root)
NOT_LINEAR = of(lambda params, x: jnp.tanh(x @ params["w"]))

CASES = {
    **wrong_weights(
        {
            "laplace: sample_weight": lambda w: laplace(sample_weight=w),
            "log_evidence: sample_weight": lambda w: evidence(sample_weight=w),
        }
    ),
    **wrong_keys({"laplace: key": lambda key: laplace(key=key)}),
    **wrong_rows(
        {
            "laplace: x": laplace,
            "laplace: y": lambda y: laplace(y=y),
            "log_evidence: x": evidence,
            "curvature.explain: x": lambda x: bbb.curvature.explain(MODEL, x),
            "log_evidence: y": lambda y: evidence(y=y),
        }
    ),
    **wrong_models(
        {
            "laplace: model": lambda model: laplace(model=model),
            "log_evidence: model": lambda m: evidence(model=m),
            "curvature.explain: model": lambda model: bbb.curvature.explain(model, X),
        }
    ),
    **wrong_counts(
        {
            "laplace: rank": lambda rank: laplace(rank=rank),
            "laplace: batch_size": lambda size: laplace(batch_size=size),
            "log_evidence: batch_size": lambda size: evidence(batch_size=size),
        }
    ),
    **each("fewer rows of y", ShapeError, "rows", y=Y[:3]),
    **each("y of another shape", ShapeError, "y of shape|shape", y=np.ones((6, 2))),
    **each("memory in words", InputError, "memory to be a positive number of bytes", memory="much"),
    **each(
        "too little memory",
        InputError,
        r"memory of at least [\d,]+ bytes for the structure 'full' of 10 weights and 6 outputs of rows, got 10\. Pass",
        memory=10,
    ),
    **each(
        "structure of an unknown word", InputError, 'to be one of "full", .*"diag", got \'dense\'', structure="dense"
    ),
    **each(
        "too little memory for factors",
        InputError,
        r"memory of at least [\d,]+ bytes for the structure 'kron' of 10 weights and 6 outputs of rows, got 10\. Pass",
        structure="kron",
        memory=10,
    ),
    **each(
        "factors that are not finite",
        NonFiniteOutputError,
        "a finite Gauss-Newton, got NaN or infinity at row 2",
        model=ROOT,
        x=np.array([[1.0], [2.0], [0.0], [3.0], [0.0], [1.0]]),
        structure="kron",
    ),
    **each("structure that is no word", InputError, "got 3. Pass one of them", structure=3),
    "log_evidence: structure low_rank": (
        lambda: evidence(structure="low_rank"),
        InputError,
        "structure of log_evidence to be one of .* got 'low_rank'",
    ),
    "log_evidence: an ensemble": (lambda: evidence(model=ensemble()), InputError, "a model of one posterior"),
    **each(
        "a prior without curvature",
        InputError,
        "a prior with `curvature`, which (laplace|log_evidence) needs, got a ScaleMixture without",
        model=bayesian(prior=bbb.priors.ScaleMixture()),
    ),
    **each(
        "a Laplace prior, whose curvature is 0",
        InputError,
        "a prior with `curvature`, which .* got a Laplace without",
        model=bayesian(prior=bbb.priors.Laplace()),
    ),
    **each(
        "a likelihood without information",
        InputError,
        "a likelihood with `fisher_root`, which (laplace|log_evidence) needs, got a Plain without",
        model=bayesian(likelihood=Plain()),
    ),
    **each(
        "a likelihood of another information",
        ShapeError,
        r"fisher_root of shape \(6, 1, 1\), got \(6, 1\)",
        model=bayesian(likelihood=Wrong()),
    ),
    **each(
        "rows that are mixed",
        InputError,
        "a network that processes each row of x by itself, for (laplace|log_evidence), which sums over rows",
        model=of(lambda params, x: (x - x.mean(axis=0, keepdims=True)) @ params["w"]),
    ),
    **each(
        "a gradient that is not finite",
        NonFiniteOutputError,
        "a finite Gauss-Newton, got NaN or infinity at row 2",
        model=ROOT,
        x=np.array([[1.0], [2.0], [0.0], [3.0], [0.0], [1.0]]),
    ),
    "laplace: a product that is not finite": (
        lambda: laplace(np.array([[1.0], [2.0], [0.0], [3.0], [0.0], [1.0]]), model=ROOT, structure="low_rank"),
        NonFiniteOutputError,
        "a finite Gauss-Newton, got NaN or infinity at row 2",
    ),
    "laplace: a sum that overflows": (
        lambda: laplace(model=of(lambda params, x: 1e25 * x @ params["w"]), structure="diag"),
        NonFiniteOutputError,
        "a finite Gauss-Newton, got an overflow in the sum over all rows",
    ),
    **each(
        "a last layer that is not linear",
        InputError,
        "a network whose last layer is linear in its weights, got one whose .* Pass structure=",
        model=NOT_LINEAR,
        structure="last_layer",
    ),
    **each(
        "nothing random",
        InputError,
        "a posterior with at least one Gaussian, for a model",
        model=dataclasses.replace(MODEL, posterior=bbb.MeanField(POINT, jax.tree.map(lambda _: None, POINT))),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
