"""Scores of strange rows: what they are of, far from the data and near it, and the same in any tiles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import likelihoods, metrics, priors
from bbb.decide.abstention import feature_distance, ood_scores
from bbb.networks import nn

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(30, 2))
NETWORK = nn.sequential(nn.linear(2, 4), nn.tanh, nn.linear(4, 3))


def made(network, likelihood, where=None, **how):
    params = network.init(jax.random.key(1))
    given = {} if where is None else {"where": where}
    return bbb.bayesianize(network.apply, params, prior=priors.Normal(0.0, 2.0), likelihood=likelihood, **given, **how)


@pytest.fixture(scope="module")
def classifier():
    return made(NETWORK, likelihoods.Categorical(), std=0.3)


def test_the_scores_of_classes_are_the_entropies_of_the_predictive(classifier):
    entropy = bbb.predict(KEY, classifier, X, draws=64).y.entropy
    for kind, part in (("mutual_information", entropy.epistemic), ("entropy", entropy.total)):
        found = ood_scores(KEY, classifier, X, kind=kind, draws=64)
        assert found.shape == (30,)
        np.testing.assert_array_equal(found, part)


def test_a_mesh_and_rows_at_once_give_the_same_scores(classifier):
    alone = ood_scores(KEY, classifier, X, draws=64)
    for how in ({"mesh": jax.make_mesh((1,), ("draws",))}, {"rows": "together"}, {"memory": "2MB"}):
        np.testing.assert_allclose(ood_scores(KEY, classifier, X, draws=64, **how), alone, rtol=1e-4, atol=1e-6)


def test_std_is_the_root_of_the_summed_variances_of_the_function(classifier):
    std = bbb.predict(KEY, classifier, X, draws=64).f.std
    found = ood_scores(KEY, classifier, X, kind="std", draws=64)
    np.testing.assert_allclose(found, np.sqrt(np.sum(std**2, axis=1)), rtol=1e-6)


def test_several_classes_a_row_have_the_mean_of_their_entropies():
    model = made(NETWORK, likelihoods.Bernoulli(), std=0.3)
    entropy = bbb.predict(KEY, model, X, draws=64).y.entropy
    assert entropy.total.shape == (30, 3)
    found = ood_scores(KEY, model, X, kind="entropy", draws=64)
    np.testing.assert_allclose(found, np.mean(entropy.total, axis=1), rtol=1e-6)


def squares(distance, x):
    return np.square(np.asarray(distance(x), np.float64))


@pytest.mark.parametrize("structure", ["full", "kron"])
def test_of_a_linear_network_it_is_the_mahalanobis_norm_of_the_inputs(dtype, structure):
    reference, x = X[:20].astype(dtype), 3 * X[20:].astype(dtype)
    model = made(nn.linear(2, 3), likelihoods.Categorical())
    features, rows = (np.c_[part, np.ones(len(part))] for part in (reference, x))
    moments = features.T @ features + np.eye(3) / 2.0**2
    exact = 3 * np.sum(rows @ np.linalg.inv(moments) * rows, axis=1)  # each of three outputs has the same features
    found = squares(feature_distance(KEY, model, reference, structure=structure), x)
    kept = 1e-9 if dtype == "float64" else 1e-4
    if structure == "full":
        np.testing.assert_allclose(found, exact, rtol=kept)
    else:  # the weight and the bias are taken for independent
        weight, bias = (
            np.linalg.inv(part.T @ part + np.eye(part.shape[1]) / 4) for part in (reference, features[:, 2:])
        )
        apart = 3 * (np.sum(x @ weight * x, axis=1) + bias[0, 0])
        np.testing.assert_allclose(found, apart, rtol=max(kept, 1e-6))


def test_with_one_reference_row_after_the_other_nothing_gets_farther(dtype):
    model = made(NETWORK, likelihoods.Categorical())
    x = X[20:].astype(dtype)
    some, more = (feature_distance(KEY, model, X[:n].astype(dtype), structure="full")(x) for n in (5, 20))
    assert (more <= some * (1 + 1e-5)).all()
    assert (more < 0.9 * some).any()


def test_rows_far_from_the_data_are_found_and_their_labels_do_not_matter(classifier):
    far = X + np.array([8.0, -8.0])
    distance = feature_distance(KEY, classifier, X[:20])
    assert metrics.auroc(distance(X[20:]), distance(far)) == 1
    numbers = dataclasses.replace(classifier, likelihood=likelihoods.Gaussian(0.1, learn=True))
    np.testing.assert_allclose(feature_distance(KEY, numbers, X[:20])(far), distance(far), rtol=1e-6)


def test_only_the_mean_of_the_posterior_counts(classifier):
    wide = made(NETWORK, likelihoods.Categorical(), std=2.0)
    one, other = (feature_distance(KEY, model, X[:20])(X) for model in (classifier, wide))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_of_members_it_is_the_root_mean_square(classifier):
    means = (classifier.posterior, jax.tree.map(lambda leaf: leaf * 1.5, classifier.posterior))
    both = bbb.posteriors.Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *means))
    ensemble = dataclasses.replace(classifier, posterior=both)
    each = [squares(feature_distance(KEY, dataclasses.replace(classifier, posterior=q), X[:20]), X) for q in means]
    found = squares(feature_distance(KEY, ensemble, X[:20]), X)
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-5)


def test_a_row_has_the_same_distance_alone_and_among_others(classifier):
    distance = feature_distance(KEY, classifier, X[:20])
    together = distance(np.tile(X, (30, 1)))
    np.testing.assert_allclose(together.reshape(30, 30), np.tile(distance(X), (30, 1)), rtol=1e-5)
    np.testing.assert_allclose(distance(X[:1]), together[:1], rtol=1e-5)


def test_the_memory_of_a_distance_changes_nothing_but_tiles(classifier):
    small, large = (feature_distance(KEY, classifier, X[:20], memory=memory) for memory in ("1MB", "64MB"))
    np.testing.assert_allclose(small(X), large(X), rtol=1e-5)


def test_a_distance_shows_its_rows_and_covariance(classifier):
    text = repr(feature_distance(KEY, classifier, X[:20]))
    assert text.splitlines() == ["FeatureDistance", "  from        20 rows", "  covariance  Kronecker"]
