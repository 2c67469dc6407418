"""`update`: what becomes the prior, what is learned, and what stays as it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb import likelihoods
from bbb.decide.continual import update
from bbb.posteriors import FullRank
from bbb.priors import MultivariateNormal, Normal, kl
from tests.decide_update.models import KEY, KINDS, NETWORK, STILL, STRUCTURES, laplace, rows, size, trained
from tests.same import assert_same

QUICK = {"draws": 4, "progress": False, "steps": 3}
NEW = rows(1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_is_the_prior_and_the_start(kind):
    model = trained(kind)
    after, found = update(KEY, model, *NEW, **STILL)
    assert_same(after.posterior, model.posterior)
    assert isinstance(after.prior, Normal if kind == "MeanField" else MultivariateNormal)
    assert abs(float(kl(model.posterior, after.prior))) < 1e-4
    assert abs(float(found.history.kl[0])) < 1e-4
    assert after.apply == model.apply
    assert found.rows == len(NEW[0])
    assert found.structure is None


@pytest.mark.parametrize("kind", ["MeanField", "FullRank"])
def test_training_moves_it_and_lowers_the_bound(kind):
    model = trained(kind)
    after, found = update(KEY, model, *NEW, steps=300, draws=4, progress=False)
    assert found.history.negative_elbo[-20:].mean() < found.history.negative_elbo[:20].mean() - 5
    assert type(after.posterior) is type(model.posterior)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_laplace_posterior_stays_one_and_narrows(structure):
    model = laplace(structure)
    after, found = update(KEY, model, *NEW, **QUICK)
    assert after.linearized
    assert found.structure == ("full" if structure == "last_layer" else structure)
    assert type(after.posterior) in (type(model.posterior), FullRank)  # once there are more rows than weights
    at = jax.tree.leaves(model.posterior.params)
    assert any(not np.array_equal(a, b) for a, b in zip(at, jax.tree.leaves(after.posterior.params), strict=True))
    assert float(after.posterior.entropy()) < float(model.posterior.entropy())
    assert bbb.predict(KEY, after, NEW[0], draws=4).f.mean.shape == NEW[1].shape


def test_neither_posterior_nor_prior_grow_with_the_number_of_updates():
    model, sizes = laplace("full"), []
    for seed in range(4):
        model, _ = update(KEY, model, *rows(seed), **QUICK)
        sizes.append(size(model))
    assert len(set(sizes[1:])) == 1


def test_the_noise_is_kept_unless_it_is_to_be_learned():
    model = trained("MeanField")
    after, _ = update(KEY, model, *NEW, **QUICK)
    assert after.likelihood is model.likelihood
    after, _ = update(KEY, model, *NEW, learn_noise=True, **QUICK)
    assert after.likelihood.log_std != model.likelihood.log_std
    assert after.likelihood.learn


def test_point_estimates_are_kept_to_the_bit_whatever_the_optimizer():
    model = trained("MeanField", where="2/*")
    how = QUICK | {"optimizer": optax.adamw(0.1, weight_decay=0.5)}
    after, _ = update(KEY, model, *NEW, **how)
    assert_same(after.posterior.params[0], model.posterior.params[0])
    assert not np.array_equal(after.posterior.params[2]["weight"], model.posterior.params[2]["weight"])
    assert after.prior.mean[0] == {"bias": None, "weight": None}


def test_running_statistics_are_kept():
    network = bbb.nn.sequential(bbb.nn.linear(1, 3), bbb.nn.batch_norm(3), bbb.nn.linear(3, 1))
    params = network.init(KEY)
    model = bbb.bayesianize(network.apply, params, prior=Normal(), likelihood=likelihoods.Gaussian(0.1))
    after, _ = update(KEY, model, *NEW, **QUICK)
    for name in ("running_mean", "running_var"):
        assert np.array_equal(after.posterior.params[1][name], params[1][name])
    assert not np.array_equal(after.posterior.params[0]["weight"], params[0]["weight"])


def test_the_standardisation_is_kept():
    x, y = rows()
    apply = bbb.networks.standardize(NETWORK.apply, 100 * x, 50 * y)
    model = bbb.bayesianize(apply, NETWORK.init(KEY), prior=Normal(), likelihood=likelihoods.Gaussian(5.0))
    after, _ = update(KEY, model, 100 * NEW[0], 50 * NEW[1], **QUICK)
    assert after.apply == apply


def test_a_discount_widens_the_prior():
    model = trained("MeanField")
    after, _ = update(KEY, model, *NEW, discount=0.25, **STILL)
    assert np.allclose(after.prior.std[0]["weight"], 2 * model.posterior.std[0]["weight"])
    after, _ = update(KEY, trained("FullRank"), *NEW, discount=0.25, **STILL)
    old = trained("FullRank").posterior
    assert np.allclose(after.prior.distribution.std[0]["weight"], 2 * old.std[0]["weight"])


@pytest.mark.parametrize("kind", ["MeanField", "diag"])
def test_rows_of_one_class_are_learned_from(kind):
    network = bbb.nn.linear(1, 2)
    params = network.init(KEY)
    model = bbb.bayesianize(network.apply, params, prior=Normal(), likelihood=likelihoods.Categorical(), std=0.5)
    x = NEW[0]
    if kind == "diag":
        model = bbb.laplace(KEY, model, x, (x[:, 0] > 0).astype(int), structure="diag")
    after, found = update(KEY, model, x, np.ones(len(x), int), **QUICK | {"steps": 50})
    before, later = (bbb.predict(KEY, one, x, draws=50).y.probabilities[:, 1].mean() for one in (model, after))
    assert later > before
    assert found.drift is not None


def test_several_outputs_are_updated_without_a_drift():
    def apply(params, x):
        return {"a": x * params["w"][None], "b": x * params["v"][None]}

    params = {"w": jnp.ones(1), "v": jnp.ones(1)}
    both = {"a": likelihoods.Gaussian(0.1, learn=True), "b": likelihoods.Gaussian(0.1)}
    model = bbb.bayesianize(apply, params, prior=Normal(), likelihood=both)
    after, found = update(KEY, model, NEW[0], {"a": NEW[1], "b": NEW[1]}, **QUICK)
    assert found.drift is None
    assert_same(after.likelihood, model.likelihood)


def test_rows_count_by_their_weights():
    x, y = NEW
    model = laplace("full")
    weights = np.where(np.arange(len(x)) < 4, 2.0, 0.0)
    weighted, _ = update(KEY, model, x, y, sample_weight=weights, steps=20, draws=4, progress=False)
    twice, _ = update(KEY, model, np.tile(x[:4], (2, 1)), np.tile(y[:4], (2, 1)), steps=20, draws=4, progress=False)
    assert np.allclose(weighted.posterior.params[0]["weight"], twice.posterior.params[0]["weight"], atol=1e-3)


@pytest.mark.parametrize("model", [lambda: trained("LowRank"), lambda: laplace("kron"), lambda: laplace("full")])
def test_an_updated_model_is_saved_and_read(model, tmp_path):
    after, _ = update(KEY, model(), *NEW, **QUICK)
    bbb.save(tmp_path / "model", after)
    again = bbb.load(tmp_path / "model")
    assert_same(again, after)
    once_more, _ = update(KEY, again, *rows(2), **QUICK)
    assert np.isfinite(np.asarray(once_more.posterior.entropy()))


def test_the_record_speaks():
    _, found = update(KEY, dataclasses.replace(trained("MeanField")), *NEW, **QUICK)
    assert "Update by 12 rows" in repr(found)
    assert "nats a row" in repr(found)


def test_a_diagnosis_does_not_take_what_was_learned_before_for_a_collapse():
    model = trained("MeanField")
    after, found = update(KEY, model, *NEW, **STILL)
    names = {one.name for one in bbb.diagnose(after, found.history, *NEW, draws=20)}
    assert not names & {"collapsed onto the prior", "units collapsed onto the prior"}
    zero = after.posterior.with_params(jax.tree.map(jnp.zeros_like, after.posterior.params))
    idle = dataclasses.replace(after, prior=Normal(0.0, 0.3), posterior=zero)
    assert "collapsed onto the prior" in {one.name for one in bbb.diagnose(idle, None, *NEW, draws=20)}
