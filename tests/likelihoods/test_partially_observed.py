"""Missing targets: what is NaN in y says nothing, exactly, and everything else counts as it did."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb import likelihoods
from bbb.likelihoods import PartiallyObserved
from bbb.objectives.objective import Integrated, exact_elbo_cost, negative_elbo

KEY = jax.random.key(0)
NAN = float("nan")
RNG = np.random.default_rng(1)
X = RNG.normal(size=(6, 2))
Y = np.array([[1.0, NAN], [0.0, 2.0], [NAN, NAN], [NAN, 1.0], [3.0, 0.0], [2.0, 1.0]])
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.relu, bbb.nn.linear(4, 2))
NOISE = likelihoods.Gaussian(np.array([0.3, 0.8]), learn=True)

ELEMENTWISE = {
    "gaussian": NOISE,
    "student": likelihoods.StudentT(0.5, 4.0, learn=True),
    "poisson": likelihoods.Poisson(),
    "negative": likelihoods.NegativeBinomial(0.3, learn=True),
    "bernoulli": likelihoods.Bernoulli(),
    "two-headed": likelihoods.HeteroscedasticGaussian(),
}


def model_of(dtype="float64", *, likelihood=NOISE, network=NETWORK, partial=True):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(KEY))
    likelihood = PartiallyObserved(likelihood) if partial else likelihood
    return bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=likelihood, std=0.3)


def targets(name):
    return np.where(np.isnan(Y), NAN, np.minimum(Y, 1)) if name == "bernoulli" else Y


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_log_prob_sums_over_what_is_observed_and_the_gradient_elsewhere_is_0(name, dtype):
    """Even where the network's output is so far off that its own log-probability overflows."""
    likelihood, y = ELEMENTWISE[name], jnp.asarray(targets(name), dtype)
    outputs = jnp.asarray(RNG.normal(size=(6, 4 if name == "two-headed" else 2)), dtype)
    nats = np.asarray(likelihood.log_density(jnp.nan_to_num(y), outputs))
    missing = np.isnan(y)
    found = PartiallyObserved(likelihood).log_prob(y, outputs)
    np.testing.assert_allclose(found, np.where(missing, 0, nats).sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found[2], 0)
    of_outputs = np.hstack([missing] * (outputs.shape[1] // 2))
    off = jnp.where(of_outputs, jnp.inf, outputs)
    one, other = (
        jax.grad(lambda part, f: PartiallyObserved(part).log_prob(y, f).sum(), argnums=(0, 1), allow_int=True)(
            likelihood, f
        )
        for f in (outputs, off)
    )
    np.testing.assert_array_equal(np.asarray(other[1])[of_outputs], 0)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_of_complete_targets_it_is_the_likelihood_bit_for_bit(name, dtype):
    likelihood, y = ELEMENTWISE[name], jnp.asarray(np.nan_to_num(targets(name)), dtype)
    outputs = jnp.asarray(RNG.normal(size=(6, 4 if name == "two-headed" else 2)), dtype)
    partial = PartiallyObserved(likelihood)
    np.testing.assert_array_equal(partial.log_prob(y, outputs), likelihood.log_prob(y, outputs))
    np.testing.assert_array_equal(partial.mean(outputs), likelihood.mean(outputs))
    assert bool(partial.discrete) == bool(likelihood.discrete)


def test_a_row_without_its_class_drops_out():
    logits = jnp.asarray(RNG.normal(size=(4, 3)), "float32")
    y = jnp.array([0.0, NAN, 2.0, 1.0], "float32")
    partial, whole = PartiallyObserved(likelihoods.Categorical()), likelihoods.Categorical()
    nats = whole.log_prob(jnp.array([0, 0, 2, 1]), logits)
    np.testing.assert_array_equal(partial.log_prob(y, logits), jnp.asarray(nats).at[1].set(0))
    slope = jax.grad(lambda f: partial.log_prob(y, f).sum())(logits.at[1].set(jnp.inf))
    np.testing.assert_array_equal(slope[1], 0)
    assert np.isfinite(slope).all()


def bound(model, x, y):
    return negative_elbo(KEY, model, x, y, draws=3)[1].data_term


def test_rows_without_any_target_change_nothing_of_the_data_term_bit_for_bit():
    """Whatever their x is; and to rounding it is the data term without them, of which as many count."""
    model = model_of("float32")
    slope = jax.jit(jax.value_and_grad(bound))
    other = X.copy()
    other[2] = 1e6
    one, two = (slope(model, jnp.float32(x), jnp.float32(Y)) for x in (X, other))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    with jax.enable_x64(True):
        keep, model = ~np.isnan(Y).all(axis=1), model_of()
        for a, b in zip(*(jax.tree.leaves(slope(model, *d)) for d in ((X, Y), (X[keep], Y[keep]))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_the_exact_bound_with_holes_is_the_sum_of_those_of_each_output_on_its_rows():
    """A network of two outputs, of which each is one of the same weights: the data terms add, the KL counts once."""

    def exact(model, x, y):
        outputs = Integrated(model.apply).evaluate((), model.posterior, jnp.asarray(x))[None]
        return exact_elbo_cost(model, outputs, jnp.asarray(y), jnp.ones(len(x)), len(x), 1.0).data_term

    def of_one(model, i):
        rows = ~np.isnan(Y[:, i])
        std = jax.tree.map(lambda leaf: leaf[i : i + 1], model.likelihood.likelihood)
        alone = dataclasses.replace(model, apply=lambda params, x: model.apply(params, x)[:, i : i + 1], likelihood=std)
        return exact(alone, X[rows], Y[rows, i : i + 1])

    with jax.enable_x64(True):
        model = model_of()
        one = jax.jit(jax.value_and_grad(lambda model: exact(model, X, Y)))(model)
        other = jax.jit(jax.value_and_grad(lambda model: of_one(model, 0) + of_one(model, 1)))(model)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_a_training_with_holes_learns_and_predicts_every_output(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    whole = np.stack([x[:, 0] + x[:, 1], 2 * x[:, 0]], axis=1) + [[0.1, 0.3]] * rng.normal(size=(200, 2))
    y = np.where(rng.uniform(size=whole.shape) < 0.4, NAN, whole)
    linear = bbb.nn.linear(2, 2)
    noise = likelihoods.Gaussian(np.array([0.5, 0.5]), learn=True)
    model = model_of("float32", likelihood=noise, network=linear)
    trained, history = bbb.fit(
        KEY,
        model,
        x,
        y,
        steps=800,
        batch_size=50,
        optimizer=optax.adam(2e-2),
        validation=0.1,
        sample_weight=np.ones(200),
    )
    assert np.isfinite(history.loss).all()
    np.testing.assert_allclose(trained.likelihood.std, [0.1, 0.3], rtol=0.3)
    found = bbb.predict(KEY, trained, x[:5])
    np.testing.assert_allclose(found.y.mean, np.stack([x[:5].sum(1), 2 * x[:5, 0]], axis=1), atol=0.2)
    bbb.save(tmp_path / "model", trained)
    again = bbb.predict(KEY, bbb.load(tmp_path / "model"), x[:5])
    np.testing.assert_array_equal(found.y.quantile(0.9), again.y.quantile(0.9))


@pytest.mark.parametrize("structure", ["full", "kron", "low_rank", "diag"])
def test_rows_without_any_target_change_nothing_of_the_curvature(structure):
    with jax.enable_x64(True):
        model, keep = model_of(), ~np.isnan(Y).all(axis=1)
        one, other, filled = (
            bbb.laplace(KEY, model, *data, structure=structure).posterior
            for data in ((X, Y), (X[keep], Y[keep]), (X, np.nan_to_num(Y)))
        )
        at = one.weights(one.noise(KEY))
        np.testing.assert_allclose(one.log_prob(at), other.log_prob(at), rtol=1e-9)
        assert abs(one.log_prob(at) - filled.log_prob(at)) > 1e-3


@pytest.mark.slow
def test_of_a_linear_network_the_curvature_is_that_of_each_output_on_its_rows():
    linear = bbb.nn.linear(2, 2, bias=False)
    with jax.enable_x64(True):
        posterior = bbb.laplace(KEY, model_of(network=linear), X, Y).posterior
        density = jax.jit(jax.hessian(lambda w: -posterior.log_prob({"weight": w})))
        precision = np.asarray(density(posterior.params["weight"]))
        for i, std in enumerate((0.3, 0.8)):
            rows = ~np.isnan(Y[:, i])
            expected = X[rows].T @ X[rows] / std**2 + np.eye(2)
            np.testing.assert_allclose(precision[i, :, i, :], expected, rtol=1e-9)
        np.testing.assert_allclose(precision[0, :, 1, :], 0, atol=1e-9)


@pytest.mark.slow
def test_restarts_take_missing_targets():
    model = model_of("float32")
    members, _ = bbb.fit(KEY, model, X, Y, steps=5, restarts=bbb.train.Restarts(2, NETWORK.init))
    assert np.isfinite(bbb.predict(KEY, members, X, draws=4).y.mean).all()
    anchored, _ = bbb.fit(KEY, model, X, Y, steps=5, restarts=bbb.train.Restarts(2, anchored=True))
    assert np.isfinite(bbb.predict(KEY, anchored, X, draws=4).y.mean).all()
