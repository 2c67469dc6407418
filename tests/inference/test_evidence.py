"""Prior and noise by the evidence, where nobody chose them."""

import dataclasses

import numpy as np
import pytest

import bbb
from bbb.inference import evidence, laplace, method_of
from tests.curvature.models import KEY, mlp


def rows(count=60):
    """Return rows of two columns, of which y depends on the first."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 2)).astype("float32")
    return x, (np.sin(2 * x[:, :1]) + 0.2 * rng.normal(size=(count, 1))).astype("float32")


def start(**parts):
    model, *_ = mlp(dtype="float32", hidden=10, likelihood=bbb.likelihoods.Gaussian(1.0, learn=True), **parts)
    return model


def test_it_learns_the_function_the_noise_and_which_column_counts():
    x, y = rows()
    learned = laplace.learned(KEY, [start()], x, y, steps=4_000)
    assert learned.structure == "full"
    assert learned.model.linearized
    assert 0.14 < float(learned.model.likelihood.std) < 0.26  # it is 0.2
    std = np.ravel(learned.model.prior.std[0]["weight"])
    assert std[1] < 0.1 * std[0]
    assert learned.loss.shape == (4_000 / evidence.STEPS,)
    best = -bbb.log_evidence(dataclasses.replace(learned.model, linearized=False), x, y)
    np.testing.assert_allclose(learned.loss.min(), best, rtol=1e-4)
    f = bbb.predict(KEY, learned.model, x).f
    np.testing.assert_allclose(f.mean, np.sin(2 * x[:, :1]), atol=0.4)


def test_what_later_data_start_from_has_the_same_precision_of_each_weight():
    x, y = rows()
    learned = laplace.learned(KEY, [start()], x, y, steps=100)
    again = bbb.laplace(KEY, dataclasses.replace(learned.model, linearized=False), x, y, structure="diag")
    np.testing.assert_allclose(
        learned.independent.posterior.std[0]["weight"], again.posterior.std[0]["weight"], rtol=1e-5
    )


def test_few_steps_are_one_round():
    learned = laplace.learned(KEY, [start()], *rows(), steps=7)
    assert learned.loss.shape == (1,)


def test_a_trained_model_gains_by_it_if_its_prior_is_free():
    x, y = rows()
    model, _ = bbb.fit(KEY, start(), x, y, steps=200, progress=False)
    free, held = (laplace.finished(KEY, model, x, y, is_free).model for is_free in (True, False))
    of = {
        name: bbb.log_evidence(dataclasses.replace(m, linearized=False), x, y)
        for name, m in {"free": free, "held": held}.items()
    }
    assert of["free"] > of["held"] + 10
    assert held.prior.std == model.prior.std


def test_a_prior_that_follows_from_the_posterior_is_where_it_starts():
    learned = laplace.learned(KEY, [start(prior=bbb.priors.EmpiricalNormal())], *rows(), steps=100)
    assert isinstance(learned.model.prior, bbb.priors.Normal)


@pytest.mark.parametrize("method", ["laplace", "hmc"])
def test_where_it_would_take_too_long_training_comes_first(method, monkeypatch):
    if method == "hmc":
        pytest.importorskip("blackjax")
    monkeypatch.setattr(evidence, "MAX_MULTIPLICATIONS", 1)
    assert method_of(method).learned(KEY, [start()], *rows(), 100) is None


def test_independent_gaussians_are_learned_by_training_alone():
    assert method_of("mean_field").learned(KEY, [start()], *rows(), 100) is None


@pytest.mark.parametrize("structure", ["last_layer", "low_rank"])
def test_other_structures_have_no_such_evidence(structure):
    assert evidence.by_evidence(KEY, start(), *rows(), structure, 100) is None


def test_the_multiplications_are_those_of_the_smaller_side():
    x, _ = rows(7)
    weights = 2 * 10 + 10 + 10 + 1
    assert evidence.multiplications(start(), x) == 7 * weights * 7
    x, _ = rows(60)
    assert evidence.multiplications(start(), x) == 60 * weights * weights


def test_the_start_of_the_largest_evidence_is_kept():
    x, y = rows()
    starts = [start(), dataclasses.replace(start(), likelihood=bbb.likelihoods.Gaussian(30.0, learn=True))]
    each = [laplace.learned(KEY, [one], x, y, steps=100) for one in starts]
    both = laplace.learned(KEY, starts, x, y, steps=100)
    best = min(each, key=lambda one: one.loss.min())
    assert each[0].loss.min() != each[1].loss.min()
    np.testing.assert_array_equal(both.loss, best.loss)
