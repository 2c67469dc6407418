"""The negative ELBO: nats over the whole data set, tight where the posterior is exact."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import bbb
from bbb.objectives.objective import Cost, elbo_cost, evaluate_draws

NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 2, bias=False), bbb.nn.tanh)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 2)), RNG.normal(size=(12, 2))
NOISE = np.array([0.5, 2.0])


def model_of(dtype, std=0.3):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), NETWORK.init(jax.random.key(0)))
    return bbb.bayesianize(
        NETWORK.apply,
        params,
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(NOISE),
        std=std,
    )


elbo = jax.jit(bbb.objectives.negative_elbo, static_argnames=("num_data", "draws"))  # compiled, as `fit` does: faster


def tolerance(dtype):
    return 1e3 * np.finfo(dtype).eps


def minus_log_likelihood(params, x=X, y=Y):
    return -scipy.stats.norm.logpdf(y, np.float64(NETWORK.apply(params, jnp.asarray(x, "float32"))), NOISE).sum()


def test_without_weight_noise_it_is_the_same_for_every_key_and_in_closed_form(dtype):
    model = model_of(dtype, std=1e-30)
    values = [float(elbo(jax.random.key(i), model, X, Y)[0]) for i in range(3)]
    assert values[0] == values[1] == values[2]
    expected = minus_log_likelihood(jax.tree.map(lambda v: v.astype("float32"), model.posterior.mean))
    np.testing.assert_allclose(values[0], expected + float(bbb.priors.kl(model.posterior, model.prior)), rtol=1e-5)


def test_it_is_its_two_parts_added(dtype):
    model = model_of(dtype)
    for weight in (0.0, 0.25, 1.0, 7):
        total, cost = elbo(jax.random.key(0), model, X, Y, kl_weight=float(weight))
        assert isinstance(cost, Cost)
        assert total.dtype == cost.kl.dtype == cost.data_term.dtype == dtype
        np.testing.assert_allclose(total, cost.data_term + float(weight) * cost.kl, rtol=tolerance(dtype))
        np.testing.assert_allclose(cost.kl, bbb.priors.kl(model.posterior, model.prior), rtol=tolerance(dtype))


def test_num_data_scales_the_data_term_and_nothing_else(dtype):
    model = model_of(dtype)
    _, whole = elbo(jax.random.key(0), model, X, Y)
    _, part = elbo(jax.random.key(0), model, X, Y, num_data=36)
    np.testing.assert_allclose(part.data_term, 3 * whole.data_term, rtol=tolerance(dtype))
    np.testing.assert_array_equal(part.kl, whole.kl)


def test_the_batches_of_an_epoch_add_up_to_the_full_batch(dtype):
    model, edges = model_of(dtype, std=1e-30), [0, 5, 10, 12]
    _, whole = elbo(jax.random.key(0), model, X, Y)
    parts = [
        elbo(jax.random.key(i), model, X[a:b], Y[a:b], num_data=12)[1].data_term * ((b - a) / 12)
        for i, (a, b) in enumerate(itertools.pairwise(edges))
    ]
    np.testing.assert_allclose(sum(parts), whole.data_term, rtol=tolerance(dtype))


def test_several_draws_are_averaged_each_with_its_own_folded_key():
    key, model = jax.random.key(5), model_of("float32")
    _, cost = elbo(key, model, X, Y, draws=4)
    by_hand = [
        minus_log_likelihood(bbb.posteriors.sample(jax.random.fold_in(key, i), model.posterior)) for i in range(4)
    ]
    np.testing.assert_allclose(cost.data_term, np.mean(by_hand), rtol=1e-5)


def test_a_forward_without_noise_gives_as_many_draws_as_asked():
    model, x = model_of("float32"), jnp.ones((4, 2))
    forward = bbb.forwards.local_reparam(lambda params, x: 2 * x)
    assert forward.noise(jax.random.key(0), model.posterior, x) == ()
    for draws in (1, 3):
        outputs = evaluate_draws(forward, (), model, x, draws)
        np.testing.assert_array_equal(outputs, np.full((draws, 4, 2), 2.0))


def test_padding_rows_of_weight_0_do_not_count(dtype):
    model = model_of(dtype)
    outputs = jnp.asarray(RNG.normal(size=(3, 12, 2)), dtype)
    y, weights = jnp.asarray(Y, dtype), jnp.asarray([1.0] * 7 + [0.0] * 5, dtype)
    padded = elbo_cost(model, outputs, y, weights, 12, 1.0)
    cut = elbo_cost(model, outputs[:, :7], y[:7], weights[:7], 12, 1.0)
    np.testing.assert_allclose(padded.total, cut.total, rtol=tolerance(dtype))


def one_weight(dtype):
    """y = w·x + noise with a Gaussian prior: the posterior is a Gaussian, and in closed form."""
    x = jnp.asarray(RNG.normal(size=(6, 1)), dtype)
    y = 1.5 * x + 0.4 * jnp.asarray(RNG.normal(size=(6, 1)), dtype)
    noise, prior_std = 0.4, 2.0
    precision = np.float64(jnp.sum(x * x)) / noise**2 + 1 / prior_std**2
    mean = np.float64(jnp.sum(x * y)) / noise**2 / precision
    model = bbb.bayesianize(
        lambda w, x: x * w,
        jnp.asarray(mean, dtype),
        prior=bbb.priors.Normal(0.0, prior_std),
        likelihood=bbb.likelihoods.Gaussian(noise),
        std=precision**-0.5,
    )
    covariance = noise**2 * np.eye(6) + prior_std**2 * np.outer(x[:, 0], x[:, 0])
    evidence = scipy.stats.multivariate_normal(cov=covariance).logpdf(np.float64(y[:, 0]))
    return model, x, y, evidence


def test_at_the_exact_posterior_every_draw_gives_the_evidence(dtype):
    model, x, y, evidence = one_weight(dtype)
    for i in range(10):
        w = bbb.posteriors.sample(jax.random.key(i), model.posterior)
        log_likelihood = jnp.sum(model.likelihood.log_prob(y, model.apply(w, x)))
        bound = log_likelihood + model.prior.log_prob(w) - bbb.posteriors.log_prob(model.posterior, w)
        np.testing.assert_allclose(bound, evidence, rtol=tolerance(dtype))


def test_at_the_exact_posterior_it_is_minus_the_evidence_within_5_standard_errors(dtype):
    model, x, y, evidence = one_weight(dtype)
    keys = jax.random.split(jax.random.key(0), 4000)
    values = np.asarray(jax.jit(jax.vmap(lambda k: bbb.objectives.negative_elbo(k, model, x, y)[0]))(keys), "float64")
    assert abs(values.mean() + evidence) < 5 * values.std() / np.sqrt(4000)


def test_away_from_the_exact_posterior_the_bound_lies_below_the_evidence(dtype):
    model, x, y, evidence = one_weight(dtype)
    wide = bbb.BNN(model.apply, bbb.MeanField.around(model.posterior.mean, 1.0), model.prior, model.likelihood)
    keys = jax.random.split(jax.random.key(0), 4000)
    values = np.asarray(jax.jit(jax.vmap(lambda k: bbb.objectives.negative_elbo(k, wide, x, y)[0]))(keys), "float64")
    assert values.mean() + evidence > 5 * values.std() / np.sqrt(4000)


def test_it_can_be_compiled_and_differentiated_by_the_user(dtype):
    model = model_of(dtype)

    def loss(m, x, y):
        return bbb.objectives.negative_elbo(jax.random.key(0), m, x, y)[0]

    x, y = jnp.asarray(X, dtype), jnp.asarray(Y, dtype)
    value, grad = jax.jit(jax.value_and_grad(loss))(model, x, y)
    np.testing.assert_allclose(value, loss(model, X, Y), rtol=tolerance(dtype))
    assert isinstance(grad, bbb.BNN)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grad))


def test_a_prior_that_estimates_gets_its_noise_from_the_key_and_reports_the_error(dtype):
    model = model_of(dtype)
    mixture = dataclasses.replace(
        model, prior=bbb.priors.ScaleMixture(0.3, 1.0, 1.0)
    )  # a Gaussian: known, but estimated
    keys = jax.random.split(jax.random.key(0), 500)
    costs = jax.jit(jax.vmap(lambda k: bbb.objectives.negative_elbo(k, mixture, X, Y)[1]))(keys)
    exact = float(bbb.priors.kl(model.posterior, bbb.priors.Normal(0.0, 1.0)))
    values, errors = np.asarray(costs.kl, "float64"), np.asarray(costs.kl_std_error, "float64")
    assert abs(values.mean() - exact) < 5 * values.std() / np.sqrt(500)
    assert (errors > 0).all()
    np.testing.assert_allclose(costs.total, costs.data_term + costs.kl, rtol=1e-5)
    assert bbb.objectives.negative_elbo(keys[0], model, X, Y)[1].kl_std_error is None


def test_a_history_records_the_error_of_an_estimated_kl_alone():
    model = model_of("float32")
    _, history = bbb.fit(jax.random.key(0), model, X, Y, steps=3)
    assert history.kl_std_error is None
    mixture = dataclasses.replace(model, prior=bbb.priors.ScaleMixture(0.5, 1.0, 0.1))
    _, history = bbb.fit(jax.random.key(0), mixture, X, Y, steps=3)
    assert history.kl_std_error.shape == (3,)
    assert (history.kl_std_error > 0).all()
