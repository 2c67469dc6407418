"""Pruning takes the weights of the lowest signal-to-noise ratio, and leaves a posterior that everything works on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.evaluate.pruning import prune, pruning_curve, signal_to_noise


def posterior_of(dtype="float32"):
    mean = {"a": jnp.asarray([[3.0, -0.2], [0.0, 1.0]], dtype), "b": jnp.asarray([-2.0, 0.1], dtype)}
    std = {"a": jnp.asarray([[1.0, 0.1], [0.5, 2.0]], dtype), "b": jnp.asarray([0.1, 1.0], dtype)}
    return bbb.MeanField(mean, jax.tree.map(jnp.log, std))


@pytest.fixture(scope="module")
def model():
    network = bbb.nn.sequential(bbb.nn.linear(2, 8), bbb.nn.relu, bbb.nn.linear(8, 1))
    likelihood = bbb.likelihoods.Gaussian(0.5)
    params = network.init(jax.random.key(0))
    return bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=likelihood, std=0.1)


def pruned_model(model, fraction):
    return dataclasses.replace(model, posterior=prune(model.posterior, fraction))


def test_the_ratio_is_in_decibels():
    ratios = signal_to_noise(posterior_of())
    want = [[10 * np.log10(3), 10 * np.log10(2)], [-np.inf, -10 * np.log10(2)]]
    np.testing.assert_allclose(ratios["a"], want, rtol=1e-6)
    np.testing.assert_allclose(ratios["b"], [10 * np.log10(20), -10], rtol=1e-6)


# The ratios are, from the lowest: 0 (a), 0.1 (b), 0.5 (a), 2 (a), 3 (a), 20 (b): one order over all leaves.
def test_the_lowest_of_the_whole_network_go_first(dtype):
    posterior = posterior_of(dtype)
    half = prune(posterior, 0.5)
    np.testing.assert_array_equal(half.mean["a"], posterior.mean["a"] * jnp.asarray([[1, 1], [0, 0]], dtype))
    np.testing.assert_array_equal(half.mean["b"], posterior.mean["b"] * jnp.asarray([1, 0], dtype))
    kept = half.mean["a"] != 0
    np.testing.assert_array_equal(half.log_std["a"][kept], posterior.log_std["a"][kept])
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(half))


@pytest.mark.parametrize(("fraction", "zeros"), [(0, 1), (0.2, 1), (0.34, 2), (0.75, 4), (1, 6)])
def test_as_many_are_pruned_as_were_asked_for(fraction, zeros):
    pruned = prune(posterior_of(), fraction)  # one mean is 0 to begin with
    assert sum(int(jnp.sum(leaf == 0)) for leaf in jax.tree.leaves(pruned.mean)) == zeros


def test_nothing_is_pruned_at_0_and_ties_are_cut_at_the_number():
    posterior = posterior_of()
    for new, old in zip(jax.tree.leaves(prune(posterior, 0.0)), jax.tree.leaves(posterior), strict=True):
        np.testing.assert_array_equal(new, old)
    ties = bbb.MeanField.around(jnp.ones(10), 0.1)
    assert int(jnp.sum(prune(ties, 0.3).mean == 0)) == 3


def test_point_estimates_are_left_alone_and_not_counted():
    params = {"a": jnp.asarray([1.0, 2.0, 3.0, 4.0]), "b": jnp.full(100, 1e-9)}
    posterior = bbb.MeanField.around(params, 0.1, where={"a": True, "b": False})
    pruned = prune(posterior, 0.5)
    np.testing.assert_array_equal(pruned.mean["a"], [0, 0, 3, 4])
    np.testing.assert_array_equal(pruned.mean["b"], params["b"])
    assert pruned.log_std["b"] is None
    assert signal_to_noise(posterior)["b"] is None


def test_a_pruned_weight_moves_no_prediction(model):
    half = pruned_model(model, 0.5)
    zero = dataclasses.replace(  # the same, with a std of 0
        half.posterior,
        log_std=jax.tree.map(lambda m, s: jnp.where(m == 0, -jnp.inf, s), half.posterior.mean, half.posterior.log_std),
    )
    x = np.random.default_rng(0).normal(size=(5, 2))
    exact = bbb.draws(jax.random.key(1), dataclasses.replace(half, posterior=zero), x, draws=20)
    np.testing.assert_array_equal(bbb.draws(jax.random.key(1), half, x, draws=20), exact)


@pytest.mark.slow
def test_everything_works_on_a_pruned_posterior(model, tmp_path):
    pruned = pruned_model(model, 0.75)
    key, x, y = jax.random.key(0), jnp.ones((3, 2)), jnp.ones((3, 1))
    params = bbb.posteriors.sample(key, pruned.posterior)
    assert np.isfinite(bbb.posteriors.log_prob(pruned.posterior, params))
    assert np.isfinite(bbb.priors.kl(pruned.posterior, model.prior))
    for forward in (bbb.forwards.weight_sampling(model.apply), bbb.forwards.local_reparam(model.apply)):
        gradient = jax.grad(lambda p, forward=forward: jnp.sum(jnp.square(forward(key, p, x) - y)))(pruned.posterior)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    closed = bbb.moments.moments(model.apply)(pruned.posterior, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(closed))
    bbb.save(tmp_path / "model.safetensors", pruned)
    again = bbb.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.posterior.mean[0]["weight"], pruned.posterior.mean[0]["weight"])


def test_the_curve_measures_each_fraction(model):
    def zeros(model):
        return sum(np.sum(leaf == 0) for leaf in jax.tree.leaves(model.posterior.mean))

    weights = sum(leaf.size for leaf in jax.tree.leaves(model.posterior.mean))
    curve = pruning_curve(model, np.array([0, 0.5, 1]), zeros)
    np.testing.assert_array_equal(curve, [0, round(weights / 2), weights])


@pytest.mark.parametrize(
    ("fractions", "text"),
    [
        ([0.5, 0.2], "fractions in rising order, at least one, got [0.5, 0.2]"),
        ([], "fractions in rising order, at least one"),
        ([0.5, 75], "a fraction from 0 to 1, got 75"),
        ([-0.5], "fraction to be one finite number of at least 0"),
        ([np.nan], "fraction to be one finite number of at least 0"),
    ],
)
def test_fractions_that_are_none_are_refused_before_any_is_measured(model, fractions, text):
    with pytest.raises(bbb.errors.InputError) as caught:
        pruning_curve(model, fractions, pytest.fail)
    assert text in str(caught.value)


# --- ensembles: each member is pruned as it would be alone -----------------------------------------------------------


def members_of(dtype="float32"):
    """Two posteriors, the second of which is a hundred times less sure, and both as one ensemble."""
    first = posterior_of(dtype)
    second = bbb.MeanField(
        jax.tree.map(lambda m: -2 * m[::-1], first.mean), jax.tree.map(lambda s: s + 4, first.log_std)
    )
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    return [first, second], bbb.posteriors.Ensemble(both)


def test_the_ratios_of_an_ensemble_are_those_of_its_members():
    members, ensemble = members_of()
    ratios = signal_to_noise(ensemble)
    for k, member in enumerate(members):
        for found, alone in zip(jax.tree.leaves(ratios), jax.tree.leaves(signal_to_noise(member)), strict=True):
            np.testing.assert_array_equal(found[k], alone)


@pytest.mark.parametrize("fraction", [0, 0.34, 0.5, 1])
def test_each_member_of_an_ensemble_is_pruned_as_it_would_be_alone(dtype, fraction):
    members, ensemble = members_of(dtype)
    pruned = prune(ensemble, fraction)
    assert isinstance(pruned, bbb.posteriors.Ensemble)
    for k, member in enumerate(members):
        for found, alone in zip(jax.tree.leaves(pruned[k]), jax.tree.leaves(prune(member, fraction)), strict=True):
            np.testing.assert_array_equal(found, alone)
            assert found.dtype == dtype


def test_point_estimates_of_an_ensemble_are_left_alone():
    params = {"a": jnp.asarray([1.0, 2.0, 3.0, 4.0]), "b": jnp.full(100, 1e-9)}
    alone = bbb.MeanField.around(params, 0.1, where={"a": True, "b": False})
    pruned = prune(bbb.posteriors.Ensemble(jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), alone)), 0.5)
    np.testing.assert_array_equal(pruned.members.mean["a"], [[0, 0, 3, 4], [0, 0, -3, -4]])
    assert pruned.members.log_std["b"] is None


def test_the_curve_of_an_ensemble_measures_the_mixture_of_its_pruned_members(model):
    members = [model, dataclasses.replace(model, posterior=jax.tree.map(lambda leaf: leaf - 0.1, model.posterior))]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(member.posterior for member in members))
    ensemble = dataclasses.replace(model, posterior=bbb.posteriors.Ensemble(both))
    x, key = np.random.default_rng(0).normal(size=(5, 2)), jax.random.key(1)
    seen = []
    pruning_curve(ensemble, (0, 0.5), lambda m: seen.append(bbb.draws(key, m, x, draws=6)) or 0)
    for k, member in enumerate(members):
        alone = bbb.draws(key, pruned_model(member, 0.5), x, draws=6)
        np.testing.assert_allclose(seen[1][k::2], alone[k::2], rtol=1e-6, atol=1e-7)
    assert not np.allclose(seen[0], seen[1], atol=1e-3)
