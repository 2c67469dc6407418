"""`predict` by closed forms, and for classes: the same answers as by draws, with less error or none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb

KEY = jax.random.key(7)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 16), bbb.nn.relu, bbb.nn.linear(16, 2))
CLASSIFIER = bbb.nn.sequential(bbb.nn.linear(2, 16), bbb.nn.relu, bbb.nn.linear(16, 3))


def model_of(network=NETWORK, likelihood=None, dtype="float32"):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(jax.random.key(0)))
    likelihood = likelihood or bbb.likelihoods.Gaussian(np.array([0.5, 0.1]))
    return bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=likelihood, std=0.2)


def inputs(rows):
    return np.random.default_rng(1).normal(size=(rows, 2))


def worst(difference, error):
    return float(np.max(np.abs(difference) / error))


@pytest.mark.parametrize("method", ["draws", "last_layer"])
def test_draws_agree_with_the_closed_form_within_their_errors(method, dtype):
    model, x = model_of(dtype=dtype), inputs(30)
    drawn = bbb.predict(KEY, model, x, draws=4_000, method=method)
    exact = bbb.predict(KEY, model, x, method="moments")
    assert (exact.method, drawn.method) == ("moments", method)
    for got, want in ((drawn.f, exact.f), (drawn.y, exact.y)):
        assert got.mean.dtype == want.std.dtype == dtype
        assert worst(got.mean - want.mean, got.mcse_mean) < 5
        assert worst(got.std - want.std, got.mcse_std) < 5


def test_the_closed_form_has_no_monte_carlo_error_and_says_it_is_exact():
    exact = bbb.predict(KEY, model_of(), inputs(5), method="moments")
    assert (exact.draws, exact.assumptions) == (0, ())
    for marginal in (exact.f, exact.y):
        for error in (*marginal.mcse([0.1]), *marginal.mcse_interval(0.9), *marginal.mcse_sigma_interval(3)):
            np.testing.assert_array_equal(error, np.zeros((5, 2)))
    np.testing.assert_allclose(exact.y.std**2, exact.f.std**2 + np.array([[0.5, 0.1]]) ** 2, rtol=1e-5)


def test_the_closed_form_of_a_deeper_network_says_what_it_assumed():
    deep = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 4), bbb.nn.tanh, bbb.nn.linear(4, 2))
    assumptions = bbb.predict(KEY, model_of(deep), inputs(3), method="moments").assumptions
    assert len(assumptions) > 0
    assert all("/nn/" in line for line in assumptions)
    assert all(line.startswith(("a value", "elements", "values")) and "(`" in line for line in assumptions)


def test_quantiles_of_the_closed_form_are_those_of_a_gaussian():
    from scipy.stats import norm

    f = bbb.predict(KEY, model_of(), inputs(5), method="moments", levels=(0.9,)).f
    for p in (0.003, 0.5, 0.95):
        np.testing.assert_allclose(f.quantile(p), norm.ppf(p, f.mean, f.std), rtol=1e-5, atol=1e-5)


def test_integrating_the_last_layer_cuts_the_error_of_the_mean():
    model, x = model_of(), inputs(30)
    plain, integrated = (bbb.predict(KEY, model, x, draws=1_000, method=m) for m in ("draws", "last_layer"))
    assert np.all(integrated.f.mcse_mean < 0.8 * plain.f.mcse_mean)


def test_quantiles_with_the_last_layer_integrated_agree_with_those_of_draws():
    model, x, ps = model_of(), inputs(6), (0.05, 0.99)
    how = {"draws": 4_000, "quantiles": ps}
    plain, integrated = (bbb.predict(KEY, model, x, method=m, **how) for m in ("draws", "last_layer"))
    for a, b in ((plain.f, integrated.f), (plain.y, integrated.y)):
        for p in ps:
            error = np.hypot(a.mcse_quantile(p), b.mcse_quantile(p))
            assert worst(a.quantile(p) - b.quantile(p), error) < 5


@pytest.mark.parametrize("method", ["last_layer", "moments"])
def test_the_number_of_rows_changes_nothing(method):
    model, x = model_of(), inputs(400)
    many = bbb.predict(KEY, model, x, draws=50, method=method)
    few = bbb.predict(KEY, model, x[:5], draws=50, method=method)
    np.testing.assert_allclose(many.f.mean[:5], few.f.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(many.y.std[:5], few.y.std, rtol=1e-5)


def test_classes_have_probabilities_errors_and_entropies(dtype):
    model, x = model_of(CLASSIFIER, bbb.likelihoods.Categorical(), dtype), inputs(40)
    band = bbb.predict(KEY, model, x, draws=300)
    probabilities = model.likelihood.probabilities(bbb.draws(KEY, model, x, draws=300))
    np.testing.assert_allclose(band.y.probabilities, probabilities.mean(0), rtol=1e-4)
    np.testing.assert_allclose(band.y.mcse_probabilities, probabilities.std(0, ddof=1) / np.sqrt(300), rtol=1e-3)
    drawn = bbb.metrics.predictive_entropy(probabilities)
    p = np.float64(probabilities)
    missing = 0.5 * (p.var(0, ddof=1) / 300 / p.mean(0)).sum(-1)  # of the entropy of a mean of 300, to first order
    np.testing.assert_allclose(band.y.entropy.aleatoric, drawn.aleatoric, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(band.y.entropy.total - drawn.total, missing, rtol=0.1, atol=2e-6)
    np.testing.assert_allclose(band.y.entropy.epistemic - drawn.epistemic, missing, rtol=0.1, atol=2e-6)
    np.testing.assert_array_equal(band.y.classes, band.y.probabilities.argmax(1))
    assert band.f.mean.shape == band.y.probabilities.shape == (40, 3)


def test_draws_of_classes_until_a_tolerance():
    model = model_of(CLASSIFIER, bbb.likelihoods.Categorical())
    band = bbb.predict(KEY, model, inputs(4), draws="auto", tolerance=0.03)
    assert band.draws > 1_000
    assert max(band.y.mcse_probabilities.max(), band.f.mcse_mean.max()) <= 0.03


BOUNDED = bbb.nn.sequential(bbb.nn.linear(2, 2), bbb.nn.tanh)


@pytest.mark.parametrize(
    ("arguments", "expected", "got"),
    [
        ({"method": "exact"}, "method to be one of draws, last_layer, moments", "got 'exact'. Pass one of them."),
        ({"method": "moments", "draws": "auto", "tolerance": 0.1}, "no tolerance with a closed form", "got 0.1."),
        (
            {"method": "moments", "model": model_of(CLASSIFIER, bbb.likelihoods.Categorical())},
            "a likelihood that adds Gaussian noise to the outputs",
            "got Categorical with method='moments'. Pass method=\"draws\".",
        ),
        (
            {"method": "last_layer", "model": model_of(BOUNDED)},
            "a network whose last layer is linear in its weights",
            'Use draws instead (method="draws")',
        ),
    ],
)
def test_what_a_closed_form_cannot_do_is_refused_by_name(arguments, expected, got):
    arguments = {"model": model_of(), **arguments}
    with pytest.raises(bbb.errors.InputError) as caught:
        bbb.predict(KEY, arguments.pop("model"), inputs(3), **arguments)
    assert expected in str(caught.value)
    assert got in str(caught.value)


def test_an_operation_that_the_closed_form_does_not_know_is_named():
    def softmax_network(params, x):
        return jax.nn.softmax(x @ params, axis=1)

    noise = bbb.likelihoods.Gaussian(0.1)
    model = bbb.bayesianize(softmax_network, jnp.ones((2, 2)), prior=bbb.priors.Normal(), likelihood=noise)
    with pytest.raises(bbb.errors.UnknownPrimitiveError, match=r"test_methods\.py"):
        bbb.predict(KEY, model, inputs(3), method="moments")


@pytest.mark.parametrize("method", ["draws", "last_layer", "moments"])
def test_parameters_may_hold_none_of_their_own(method):
    def network(params, x):
        return jnp.tanh(x @ params["in"]) @ params["out"]

    params = {"in": jnp.ones((2, 3)), "bias": None, "out": jnp.ones((3, 1))}
    model = bbb.bayesianize(network, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian())
    assert np.all(bbb.predict(KEY, model, inputs(3), draws=50, method=method).f.std > 0)


def test_a_posterior_of_point_estimates_alone_is_a_plain_network():
    params = {"w": jnp.ones((2, 1))}
    posterior = bbb.MeanField(params, {"w": None})
    assert float(bbb.priors.kl(posterior, bbb.priors.Normal())) == 0
    np.testing.assert_array_equal(bbb.posteriors.sample(KEY, posterior)["w"], params["w"])
