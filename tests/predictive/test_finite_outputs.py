"""What predict and draws do not return: NaN and infinity. They are refused by name, with the row and the leaf."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.predictive import api, running

KEY = jax.random.key(0)
X = np.array([[1.0], [2.0], [-3.0]])


def model_of(apply, std=0.01, mean=1.0):
    likelihood = bbb.likelihoods.Gaussian(0.5)
    return bbb.bayesianize(apply, {"w": jnp.full(1, mean)}, prior=bbb.priors.Normal(), likelihood=likelihood, std=std)


def trained_to(mean=1.0, std=0.01):
    """A line whose training left it there: `bayesianize` refuses such a start."""
    posterior = bbb.MeanField({"w": jnp.full(1, mean)}, {"w": jnp.log(jnp.full(1, std))})
    return dataclasses.replace(model_of(line), posterior=posterior)


def line(params, x):
    return x * params["w"][None]


def log(params, x):
    return jnp.log(x + 0 * params["w"][None])


def ask(verb, model):
    if verb == "draws":
        return bbb.draws(KEY, model, X, draws=8)
    return bbb.predict(KEY, model, X, method=verb, **({} if verb == "moments" else {"draws": 8}))


def test_a_row_outside_the_domain_of_the_network_is_named():
    for call in (bbb.draws, bbb.predict):
        with pytest.raises(bbb.errors.NonFiniteOutputError) as caught:
            call(KEY, model_of(log), X, draws=8)
        assert str(caught.value) == (
            "Expected the network's outputs to be finite in float32, got NaN or infinity, first at row 2 of x. "
            "Look at what the network does to that row of x: a logarithm, a root or a quotient, or an overflow."
        )


@pytest.mark.parametrize("verb", ["draws", "last_layer", "moments"])
def test_a_parameter_that_overflows_the_outputs_is_named(verb):
    with pytest.raises(bbb.errors.NonFiniteOutputError, match=r"posterior mean leaf 'w', which reaches 2e[+]38"):
        ask(verb, trained_to(mean=2e38))


@pytest.mark.parametrize("verb", ["last_layer", "moments"])
def test_a_std_whose_square_overflows_is_named(verb):
    with pytest.raises(bbb.errors.NonFiniteOutputError, match=r"posterior std leaf 'w', which reaches 1e[+]20"):
        ask(verb, trained_to(std=1e20))


@pytest.mark.parametrize("which", ["f", "y"])
def test_a_quantile_that_is_asked_for_later_is_refused_when_it_is_not_finite(which, monkeypatch):
    band = bbb.predict(KEY, model_of(line), X, draws=8)
    whole = running.summaries

    def broken(*args, **what):
        found = whole(*args, **what)
        return jax.tree.map(lambda leaf: np.where(np.arange(len(leaf))[:, None] == 1, np.float32(np.inf), leaf), found)

    monkeypatch.setattr(api, "summaries", broken)
    text = f"the quantiles of {which} to be finite in float32, got NaN or infinity, first at row 1 of x"
    for ask in (getattr(band, which).quantile, getattr(band, which).mcse_quantile):
        with pytest.raises(bbb.errors.NonFiniteOutputError, match=text):
            ask(0.9)


def test_an_error_whose_squares_overflow_is_infinite_and_not_nan():
    """A std of 1e13 is finite in float32, and so is its square; the variance of that square is not."""
    band = bbb.predict(KEY, trained_to(std=1e13), X, draws=50)
    assert np.isfinite(band.f.std).all()
    for marginal in (band.f, band.y):
        errors = (marginal.mcse_mean, marginal.mcse_std, *marginal.mcse_sigma_interval(2.0))
        assert not any(np.isnan(error).any() for error in errors)


def test_entropies_that_are_not_finite_are_refused(monkeypatch):
    likelihood = bbb.likelihoods.Categorical()
    params = {"w": jnp.ones((1, 3))}
    classifier = bbb.bayesianize(lambda p, x: x @ p["w"], params, prior=bbb.priors.Normal(), likelihood=likelihood)
    whole = running.summaries

    def broken(*args, **what):
        found = whole(*args, **what)
        entropy = found.y.entropy._replace(epistemic=np.array([0.1, 0.1, np.nan], "float32"))
        return found._replace(y=found.y._replace(entropy=entropy))

    monkeypatch.setattr(api, "summaries", broken)
    with pytest.raises(
        bbb.errors.NonFiniteOutputError, match=r"the epistemic entropy of y to be finite in float32, .* row 2"
    ):
        bbb.predict(KEY, classifier, X, draws=8)


@pytest.mark.parametrize("std", [1e39, 1e-50])
def test_a_std_is_checked_in_the_dtype_that_is_used(std):
    with pytest.raises(bbb.errors.InputError, match="std of 'w' in float32"):
        model_of(line, std=std)


def test_a_single_draw_has_finite_answers_and_infinite_errors():
    band = bbb.predict(KEY, model_of(line), X, draws=1)
    assert np.isfinite(band.f.mean).all()
    assert np.isinf(band.f.mcse_mean).all()


@pytest.mark.parametrize("likelihood", [bbb.likelihoods.StudentT(0.3, 3.0), bbb.likelihoods.Poisson()])
def test_a_quantile_of_y_does_not_hang_on_the_neighbours_of_its_row(likelihood):
    """Its search stops when it is done, not when all rows of a tile are: the last bits of the cdf are XLA's own."""
    model = bbb.bayesianize(line, {"w": jnp.ones(1)}, prior=bbb.priors.Normal(), likelihood=likelihood, std=0.3)
    x = np.linspace(-2, 2.1, 150)[:, None]
    order = np.random.default_rng(0).permutation(len(x))
    straight, shuffled = (bbb.predict(KEY, model, rows, draws=500, levels=(0.9,)) for rows in (x, x[order]))
    for p in (0.05, 0.95):
        np.testing.assert_allclose(straight.y.quantile(p)[order], shuffled.y.quantile(p), rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(straight.y.mcse_quantile(p)[order], shuffled.y.mcse_quantile(p), rtol=2e-5)


def test_the_error_of_a_quantile_of_y_does_not_hang_on_how_many_rows_there_are():
    """Of few draws, the search of one row ends long before that of another: it went on, and moved by up to 7e-4."""

    def bent(params, x):
        return 3 * jnp.tanh(x * params["w"][None]) + params["b"][None]

    params, likelihood = {"w": jnp.ones(1), "b": jnp.zeros(1)}, bbb.likelihoods.StudentT(0.3, 3.0)
    model = bbb.bayesianize(bent, params, prior=bbb.priors.Normal(), likelihood=likelihood, std=0.5)
    x = np.linspace(-2, 2.1, 203)[:, None]
    many, few = (bbb.predict(KEY, model, rows, draws=200, levels=(0.9, 0.997)) for rows in (x, x[:7]))
    for p in (0.0015, 0.05, 0.95, 0.9985):
        np.testing.assert_allclose(many.y.mcse_quantile(p)[:7], few.y.mcse_quantile(p), rtol=2e-5)
