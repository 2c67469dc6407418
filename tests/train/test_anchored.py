"""Anchored members: points whose maxima a posteriori are draws from the posterior, exactly where all is linear."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.errors import InputError
from bbb.likelihoods.perturbed import Perturbed
from bbb.train.steps import anchors

KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2))
Y = X[:, :1] - 0.5 * X[:, 1:] + 0.3 * RNG.normal(size=(12, 1))
ADAM = optax.adam(1e-2)
LINEAR = bbb.nn.linear(2, 1)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
PRIOR = {"mean": 0.3, "std": 0.7}
NOISE = 0.4
DESIGN = np.concatenate([X, np.ones((12, 1))], axis=1)


def model_of(network=LINEAR, prior=None, likelihood=None, **options):
    prior = prior or bbb.priors.Normal(**PRIOR)
    likelihood = likelihood or bbb.likelihoods.Gaussian(NOISE)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.zeros(()).dtype), network.init(jax.random.key(1)))
    return bbb.bayesianize(network.apply, params, prior=prior, likelihood=likelihood, **options)


def fit(model, number=3, y=Y, init=None, **options):
    restarts = bbb.train.Restarts(number, init, anchored=True)
    return bbb.fit(KEY, model, X, y, **{"steps": 20, "optimizer": ADAM, "restarts": restarts} | options)


def vectors(params):
    """Return the weights of the linear network's members, (members, 3)."""
    parts = [np.asarray(params[name], float).reshape(-1, n) for name, n in (("weight", 2), ("bias", 1))]
    return np.concatenate(parts, axis=1)


def member_by_hand(key, model):
    """Return a member's anchor, and the standard normals of its rows."""
    member = anchors.with_anchor(key, model)
    outputs = jnp.zeros((1, 12, 1), jnp.zeros(()).dtype)
    noisy = anchors.with_row_noise(key, member, jnp.arange(12, dtype=jnp.uint32), outputs)
    return member.prior.anchor, np.asarray(noisy.likelihood.unit, float)


# --- exact where the network is linear -------------------------------------------------------------------------------


def posterior(y, centre):
    """Return the mean of the posterior, and its covariance, by linear algebra."""
    precision = DESIGN.T @ DESIGN / NOISE**2 + np.eye(3) / PRIOR["std"] ** 2
    covariance = np.linalg.inv(precision)
    return covariance @ (DESIGN.T @ y[:, 0] / NOISE**2 + centre / PRIOR["std"] ** 2), covariance


def test_a_member_is_the_mode_of_its_anchor_and_its_targets():
    with jax.enable_x64(True):
        trained, _ = fit(model_of(), steps=60, optimizer=optax.lbfgs())
        for k, key in enumerate(bbb.train.member_keys(KEY, 3)):
            anchor, unit = member_by_hand(key, model_of())
            exact, _ = posterior(Y + NOISE * unit, vectors(anchor)[0])
            np.testing.assert_allclose(vectors(trained.member(k).posterior.params)[0], exact, rtol=1e-7, atol=1e-8)


def test_the_members_are_draws_from_the_posterior():
    with jax.enable_x64(True):
        trained, _ = fit(model_of(), number=2_000, steps=40, optimizer=optax.lbfgs())
        drawn = vectors(trained.posterior.members.params)
        band = bbb.predict(KEY, trained, X, draws=len(drawn))
    mean, covariance = posterior(Y, np.full(3, PRIOR["mean"]))
    z = (drawn.mean(0) - mean) / np.sqrt(np.diag(covariance) / len(drawn))
    assert np.abs(z).max() < 4
    variances = np.diag(covariance)
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / (len(drawn) - 1))  # of a Wishart's elements
    assert np.abs((np.cov(drawn.T) - covariance) / error).max() < 4
    exact = np.sqrt(np.einsum("ij,jk,ik->i", DESIGN, covariance, DESIGN))
    assert np.abs(band.f.std[:, 0] / exact - 1).max() < 4 / np.sqrt(2 * len(drawn))


# --- other likelihoods -----------------------------------------------------------------------------------------------

LIKELIHOODS = {
    "Gaussian": (bbb.likelihoods.Gaussian(0.4, learn=True), np.array([[0.3, -1.0]] * 5)),
    "a std for each output": (bbb.likelihoods.Gaussian(jnp.asarray([0.4, 2.0])), np.array([[0.3, -1.0]] * 5)),
    "StudentT": (bbb.likelihoods.StudentT(0.4, learn=True), np.array([[0.3, -1.0]] * 5)),
    "HeteroscedasticGaussian": (bbb.likelihoods.HeteroscedasticGaussian(), np.array([[0.3]] * 5)),
    "Categorical": (bbb.likelihoods.Categorical(), np.array([0, 1, 1, 0, 1])),
    "Bernoulli": (bbb.likelihoods.Bernoulli(), np.array([[0.0, 1.0]] * 5)),
    "Poisson": (bbb.likelihoods.Poisson(), np.array([[0.0, 3.0]] * 5)),
    "NegativeBinomial": (bbb.likelihoods.NegativeBinomial(0.5, learn=True), np.array([[0.0, 3.0]] * 5)),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_score_gets_noise_of_the_fisher_information_and_what_is_learned_gets_none(name):
    with jax.enable_x64(True):
        likelihood, y = LIKELIHOODS[name]
        likelihood = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), likelihood)
        outputs = jax.random.normal(KEY, (5, 2))
        y = likelihood.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape, outputs.dtype))
        unit = jax.random.normal(jax.random.key(9), (5, 2))

        def total(likelihood, outputs, unit):
            return Perturbed(likelihood, unit).log_prob(y, outputs).sum()

        slope = jax.grad(total, argnums=(0, 1))(likelihood, outputs, unit)
        plain = jax.grad(total, argnums=(0, 1))(likelihood, outputs, jnp.zeros((5, 2)))
        push = jnp.einsum("rij,rj->ri", likelihood.fisher_root(outputs), unit)
        np.testing.assert_allclose(slope[1], plain[1] + push, rtol=1e-12, atol=1e-12)
        jax.tree.map(np.testing.assert_array_equal, slope[0], plain[0])


def test_for_gaussian_noise_it_is_noise_on_the_targets():
    with jax.enable_x64(True):
        likelihood, outputs = bbb.likelihoods.Gaussian(0.4), jax.random.normal(KEY, (5, 2))
        y, unit = jnp.ones((5, 2)), jax.random.normal(jax.random.key(9), (5, 2))
        found = Perturbed(likelihood, unit).log_prob(y, outputs)
        exact = likelihood.log_prob(y + 0.4 * unit, outputs) + 0.5 * jnp.sum(unit**2, axis=1)
        np.testing.assert_allclose(found, exact, rtol=1e-12)


def test_the_learned_noise_is_that_of_the_residuals():
    """For each member, std² is the mean square of y minus its outputs: what the targets' own noise does not add to."""
    with jax.enable_x64(True):
        trained, history = fit(
            model_of(likelihood=bbb.likelihoods.Gaussian(1.0, learn=True)),
            steps=3_000,
            optimizer=optax.adam(optax.cosine_decay_schedule(3e-2, 3_000)),
        )
        for k in range(3):
            member = trained.member(k)
            residuals = Y - np.asarray(member.apply(member.posterior.params, jnp.asarray(X)))
            np.testing.assert_allclose(member.likelihood.std, np.sqrt(np.mean(residuals**2)), rtol=1e-4)
        assert history.noise_std.shape == (3_000, 3)


@pytest.mark.parametrize("name", ["Categorical", "Poisson", "HeteroscedasticGaussian"])
def test_classes_counts_and_noise_of_each_row_are_trained_and_predicted(name):
    y = {"Categorical": (X[:, 0] > 0).astype(int), "Poisson": np.arange(12)[:, None] % 4}.get(name, Y)
    network = bbb.nn.linear(2, 1 if name == "Poisson" else 2)
    trained, history = fit(model_of(network, likelihood=LIKELIHOODS[name][0]), y=y, batch_size=5)
    assert np.isfinite(history.loss).all()
    assert np.isfinite(bbb.predict(KEY, trained, X, draws=6).y.mcse([])[0]).all()


# --- anchors, starts and rows ----------------------------------------------------------------------------------------


def test_members_start_at_their_anchors_or_where_init_says():
    model = model_of(NETWORK)
    still = optax.sgd(0.0)
    trained, history = fit(model, steps=1, optimizer=still)
    elsewhere, its = fit(model, steps=1, optimizer=still, init=NETWORK.init)
    np.testing.assert_array_equal(history.kl, 0)
    assert (its.kl > 0).all()
    for k, key in enumerate(bbb.train.member_keys(KEY, 3)):
        anchor = anchors.with_anchor(key, model).prior.anchor
        jax.tree.map(np.testing.assert_array_equal, trained.member(k).posterior.params, anchor)
        jax.tree.map(np.testing.assert_array_equal, elsewhere.member(k).posterior.params, NETWORK.init(key))
        penalty = sum(
            np.sum(((np.asarray(w) - a) / PRIOR["std"]) ** 2) / 2
            for w, a in zip(jax.tree.leaves(NETWORK.init(key)), jax.tree.leaves(anchor), strict=True)
        )
        np.testing.assert_allclose(its.kl[0, k], penalty, rtol=1e-4)


def test_leaves_that_are_point_estimates_have_no_anchor():
    model = model_of(NETWORK, where="*/weight")
    still, history = fit(model, steps=1, optimizer=optax.sgd(0.0))
    trained, _ = fit(model)
    for k in range(3):
        mean, moved = (of.member(k).posterior.params for of in (still, trained))
        for layer in (0, 2):
            np.testing.assert_array_equal(mean[layer]["bias"], model.posterior.mean[layer]["bias"])
            assert (np.asarray(moved[layer]["bias"]) != mean[layer]["bias"]).all()
            assert (np.asarray(mean[layer]["weight"]) != model.posterior.mean[layer]["weight"]).all()
    np.testing.assert_array_equal(history.kl, 0)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_the_noise_of_a_row_is_that_of_its_index_alone(impl, dtype):
    key, outputs = jax.random.key(3, impl=impl), jnp.zeros((2, 7, 2), dtype)
    rows = jnp.arange(7, dtype=jnp.uint32)

    def unit(rows, key=key):
        return np.asarray(anchors.with_row_noise(key, model_of(), rows, outputs).likelihood.unit)

    every = unit(rows)
    assert every.dtype == dtype
    assert every.shape == (7, 2)
    assert len(np.unique(every)) == 14
    np.testing.assert_array_equal(unit(rows[::-1]), every[::-1])
    np.testing.assert_array_equal(unit(rows[3:5]), every[3:5])
    keys = jax.random.split(jax.random.key(1, impl=impl), 2)
    side_by_side = jax.vmap(lambda k: anchors.with_row_noise(k, model_of(), rows, outputs).likelihood.unit)(keys)
    np.testing.assert_array_equal(side_by_side[1], unit(rows, keys[1]))
    assert (np.asarray(side_by_side[0]) != side_by_side[1]).all()


def test_minibatches_are_of_the_same_objective(dtype):
    """One step of plain gradient descent by all rows is the mean of those by the batches of an epoch, each alone."""
    model, sgd = model_of(NETWORK), optax.sgd(1e-3)
    whole, _ = fit(model, steps=1, optimizer=sgd)
    start, _ = fit(model, steps=1, optimizer=optax.sgd(0.0))
    sums = optax.MultiSteps(sgd, 4)  # of the four batches of an epoch, the mean of their gradients
    epoch, _ = fit(model, steps=4, optimizer=optax.GradientTransformation(sums.init, sums.update), batch_size=3)
    moved, expected = (
        jax.tree.map(lambda a, b: np.asarray(a) - b, of.posterior.members.params, start.posterior.members.params)
        for of in (epoch, whole)
    )
    close = {"float32": {"rtol": 1e-3, "atol": 1e-6}, "float64": {"rtol": 1e-6, "atol": 1e-9}}[dtype]  # optax's mean
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), moved, expected)


def test_validation_rows_have_no_noise():
    stopping = bbb.train.EarlyStopping((X[:5], Y[:5]), every=20)
    trained, history = fit(model_of(NETWORK), validation=stopping)
    for k in range(3):
        member = trained.member(k)
        scores = member.likelihood.log_prob(Y[:5].astype("float32"), member.apply(member.posterior.params, X[:5]))
        np.testing.assert_allclose(history.validation_log_score[-1, k], scores.mean(), rtol=1e-5)


# --- priors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Normal", "Laplace"])
def test_a_prior_is_drawn_from_and_moved(kind, dtype):
    prior = getattr(bbb.priors, kind)(0.5, 2.0)
    params = {"a": jnp.zeros((200, 100), dtype), "b": None, "c": jnp.zeros(3, dtype)}
    drawn = prior.sample_params(KEY, params)
    assert jax.tree.map(jnp.shape, drawn) == {"a": (200, 100), "b": None, "c": (3,)}
    assert drawn["a"].dtype == dtype
    flat = np.asarray(drawn["a"], float).reshape(-1)
    std, kurtosis = {"Normal": (2.0, 3.0), "Laplace": (2.0 * np.sqrt(2), 6.0)}[kind]
    assert abs(flat.mean() - 0.5) < 4 * std / np.sqrt(flat.size)
    assert abs(flat.var() / std**2 - 1) < 4 * np.sqrt((kurtosis - 1) / flat.size)
    moved = prior.centred(drawn)
    there, plain = {"a": drawn["a"] + 0.25, "b": None, "c": drawn["c"] + 0.25}, {"a": 0.75 + 0 * params["a"], "b": None}
    np.testing.assert_allclose(moved.log_prob(there), prior.log_prob(plain | {"c": 0.75 + params["c"]}), rtol=1e-5)
    slope = jax.grad(lambda shift: moved.log_prob(jax.tree.map(lambda leaf: leaf + shift, drawn)))
    assert slope(jnp.asarray(0.1, dtype)) < 0 < slope(jnp.asarray(-0.1, dtype))


def test_the_model_that_comes_back_has_the_prior_that_was_given():
    model = model_of(NETWORK)
    trained, _ = fit(model)
    assert trained.prior is model.prior
    assert isinstance(trained.posterior, bbb.posteriors.Ensemble)
    assert trained.posterior[0].is_point
    assert trained.members == 3


# --- what cannot be anchored -----------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Uninformed:
    """A likelihood without `fisher_root`."""

    learn: bool = dataclasses.field(default=False, metadata={"static": True})

    def as_target(self, y, outputs):
        return y.astype(outputs.dtype)

    def log_prob(self, y, outputs):
        return -jnp.abs(y - outputs).sum(axis=1)


LBFGS = optax.lbfgs()
REFUSED = {
    "one member": (
        lambda: bbb.train.Restarts(1, anchored=True),
        r"several anchored members, which are points, got 1\.",
    ),
    "no bool": (lambda: bbb.train.Restarts(3, anchored=2), r"anchored to be a bool, got 2\."),
    "a prior without a mean": (
        lambda: fit(model_of(prior=bbb.priors.ScaleMixture())),
        "a prior with `centred`, which anchored restarts need, got a ScaleMixture without",
    ),
    "a prior that is learned": (
        lambda: fit(model_of(prior=bbb.priors.EmpiricalNormal())),
        "a prior with `log_prob` and `sample_params` and `centred`, which anchored restarts need, got",
    ),
    "a likelihood of unknown information": (
        lambda: fit(model_of(likelihood=Uninformed())),
        "a likelihood with `fisher_root`, which anchored restarts needs, got a Uninformed",
    ),
    "another cost": (
        lambda: fit(model_of(), objective=bbb.torchbnn.mse_cost),
        "the negative evidence lower bound for anchored restarts, got mse_cost",
    ),
    "a tempered prior": (
        lambda: fit(model_of(), objective=bbb.train.Objective(kl_weight=0.1)),
        r"kl_weight to be 1 at the end of anchored restarts, got 0\.1\. Leave kl_weight out",
    ),
    "a warm-up that does not end": (
        lambda: fit(model_of(), objective=bbb.train.Objective(kl_weight=optax.linear_schedule(0.0, 1.0, 100))),
        r"kl_weight to be 1 at the end of anchored restarts, got 0\.19",
    ),
    "curvature and learned noise": (
        lambda: fit(model_of(likelihood=bbb.likelihoods.Gaussian(0.4, learn=True)), optimizer=LBFGS),
        r"Gaussian noise of a known std, for anchored restarts .* such as lbfgs, got a Gaussian that learns\.",
    ),
    "curvature and counts": (
        lambda: fit(model_of(likelihood=bbb.likelihoods.Poisson()), y=np.ones((12, 1)), optimizer=LBFGS),
        r"Gaussian noise of a known std, for anchored restarts .* such as lbfgs, got a Poisson\.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_anchored_is_refused_by_name(name):
    call, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        call()


def test_a_warm_up_that_ends_is_taken():
    fit(model_of(), objective=bbb.train.Objective(kl_weight=optax.linear_schedule(0.0, 1.0, 10)))
