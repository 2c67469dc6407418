"""The draws of Markov chains as a posterior by its word: in the estimators, the tables, the command and `fit_each`."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb import inference
from bbb.cli.main import main
from bbb.inference import hmc, method_of
from bbb.mcmc.report import Report
from bbb.tables import csv, fit, recipe
from tests.curvature.models import KEY, linear

pytest.importorskip("blackjax")
PROBLEM = "The draws are worth few: 7 independent ones at the worst row, where 100 would do. Pass draws=10 or more."


@pytest.fixture
def few(monkeypatch):
    """Take few draws, of which the report says so."""

    def quick(key, model, x, y, sample_weight=None):
        how = {"draws": 4, "warmup": 4, "steps": 2, "sample_weight": sample_weight}
        sampled, report = bbb.mcmc.hmc(key, model, x, y, **how)
        assert isinstance(report, Report)
        return sampled, dataclasses.replace(report, problems=(PROBLEM,))

    monkeypatch.setattr(hmc, "hmc", quick)


def rows():
    x = np.linspace(-1, 1, 20)[:, None]
    return x, x + 0.1 * np.random.default_rng(0).normal(size=x.shape)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    np.savetxt(path, np.hstack(rows()), delimiter=",", header="x,y", comments="")
    return path


def test_of_a_linear_network_the_draws_are_those_of_the_exact_posterior():
    model, x, y, covariance, _ = linear(40)
    sampled, structure, *_ = method_of("hmc").finished(KEY, model, x, y, False)
    assert structure is None
    mean = ravel_pytree(model.posterior.mean)[0]
    drawn = np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(sampled.posterior)], 1)
    std = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((drawn.mean(0) - mean) / std, 0, atol=4 / np.sqrt(200))  # worth 200 of 800 at least
    np.testing.assert_allclose(drawn.std(0) / std, 1, atol=4 / np.sqrt(2 * 200))


def test_a_prior_without_a_density_is_refused_before_training():
    model = dataclasses.replace(linear(40)[0], prior=bbb.priors.EmpiricalNormal())
    with pytest.raises(bbb.errors.InputError, match="a prior"):
        inference.METHODS["hmc"].check(model)


@pytest.mark.usefixtures("few")
def test_the_estimator_says_what_is_wrong_with_its_chains():
    sklearn = pytest.importorskip("sklearn")
    regressor = bbb.sklearn.BayesianMLPRegressor((3,), steps=5, posterior="hmc", random_state=0)
    x, y = rows()
    with pytest.warns(sklearn.exceptions.ConvergenceWarning, match="worth few"):
        regressor.fit(x, y[:, 0])
    assert regressor.model_.posterior.holds_draws
    assert regressor.structure_ is None
    mean, std = regressor.predict(x, return_std=True)
    assert mean.shape == std.shape == (20,)
    assert (std > 0).all()
    members = regressor.model_.members
    drawn = regressor.sample_y(x, members + 2)  # of which some have the same weights
    assert drawn.shape == (20, members + 2)
    assert regressor.sample_y(x, 1).shape == (20, 1)
    np.testing.assert_array_equal(drawn, regressor.sample_y(x, members + 2))
    with pytest.warns(sklearn.exceptions.ConvergenceWarning, match="worth few"):
        regressor.partial_fit(x, y[:, 0])


@pytest.mark.usefixtures("few")
def test_the_table_and_the_command_keep_it(table, tmp_path, capsys):
    made, _ = fit.fit_table(csv.read(table), "y", recipe=recipe.Recipe(hidden=3, epochs=2, posterior="hmc"))
    *_, found = made.training
    assert found.name == "chains that are not done"
    assert found.seen == "The draws are worth few: 7 independent ones at the worst row, where 100 would do"
    out = tmp_path / "model"
    options = ["--posterior", "hmc", "--hidden", "3", "--epochs", "2", "--restarts", "2", "--out", str(out)]
    assert main(["fit", str(table), "--target", "y", *options]) == 0
    assert "8 draws of Markov chains" in capsys.readouterr().err
    assert main(["predict", str(out), str(table)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 21


@pytest.mark.usefixtures("few")
def test_fit_each_names_the_member():
    model, x, y, *_ = linear(40)
    options = {"steps": 1, "posterior": "hmc"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models, _ = bbb.train.fit_each(jax.random.split(KEY), [model, model], [x, x], [y, y], **options)
    assert [model.posterior.holds_draws for model in models] == [True, True]
    assert [str(one.message).partition(":")[0] for one in caught] == ["Member 0", "Member 1"]
