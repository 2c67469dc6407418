"""The evidence against the exact density of the data, and its gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from tests.curvature.models import CASES, KEY, linear, mlp, precision_of

CLOSE = {"rtol": 1e-8, "atol": 1e-8}


def scaled(model, log_prior, log_noise):
    """Return a model whose prior's std and noise are factors of what they were."""
    prior = jax.tree.map(lambda s: s * jnp.exp(log_prior), model.prior)
    likelihood = jax.tree.map(lambda s: s + log_noise, model.likelihood)
    return dataclasses.replace(model, prior=dataclasses.replace(prior, mean=model.prior.mean), likelihood=likelihood)


@pytest.mark.parametrize("rows", [12, 3])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_of_a_linear_network_it_is_the_density_of_the_data(rows, batch_size):
    with jax.enable_x64(True):
        model, x, y, _, evidence = linear(rows)
        np.testing.assert_allclose(bbb.log_evidence(model, x, y, batch_size=batch_size), evidence, **CLOSE)


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("rows", [40, 5])
def test_of_a_network_it_is_the_formula_by_dense_algebra(kind, rows):
    with jax.enable_x64(True):
        model, x, y = mlp(kind, rows)
        precision, params = precision_of(model, x), model.posterior.params
        likelihood = model.likelihood.log_prob(jnp.asarray(y), model.apply(params, jnp.asarray(x))).sum()
        joint = likelihood + model.prior.log_prob(params) + 0.5 * len(precision) * np.log(2 * np.pi)
        exact = joint - 0.5 * np.linalg.slogdet(precision)[1]
        np.testing.assert_allclose(bbb.log_evidence(model, x, y), exact, **CLOSE)
        diagonal = joint - 0.5 * np.log(np.diag(precision)).sum()
        np.testing.assert_allclose(bbb.log_evidence(model, x, y, "diag"), diagonal, **CLOSE)
        assert diagonal < exact


@pytest.mark.parametrize(
    ("kind", "rows", "batch_size", "dependent"),
    [("Gaussian", 9, None, False), ("Categorical", 9, 4, True), ("Gaussian", 5, 2, False)],
)
def test_both_its_derivatives_are_those_of_differences(kind, rows, batch_size, dependent):
    """In the means, the likelihood and the prior: of one tile of rows and of several, of more weights and of fewer."""
    with jax.enable_x64(True):
        model, x, y = mlp(kind, rows, hidden=2)
        if dependent:
            prior = bbb.priors.MultivariateNormal(bbb.laplace(KEY, model, x, y).posterior)
            model = dataclasses.replace(model, prior=prior)
        leaves, tree = jax.tree.flatten(model)
        rng = np.random.default_rng(0)
        along = [rng.normal(size=np.shape(leaf)) for leaf in leaves]

        def nats(t):
            moved = [leaf * (1 + 0.1 * t * by) + t * by for leaf, by in zip(leaves, along, strict=True)]
            return bbb.log_evidence(jax.tree.unflatten(tree, moved), x, y, batch_size=batch_size)

        def derivatives(t):
            return *jax.jvp(nats, (t,), (jnp.ones(()),)), jax.grad(nats)(t), jax.grad(jax.grad(nats))(t)

        step, found = 1e-4, jax.jit(derivatives)
        (low, _, slope_below, _), (_, forward, reverse, second), (high, _, slope_above, _) = map(
            found, (-step * jnp.ones(()), jnp.zeros(()), step * jnp.ones(()))
        )
        np.testing.assert_allclose([forward, reverse], (high - low) / (2 * step), rtol=1e-6)
        np.testing.assert_allclose(second, (slope_above - slope_below) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("structure", ["full", "diag", "last_layer"])
@pytest.mark.parametrize("rows", [40, 5])
def test_its_gradient_is_that_of_differences(structure, rows):
    with jax.enable_x64(True):
        model, x, y = mlp(rows=rows)

        def nats(both):
            return bbb.log_evidence(scaled(model, *both), x, y, structure, batch_size=3)

        start, step = jnp.asarray([0.1, -0.2]), 1e-5
        slopes = jax.jit(jax.grad(nats))(start)
        moved = [(nats(start + step * e) - nats(start - step * e)) / (2 * step) for e in jnp.eye(2)]
        np.testing.assert_allclose(slopes, jnp.stack(moved), rtol=1e-6)


def test_its_gradient_per_layer():
    with jax.enable_x64(True):
        model, x, y = mlp()
        stds = (jnp.asarray(0.7), (), jnp.asarray(0.7))
        of = lambda std: bbb.log_evidence(dataclasses.replace(model, prior=bbb.priors.Normal(0.0, std)), x, y)  # noqa: E731
        each = jax.grad(of)(stds)
        together = jax.grad(lambda s: of((s, (), s)))(jnp.asarray(0.7))
        np.testing.assert_allclose(each[0] + each[2], together, rtol=1e-10)


def test_of_a_linear_network_the_best_noise_and_prior_have_no_gradient():
    """At the mode for each noise and prior, the evidence of the data is stationary where their density is largest."""
    with jax.enable_x64(True):
        model, x, y, _, _ = linear(12)

        def exact(both):
            design = jnp.concatenate([jnp.ones((12, 1)), jnp.asarray(x)], axis=1)
            s, n = jnp.exp(2 * both[0]) * 1.3**2, jnp.exp(2 * both[1]) * 0.2**2
            of_y = s * design @ design.T + n * jnp.eye(12)
            return (
                -0.5 * (jnp.sum(jnp.asarray(y) * jnp.linalg.solve(of_y, jnp.asarray(y)))) - jnp.linalg.slogdet(of_y)[1]
            )

        slopes = jax.grad(lambda both: bbb.log_evidence(scaled(model, *both), x, y))(jnp.zeros(2))
        np.testing.assert_allclose(slopes, jax.grad(exact)(jnp.zeros(2)), rtol=1e-8)


@pytest.mark.parametrize("rows", [40, 5])
def test_float32_agrees_with_float64(rows):
    model, x, y = mlp(rows=rows, dtype="float32")
    short = bbb.log_evidence(model, x, y)
    assert short.dtype == jnp.float32
    with jax.enable_x64(True):
        exact = bbb.log_evidence(jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), model), x, y)
    np.testing.assert_allclose(short, exact, rtol=1e-4)


def test_an_ensemble_whose_members_learned_noises_of_their_own_is_told_to_pass_one():
    network = bbb.nn.linear(2, 1)
    likelihood = bbb.likelihoods.Gaussian(0.5, learn=True)
    model = bbb.bayesianize(network.apply, network.init(KEY), prior=bbb.priors.Normal(), likelihood=likelihood)
    x = np.linspace(-1, 1, 8).reshape(4, 2)
    several, _ = bbb.fit(KEY, model, x, x[:, :1], steps=1, restarts=bbb.train.Restarts(2, network.init))
    with pytest.raises(bbb.errors.InputError, match="a model of one posterior, got one of 2 members"):
        bbb.log_evidence(several, x, x[:, :1])
    assert bbb.laplace(KEY, several, x, x[:, :1]).members == 2
