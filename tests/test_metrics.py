"""The split of a classifier's entropy: its identities, its extremes; and that it tells digits from noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import bbb
from bbb.metrics import predictive_entropy

RNG = np.random.default_rng(0)
entropies = jax.jit(predictive_entropy)
P = RNG.dirichlet(np.full(4, 0.5), size=(50, 6))  # (draws, rows, classes)


def test_the_entropies_are_those_of_scipy_and_add_up(dtype):
    got = entropies(jnp.asarray(P, dtype))
    assert all(part.shape == (6,) and part.dtype == dtype for part in got)
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(got.total, scipy.stats.entropy(P.mean(0), axis=-1), rtol=tolerance)
    np.testing.assert_allclose(got.aleatoric, scipy.stats.entropy(P, axis=-1).mean(0), rtol=tolerance)
    np.testing.assert_allclose(got.epistemic, scipy.stats.entropy(P, P.mean(0)[None], axis=-1).mean(0), rtol=tolerance)
    np.testing.assert_allclose(got.total, got.aleatoric + got.epistemic, rtol=tolerance)


# Draws that agree leave no doubt about the weights: exactly 0, where a difference of entropies would round.
def test_draws_that_agree_have_no_epistemic_entropy(dtype):
    got = predictive_entropy(jnp.asarray(np.repeat(P[:1], 4, axis=0), dtype))
    np.testing.assert_array_equal(got.epistemic, 0.0)
    np.testing.assert_allclose(got.total, got.aleatoric, rtol=1e-6)


def test_sure_draws_that_disagree_have_epistemic_entropy_alone(dtype):
    got = entropies(jnp.asarray(np.eye(4)[:, None], dtype))  # draw d is sure of class d
    np.testing.assert_array_equal(got.aleatoric, 0.0)
    np.testing.assert_allclose(got.epistemic, np.log(4), rtol=1e-6)


def test_doubt_that_all_draws_share_is_aleatoric(dtype):
    got = entropies(np.full((3, 1, 4), 0.25, dtype))
    np.testing.assert_allclose(got.aleatoric, np.log(4), rtol=1e-6)
    np.testing.assert_array_equal(got.epistemic, 0.0)


def test_it_compiles_and_has_a_gradient():
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(predictive_entropy(p).total)))(jnp.asarray(P, "float32"))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("p", "error", "text"),
    [
        (P[0], bbb.ShapeError, "probabilities of shape (draws, rows, classes), got (6, 4)"),
        (P[:0], bbb.ShapeError, "got (0, 6, 4)"),
        (np.log(P), bbb.InputError, "probabilities of at least 0 that sum to 1"),
        (2 * P, bbb.InputError, "a sum off by 1.0"),
        (np.full((1, 1, 2), np.nan), bbb.InputError, "a sum off by nan"),
    ],
)
def test_what_is_no_probability_is_refused(p, error, text):
    with pytest.raises(error) as caught:
        predictive_entropy(p)
    assert text in str(caught.value)


def test_a_flax_classifier_of_digits_is_right_and_knows_what_is_no_digit():
    datasets, metrics = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.metrics")
    linen = pytest.importorskip("flax.linen")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    rng = np.random.default_rng(0)
    test, train = np.split(rng.permutation(len(x)), [len(x) // 5])

    # Width, prior and steps were chosen on rows held out of the training rows of four other splits.
    network, steps = linen.Sequential([linen.Dense(200), linen.relu, linen.Dense(10)]), 2500
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # flax is not strict
        params = network.init(jax.random.key(0), x[:1])
        prior, likelihood = bbb.prior.Normal(0.0, 2.0), bbb.likelihood.Categorical()
        model = bbb.bayesianize(network, params, prior=prior, likelihood=likelihood)
        optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
        how = {"steps": steps, "batch_size": 128, "optimizer": optimizer, "forward": bbb.local_reparam(model.apply)}
        model, _ = bbb.fit(jax.random.key(0), model, x[train], y[train], **how, progress=False)
        shuffled = rng.permuted(x[test], axis=1)
        seen, unseen = (bbb.predict(jax.random.key(2), model, rows, draws=200).y for rows in (x[test], shuffled))
    assert np.mean(seen.classes == y[test]) >= 0.97
    entropy = np.concatenate([seen.entropy.total, unseen.entropy.total])
    assert metrics.roc_auc_score(np.repeat([0, 1], len(test)), entropy) > 0.9
