"""IVON against its algorithm, its authors' program, and the exact optimum of a linear network."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb import MeanField
from bbb.errors import InputError
from bbb.train import ivon

KEY = jax.random.key(3)
N, D = 50, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D))
Y = X @ RNG.normal(size=D) + 0.3 * RNG.normal(size=N)
NOISES = RNG.normal(size=(40, D))
SETTINGS = {"rate": 0.1, "hessian": 0.5, "beta2": 0.9}


def algorithm_1(beta1, delta, rate, hessian, beta2):
    """Do the paper's steps for half the mean of the squares: return m and N·(h + δ) after each of them."""
    m, h, g = np.full(D, 0.2), np.full(D, hessian), np.zeros(D)
    rate = rate * (hessian + delta)
    for t, noise in enumerate(NOISES, 1):
        sigma = 1 / np.sqrt(N * (h + delta))
        weights = m + sigma * noise
        gradient = -X.T @ (Y - X @ weights) / N
        estimate = gradient * (weights - m) / sigma**2
        g = beta1 * g + (1 - beta1) * gradient
        h = beta2 * h + (1 - beta2) * estimate + 0.5 * (1 - beta2) ** 2 * (h - estimate) ** 2 / (h + delta)
        m = m - rate * (g / (1 - beta1**t) + delta * m) / (h + delta)
        yield m, N * (h + delta)


def ours(beta1, delta, rate, hessian, beta2):
    """Do our steps for the same loss and noise, by the gradient of the negative ELBO; the prior is flat if δ is 0."""
    start = jnp.full(D, -0.5 * np.log(N * (hessian + delta)))
    posterior = MeanField({"w": jnp.full(D, 0.2)}, {"w": start})
    optimizer = ivon(rate * (hessian + delta), beta1=beta1, beta2=beta2, clip=math.inf, others=optax.sgd(0.1))
    state = optimizer.init(posterior)
    for noise in NOISES:

        def negative_elbo(q, noise=noise):
            weights = q.weights({"w": jnp.asarray(noise)})["w"]
            flat = -jnp.sum(q.log_std["w"])
            kl = flat if delta == 0 else bbb.priors.kl(q, bbb.priors.Normal(0.0, (N * delta) ** -0.5))
            return 0.5 * jnp.sum(jnp.square(Y - X @ weights)) + kl

        updates, state = optimizer.update(jax.grad(negative_elbo)(posterior), state, posterior)
        posterior = optax.apply_updates(posterior, updates)
        yield np.asarray(posterior.mean["w"]), np.asarray(jnp.exp(-2 * posterior.log_std["w"]))


@pytest.mark.parametrize(("beta1", "delta"), [(0.0, 0.02), (0.9, 0.0)])
def test_its_steps_are_those_of_algorithm_1(beta1, delta):
    """With an average of gradients for a flat prior, whose part of the gradient the paper averages not."""
    with jax.enable_x64(True):
        for (mean, precision), (exact_mean, exact) in zip(
            ours(beta1, delta, **SETTINGS), algorithm_1(beta1, delta, **SETTINGS), strict=True
        ):
            np.testing.assert_allclose(mean, exact_mean, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(precision, exact, rtol=1e-12)


@pytest.mark.parametrize(("beta1", "delta"), [(0.0, 0.02), (0.9, 0.0)])
def test_its_steps_are_those_of_its_authors(beta1, delta, monkeypatch):
    torch = pytest.importorskip("torch")
    program = pytest.importorskip("ivon", reason="the authors' program: pip install ivon-opt")
    left = iter(NOISES)
    monkeypatch.setattr(torch, "randn", lambda *shape, **kinds: torch.tensor(next(left)))
    weights = torch.nn.Parameter(torch.full((D,), 0.2, dtype=torch.float64))
    rate, hessian, beta2 = SETTINGS.values()
    theirs = program.IVON([weights], lr=rate, ess=N, hess_init=hessian, beta1=beta1, beta2=beta2, weight_decay=delta)
    x, y = torch.tensor(X), torch.tensor(Y)
    with jax.enable_x64(True):
        for mean, precision in ours(beta1, delta, **SETTINGS):
            with theirs.sampled_params(train=True):
                theirs.zero_grad()
                (0.5 * (y - x @ weights).square().mean()).backward()
            theirs.step()
            np.testing.assert_allclose(mean, weights.detach().numpy(), rtol=1e-12, atol=1e-12)
            hess = theirs.param_groups[0]["hess"].numpy()
            np.testing.assert_allclose(precision, N * (hess + delta), rtol=1e-12)


def regression(noise=0.3, **options):
    """Return a linear model, and its mean-field optimum: the exact mean, and 1/√(diagonal of the precision)."""
    precision = X.T @ X / noise**2 + np.eye(D)
    mean = np.linalg.solve(precision, X.T @ Y / noise**2)
    model = bbb.bayesianize(
        lambda w, x: x @ w,
        np.zeros((D, 1), np.float32),
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(noise, learn=options.pop("learn", False)),
        **options,
    )
    return model, mean[:, None], np.diag(precision)[:, None] ** -0.5


def test_of_a_linear_network_it_finds_the_exact_mean_field():
    """By the bound without noise, to rounding: in a third of the steps that the memory of 1/(1 − beta2) has."""
    model, mean, std = regression()
    options = {"optimizer": ivon(0.5, beta1=0.0, beta2=0.9), "objective": bbb.objectives.exact_elbo_cost}
    trained, _ = bbb.fit(KEY, model, X, Y[:, None], steps=200, **options)
    np.testing.assert_allclose(trained.posterior.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(trained.posterior.std, std, rtol=1e-4)


def test_by_draws_it_comes_as_close_as_their_noise_lets_it():
    model, mean, std = regression()
    optimizer = ivon(optax.cosine_decay_schedule(0.3, 2_000), beta2=0.99)
    trained, _ = bbb.fit(
        KEY, model, X, Y[:, None], steps=2_000, optimizer=optimizer, objective=bbb.train.Objective(draws=8)
    )
    assert (np.abs(trained.posterior.mean - mean) < 0.2 * std).all()
    np.testing.assert_allclose(trained.posterior.std, std, rtol=0.15)


def test_what_has_no_gaussian_is_trained_by_the_other_optimizer():
    """Point estimates and the noise get the steps of `others`, to the last bit; and a rate of 1e-30 moves no mean."""
    network = bbb.nn.sequential(bbb.nn.linear(D, 2), bbb.nn.tanh, bbb.nn.linear(2, 1))
    parts = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5, learn=True)}
    model = bbb.bayesianize(network.apply, network.init(KEY), where="weight", **parts)
    trained, _ = bbb.fit(KEY, model, X, Y[:, None], steps=1, optimizer=ivon(1e-30, others=optax.adam(1e-2)))
    plain, _ = bbb.fit(KEY, model, X, Y[:, None], steps=1, optimizer=optax.adam(1e-2))
    assert trained.likelihood.log_std == plain.likelihood.log_std != model.likelihood.log_std
    for layer in (0, 2):
        np.testing.assert_array_equal(trained.posterior.mean[layer]["bias"], plain.posterior.mean[layer]["bias"])
        np.testing.assert_array_equal(trained.posterior.mean[layer]["weight"], model.posterior.mean[layer]["weight"])
        assert (trained.posterior.log_std[layer]["weight"] != model.posterior.log_std[layer]["weight"]).all()
        assert trained.posterior.log_std[layer]["bias"] is None


def test_several_members_are_each_what_it_would_be_alone():
    model, *_ = regression(std=0.1)
    init = lambda key: 0.1 * jax.random.normal(key, (D, 1))  # noqa: E731
    optimizer = ivon(0.1)
    both, _ = bbb.fit(KEY, model, X, Y[:, None], steps=5, optimizer=optimizer, restarts=bbb.train.Restarts(2, init))
    key = bbb.train.member_keys(KEY, 2)[1]
    start = bbb.bayesianize(model.apply, init(key), prior=model.prior, likelihood=model.likelihood, std=0.1)
    alone, _ = bbb.fit(key, start, X, Y[:, None], steps=5, optimizer=optimizer)
    for one, other in zip(*map(jax.tree.leaves, (both.member(1).posterior, alone.posterior)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_step_of_a_mean_is_clipped_in_its_standard_deviations():
    model, *_ = regression(std=0.1)
    trained, _ = bbb.fit(KEY, model, X, Y[:, None], steps=1, optimizer=ivon(0.5, clip=0.2, beta2=0.0))
    np.testing.assert_allclose(np.abs(trained.posterior.mean), 0.5 * 0.2 * trained.posterior.std, rtol=1e-5)


def test_another_posterior_is_refused_before_training():
    model, *_ = regression(posterior=bbb.posteriors.FullRank.around)
    with pytest.raises(InputError, match=r"^Expected a MeanField, whose weights .* by ivon, got a FullRank\. Train"):
        bbb.fit(KEY, model, X, Y[:, None], steps=1, optimizer=ivon())
    with pytest.raises(InputError, match="by ivon, got parameters without a posterior"):
        ivon().init({"w": jnp.zeros(3)})
