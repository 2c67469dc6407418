"""The bound without draws: the mean of the sampled one, the same for every key, and refused where it would not be."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import bbb
from bbb.objectives.objective import Integrated, exact_elbo_cost, has_exact_elbo

NETWORK = bbb.nn.sequential(bbb.nn.linear(3, 5), bbb.nn.relu, bbb.nn.linear(5, 2))
DEEP = bbb.nn.sequential(bbb.nn.linear(3, 5), bbb.nn.relu, bbb.nn.linear(5, 5), bbb.nn.relu, bbb.nn.linear(5, 2))
DROPPING = bbb.nn.sequential(bbb.nn.linear(3, 5), bbb.nn.dropout(0.1), bbb.nn.linear(5, 2))
RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
NOISE = bbb.likelihoods.Gaussian(np.array([0.3, 0.8]), learn=True)


def model_of(dtype="float32", *, network=NETWORK, likelihood=NOISE, std=0.3):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(jax.random.key(0)))
    return bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=likelihood, std=std)


@jax.jit
def exact_cost(model, x, y, weights):
    outputs = Integrated(model.apply).evaluate((), model.posterior, x)[None]
    return exact_elbo_cost(model, outputs, y, weights, 60, 0.5)


def test_it_is_the_mean_of_the_sampled_bound(dtype):
    model, draws = model_of(dtype), 4_000
    x, y, weights = (jnp.asarray(values, dtype) for values in (X, Y, [1, 1, 1, 1, 1, 0]))
    exact = exact_cost(model, x, y, weights)
    assert exact.total.dtype == dtype
    outputs = np.asarray(bbb.draws(jax.random.key(3), model, x, draws=draws))
    nats = stats.norm(outputs, np.asarray(model.likelihood.std)).logpdf(Y).sum(axis=2)
    each = -12 * nats[:, :5].sum(axis=1)  # 60 rows for 5
    error = np.std(each) / math.sqrt(draws)
    assert abs(float(exact.data_term) - np.mean(each)) < 5 * error
    assert error < 0.02 * abs(float(exact.data_term))
    np.testing.assert_allclose(exact.kl, bbb.priors.kl(model.posterior, model.prior), rtol=1e-6)
    np.testing.assert_allclose(exact.total, exact.data_term + 0.5 * exact.kl, rtol=1e-6)


def test_without_spread_it_is_the_bound_of_the_network_itself(dtype):
    model = model_of(dtype, std=1e-12)
    x, y, weights = (jnp.asarray(values, dtype) for values in (X, Y, np.ones(6)))
    outputs = np.asarray(model.apply(model.posterior.mean, x))
    expected = -10 * stats.norm(outputs, np.asarray(model.likelihood.std)).logpdf(Y).sum()
    np.testing.assert_allclose(exact_cost(model, x, y, weights).data_term, expected, rtol=1e-5)


def test_training_on_all_rows_is_deterministic_and_goes_down():
    """The key moves the draws of a step alone, of which there are none."""
    model = model_of()
    optimizer = optax.adam(1e-2)
    histories = [
        bbb.fit(jax.random.key(k), model, X, Y, steps=60, optimizer=optimizer, objective=exact_elbo_cost)[1]
        for k in range(2)
    ]
    np.testing.assert_array_equal(histories[0].loss, histories[1].loss)
    assert (np.diff(histories[0].loss) < 0).all()
    np.testing.assert_allclose(histories[0].negative_elbo, histories[0].loss, rtol=1e-6)  # in nats, as of `elbo_cost`


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": DEEP}, r"a network whose moments are exact, such as one of one hidden layer, got one where"),
        ({"network": DROPPING}, r"a network without a training mode for exact_elbo_cost, got one with dropout"),
        ({"likelihood": bbb.likelihoods.StudentT(0.5)}, r"a Gaussian likelihood for exact_elbo_cost, got a StudentT\."),
    ],
    ids=["deep", "dropout", "likelihood"],
)
def test_what_it_is_not_exact_for_is_refused_before_a_step(changes, message):
    model = model_of(**changes)
    assert not has_exact_elbo(model, X)
    with pytest.raises(bbb.errors.InputError, match=message) as caught:
        bbb.fit(jax.random.key(1), model, X, Y, steps=1, objective=exact_elbo_cost, progress=False)
    assert str(caught.value).endswith("Leave the objective out, to train on draws of the weights.")


@pytest.mark.parametrize("options", [{"forward": bbb.forwards.weight_sampling(NETWORK.apply)}, {"draws": 2}], ids=str)
def test_draws_of_outputs_are_no_moments(options):
    objective = bbb.train.Objective(exact_elbo_cost, **options)
    with pytest.raises(
        bbb.errors.ShapeError, match=r"outputs of shape \(1, 2, rows, \.\.\.\), their mean and variance.*got"
    ):
        bbb.fit(jax.random.key(1), model_of(), X, Y, steps=1, objective=objective, progress=False)


def test_what_it_serves_is_told_by_a_trace():
    assert has_exact_elbo(model_of(), X)
    assert has_exact_elbo(model_of(network=bbb.nn.sequential(bbb.nn.linear(3, 2))), X)
    assert not has_exact_elbo(dataclasses.replace(model_of(), linearized=True), X)
    normed = bbb.nn.sequential(bbb.nn.linear(3, 5), bbb.nn.layer_norm(5), bbb.nn.linear(5, 2))
    assert not has_exact_elbo(model_of(network=normed), X)
