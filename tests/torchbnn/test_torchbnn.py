"""torchbnn's cost in bbb's terms: what it is, and which noise it assumes."""

import dataclasses
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import bbb
from bbb.core.jit import jit
from bbb.objectives.objective import elbo_cost
from bbb.torchbnn.cost import LastLayerWarning, TorchbnnCost, cross_entropy_cost, last_bias_kl, mse_cost
from bbb.torchbnn.kl_weight import explain_kl_weight, implied_noise_std

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
ROWS, OUTPUTS, DRAWS = 6, 2, 3
X, Y = RNG.normal(size=(ROWS, 4)), RNG.normal(size=(ROWS, OUTPUTS))
EPS = RNG.normal(size=(DRAWS, 4, OUTPUTS))
WEIGHTS = 4 * OUTPUTS


def model_of(dtype, noise=1.0):
    return bbb.bayesianize(
        lambda w, x: x @ w,
        jnp.asarray(RNG.normal(size=(4, OUTPUTS)), dtype),
        prior=bbb.priors.Normal(0.0, 0.5),
        likelihood=bbb.likelihoods.Gaussian(noise),
        std=0.2,
    )


def cost_of(cost, model, kl_weight, dtype):
    y = jnp.asarray(Y, dtype)
    return cost(model, outputs_of(model, dtype), y, np.ones(ROWS, dtype), ROWS, kl_weight)


def test_the_cost_is_mse_plus_weighted_kl_per_weight(dtype):
    model = model_of(dtype)
    got = cost_of(mse_cost, model, 0.3, dtype)
    weights = np.float64(model.posterior.mean) + np.float64(model.posterior.std) * EPS
    mse = np.mean((X @ weights - Y) ** 2)
    kl = float(bbb.priors.kl(model.posterior, model.prior))
    np.testing.assert_allclose(got.data_term, mse, rtol=1e-5)
    np.testing.assert_allclose(got.total, mse + 0.3 * kl / WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(got.kl, kl, rtol=1e-6)


def test_its_gradient_is_that_of_the_elbo_with_the_implied_noise(dtype):
    kl_weight = 0.3
    noise = implied_noise_std(kl_weight, ROWS, OUTPUTS, WEIGHTS)
    model = model_of(dtype, noise)

    def slope(cost, weight):
        def total(posterior):
            return cost_of(cost, bbb.BNN(model.apply, posterior, model.prior, model.likelihood), weight, dtype).total

        return jit(jax.grad(total))(model.posterior)

    ours = slope(elbo_cost, 1.0)
    theirs = slope(mse_cost, kl_weight)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b * WEIGHTS / kl_weight, rtol=1e4 * np.finfo(dtype).eps, atol=1e-4)


def test_padding_rows_do_not_count(dtype):
    model = model_of(dtype)
    outputs, y = jnp.asarray(RNG.normal(size=(2, ROWS, OUTPUTS)), dtype), jnp.asarray(Y, dtype)
    weights = jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0, 0.0], dtype)
    padded = mse_cost(model, outputs, y, weights, ROWS, 0.1)
    cut = mse_cost(model, outputs[:, :4], y[:4], weights[:4], ROWS, 0.1)
    np.testing.assert_allclose(padded.total, cut.total, rtol=100 * np.finfo(dtype).eps)


def test_the_demo_assumes_a_noise_of_0_029_where_the_data_has_0_577():
    task = bbb.tasks.Settings()
    weights = 3 * task.hidden + 1
    assert implied_noise_std(task.kl_weight, 500, 1, weights) == pytest.approx(math.sqrt(0.01 * 500 / 6002))
    assert round(implied_noise_std(task.kl_weight, 500, 1, weights), 3) == 0.029
    assert round(bbb.tasks.NOISE_STD, 3) == 0.577


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.0, 1, 1, 1), "kl_weight to be finite and above 0"),
        ((math.nan, 1, 1, 1), "kl_weight to be finite and above 0"),
        ((1.0, 0, 1, 1), "num_data to be a whole number of at least 1"),
        ((1.0, 1, 1.5, 1), "outputs to be a whole number of at least 1"),
        ((1.0, 1, 1, True), "weights to be a whole number of at least 1"),
    ],
)
def test_numbers_without_meaning_are_refused(arguments, text):
    with pytest.raises(bbb.errors.InputError, match=text):
        implied_noise_std(*arguments)


# --- its other costs -------------------------------------------------------------------------------------------------

LABELS = np.array([0, 1, 1, 0, 1, 0])


def classifier(dtype):
    return dataclasses.replace(model_of(dtype), likelihood=bbb.likelihoods.Categorical())


def outputs_of(model, dtype):
    forward = bbb.forwards.weight_sampling(model.apply)
    x, eps = jnp.asarray(X, dtype), jnp.asarray(EPS, dtype)
    return jit(jax.vmap(lambda e, q: forward.evaluate(e, q, x), (0, None)))(eps, model.posterior)


def test_the_cross_entropy_is_the_mean_over_draws_and_rows(dtype):
    model = classifier(dtype)
    outputs = outputs_of(model, dtype)
    got = cross_entropy_cost(model, outputs, jnp.asarray(LABELS), jnp.ones(ROWS, dtype), ROWS, 0.3)
    logits = np.float64(outputs)
    expected = scipy.special.logsumexp(logits, axis=2) - logits[:, np.arange(ROWS), LABELS]
    kl = float(bbb.priors.kl(model.posterior, model.prior))
    np.testing.assert_allclose(got.data_term, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(got.total, expected.mean() + 0.3 * kl / WEIGHTS, rtol=1e-5)
    assert got.total.dtype == dtype


def test_the_cross_entropy_counts_no_padding_rows(dtype):
    model = classifier(dtype)
    outputs, labels = outputs_of(model, dtype), jnp.asarray(LABELS)
    padded = cross_entropy_cost(model, outputs, labels, jnp.asarray([1, 1, 1, 1, 0, 0], dtype), ROWS, 0.1)
    cut = cross_entropy_cost(model, outputs[:, :4], labels[:4], jnp.ones(4, dtype), ROWS, 0.1)
    np.testing.assert_allclose(padded.total, cut.total, rtol=100 * np.finfo(dtype).eps)


def test_the_sum_reduction_is_the_mean_times_the_weights(dtype):
    model = model_of(dtype)
    total = cost_of(TorchbnnCost("mse", reduction="sum"), model, 0.3, dtype)
    mean = cost_of(mse_cost, model, 0.3, dtype)
    np.testing.assert_allclose(total.total - total.data_term, WEIGHTS * (mean.total - mean.data_term), rtol=1e-4)
    np.testing.assert_array_equal(total.kl, mean.kl)


def test_a_point_estimate_is_not_counted(dtype):
    model = model_of(dtype)
    model = bbb.bayesianize(
        lambda w, x: x @ w["kernel"] + w["bias"][None],
        {"kernel": model.posterior.mean, "bias": jnp.ones(OUTPUTS, dtype)},
        prior=model.prior,
        likelihood=model.likelihood,
    )
    part = bbb.MeanField(model.posterior.mean, {"kernel": model.posterior.log_std["kernel"], "bias": None})
    model = dataclasses.replace(model, posterior=part)
    cost = mse_cost(
        model, jnp.zeros((1, ROWS, OUTPUTS), dtype), jnp.asarray(Y, dtype), jnp.ones(ROWS, dtype), ROWS, 1.0
    )
    np.testing.assert_allclose(cost.total - cost.data_term, cost.kl / WEIGHTS, rtol=1e-5)


def test_equal_costs_are_one_to_the_compiler():
    assert TorchbnnCost("mse", "sum") == TorchbnnCost("mse", "sum")
    assert hash(TorchbnnCost("mse", "sum")) == hash(TorchbnnCost("mse", "sum"))
    assert TorchbnnCost("mse", "sum") != TorchbnnCost("mse", "mean")
    assert TorchbnnCost("cross_entropy").__name__ == "cross_entropy_cost"


def test_fit_takes_them_with_classes_and_counts_their_weights():
    network = bbb.nn.sequential(bbb.nn.linear(4, 8), bbb.nn.tanh, bbb.nn.linear(8, 2))
    model = bbb.bayesianize(
        network.apply, network.init(KEY), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Categorical()
    )
    labels = (X[:, 0] > 0).astype(int)
    _, history = bbb.fit(
        KEY,
        model,
        X,
        labels,
        steps=200,
        batch_size=4,
        objective=bbb.train.Objective(TorchbnnCost("cross_entropy", reduction="sum"), kl_weight=0.01),
        progress=False,
    )
    np.testing.assert_allclose(history.loss - history.data_term, 0.01 * history.kl, rtol=1e-3, atol=1e-4)
    assert history.cost == "cross_entropy_cost"
    assert history.loss[-20:].mean() < history.loss[:20].mean()


def test_the_kl_of_the_last_bias_warns_and_says_what_it_is():
    network = bbb.nn.sequential(bbb.nn.linear(4, 8), bbb.nn.tanh, bbb.nn.linear(8, 2))
    model = bbb.bayesianize(
        network.apply,
        network.init(KEY),
        prior=bbb.priors.Normal((0.0, (), 1.0), (1.0, (), {"weight": 0.5, "bias": 0.25})),
        likelihood=bbb.likelihoods.Gaussian(1.0),
    )
    with pytest.warns(LastLayerWarning, match="the last layer's bias alone") as record:
        got = last_bias_kl(model.posterior, model.prior)
    assert record[0].filename == __file__
    last = bbb.MeanField(model.posterior.mean[2]["bias"], model.posterior.log_std[2]["bias"])
    expected = bbb.priors.kl(last, bbb.priors.Normal(1.0, 0.25))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    with pytest.warns(LastLayerWarning) as record:
        cost = TorchbnnCost("mse", last_layer_only=True)
    assert record[0].filename == __file__
    parts = cost(model, jnp.zeros((1, 3, 2)), jnp.ones((3, 2)), jnp.ones(3), 3, 0.5)
    np.testing.assert_allclose(parts.total - parts.data_term, 0.5 * expected, rtol=1e-5)
    np.testing.assert_allclose(parts.kl, bbb.priors.kl(model.posterior, model.prior), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TorchbnnCost("nll"), 'loss to be "mse" or "cross_entropy", got \'nll\''),
        (lambda: TorchbnnCost("mse", reduction="none"), 'reduction to be "mean" or "sum", got \'none\''),
        (lambda: explain_kl_weight(1.0, 1, 1, 1, loss="l1"), 'loss to be "mse" or "cross_entropy"'),
        (lambda: explain_kl_weight(-1.0, 1, 1, 1), "kl_weight to be finite and above 0"),
    ],
)
def test_unknown_words_are_refused(make, text):
    with pytest.raises(bbb.errors.InputError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.filterwarnings("ignore::bbb.torchbnn.LastLayerWarning")
def test_the_last_bias_needs_layers_and_torchbnns_prior():
    class Other:
        kl = staticmethod(lambda posterior: jnp.zeros(()))

    with pytest.raises(bbb.errors.InputError, match=r"a prior\.Normal, the one prior of torchbnn, got a Other"):
        last_bias_kl(model_of("float32").posterior, Other())
    with pytest.raises(
        bbb.errors.InputError, match=r"a bbb\.nn network with a Gaussian weight, got a tree without one"
    ):
        last_bias_kl(model_of("float32").posterior, bbb.priors.Normal())


# --- what a kl_weight means ------------------------------------------------------------------------------------------


# Its own definition: with the noise or temperature it names, the ELBO has torchbnn's gradient but for a factor.
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_the_explanation_gives_the_elbo_with_the_same_gradient(loss, reduction):
    kl_weight = 0.3
    said = explain_kl_weight(kl_weight, ROWS, OUTPUTS, WEIGHTS, loss=loss, reduction=reduction)
    if loss == "mse":
        model, y = model_of("float32", said.noise_std), jnp.asarray(Y, "float32")
    else:
        model, y = classifier("float32"), jnp.asarray(LABELS)

    def slope(cost, weight):
        def total(posterior):
            candidate = dataclasses.replace(model, posterior=posterior)
            outputs = outputs_of(candidate, "float32")
            return cost(candidate, outputs, y, jnp.ones(ROWS), ROWS, weight).total

        return jnp.concatenate([g.ravel() for g in jax.tree.leaves(jit(jax.grad(total))(model.posterior))])

    ours = slope(elbo_cost, said.temperature)
    theirs = slope(TorchbnnCost(loss, reduction), kl_weight)
    np.testing.assert_allclose(ours / jnp.linalg.norm(ours), theirs / jnp.linalg.norm(theirs), atol=1e-5)


def test_the_explanation_says_what_to_write_instead():
    said = explain_kl_weight(0.01, 500, 1, 3001)
    assert round(said.noise_std, 3) == 0.029
    assert "Gaussian noise of std 0.02886 (in units of y)" in str(said)
    assert "likelihood=bbb.likelihoods.Gaussian(0.02886)" in str(said)
    assert "bbb.likelihoods.Gaussian(std, learn=True)" in str(said)
    iris = explain_kl_weight(0.01, 150, 3, 803, loss="cross_entropy")
    assert iris.noise_std is None
    assert iris.temperature == pytest.approx(0.01 * 150 / 803)
    assert "whose KL is multiplied by 0.001868" in str(iris)
    assert "fit(..., objective=bbb.train.Objective(kl_weight=0.001868))" in str(iris)


def test_torch_is_not_imported():
    assert "torch" not in sys.modules[bbb.torchbnn.__name__].__dict__
