"""Several posteriors from several starts: trained side by side as each alone, and predicted as one mixture."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import bbb
from bbb import evaluate, mixture
from bbb.likelihoods.per_member import PerMember

KEY = jax.random.key(0)
ADAM = optax.adam(1e-2)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 2))
Y = np.sin(X[:, :1]) + 0.2 * RNG.normal(size=(23, 1))
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 5), bbb.nn.relu, bbb.nn.linear(5, 1))
ROWS = 4


def model_of(key, prior=None, learn=True):
    return bbb.bayesianize(
        NETWORK.apply,
        NETWORK.init(key),
        prior=prior or bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(0.5, learn=learn),
    )


MODEL = model_of(KEY)
LOCAL = bbb.forwards.local_reparam(MODEL.apply)


def assert_close(a, b, rtol=1e-4, atol=1e-5):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)


# --- training --------------------------------------------------------------------------------------------------------

OPTIONS = {
    "batches, several draws": {"batch_size": 5, "objective": bbb.train.Objective(draws=2)},
    "local": {
        "batch_size": 5,
        "objective": bbb.train.Objective(draws=2, forward=LOCAL, kl_weight=optax.linear_schedule(0.0, 1.0, 9)),
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_member_is_what_its_own_training_gives(name):
    options = {"steps": 40, "optimizer": ADAM} | OPTIONS[name]
    model, history = bbb.fit(KEY, MODEL, X, Y, restarts=bbb.train.Restarts(3, NETWORK.init), **options)
    assert isinstance(model.posterior, bbb.posteriors.Ensemble)
    assert model.members == len(model.posterior) == 3
    assert history.loss.shape == history.noise_std.shape == (40, 3)
    for k, key in enumerate(bbb.train.member_keys(KEY, 3)):
        alone, its = bbb.fit(key, model_of(key), X, Y, **options)
        assert_close(model.member(k), alone)
        np.testing.assert_allclose(history.member(k).loss, its.loss, rtol=1e-4)
        np.testing.assert_allclose(history.member(k).noise_std, its.noise_std, rtol=1e-4)


def test_members_with_data_of_their_own_are_what_their_own_trainings_give(dtype):
    keys = jax.random.split(KEY, 3)
    x, y = RNG.normal(size=(3, 23, 2)), RNG.normal(size=(3, 23, 1))
    models = [
        dataclasses.replace(model_of(key), prior=bbb.priors.Normal(0.0, jnp.asarray(std)))
        for key, std in zip(keys, (0.5, 1.0, 2.0), strict=True)
    ]
    options = {
        "epochs": 8,
        "batch_size": 5,
        "optimizer": ADAM,
        "objective": bbb.train.Objective(draws=2, forward=LOCAL),
    }
    trained, histories = bbb.train.fit_each(keys, models, x, y, **options)
    for k, key in enumerate(keys):
        alone, history = bbb.fit(key, models[k], x[k], y[k], **options)
        assert trained[k].posterior.mean[0]["weight"].dtype == dtype
        assert_close(trained[k], alone)
        np.testing.assert_allclose(histories[k].loss, history.loss, rtol=1e-4)
        assert histories[k].noise_std.shape == history.noise_std.shape


@pytest.mark.slow
def test_restarts_with_a_prior_that_estimates_record_each_members_error():
    model = model_of(KEY, prior=bbb.priors.ScaleMixture(0.5, 1.0, 0.1))
    _, history = bbb.fit(KEY, model, X, Y, steps=10, restarts=bbb.train.Restarts(2, NETWORK.init), optimizer=ADAM)
    assert history.kl_std_error.shape == (10, 2)
    assert (history.kl_std_error > 0).all()


@pytest.mark.slow
def test_each_member_stops_at_its_own_best_score():
    stopping = bbb.train.EarlyStopping((X[:7], Y[:7]), every=5, patience=2)
    options = {"steps": 60, "validation": stopping, "optimizer": ADAM}
    model, history = bbb.fit(KEY, MODEL, X[7:], Y[7:], restarts=bbb.train.Restarts(3, NETWORK.init), **options)
    assert history.validation_log_score.shape[1:] == history.best_step.shape == (3,)
    for k, key in enumerate(bbb.train.member_keys(KEY, 3)):
        alone, its = bbb.fit(key, model_of(key), X[7:], Y[7:], **options)
        assert history.member(k).best_step == its.best_step
        assert_close(model.member(k), alone)


def test_the_member_whose_loss_is_not_finite_is_named():
    x = np.stack([X, X, X])
    models = [MODEL, MODEL, dataclasses.replace(MODEL, prior=bbb.priors.Normal(0.0, jnp.asarray(1e-30)))]
    with pytest.raises(bbb.errors.NonFiniteLossError, match=r"at step 0 \(from 0\) of member 2 \(from 0\)") as caught:
        bbb.train.fit_each(
            jax.random.split(KEY, 3), [*map(first_as, models)], x, np.stack([Y] * 3), steps=5, optimizer=ADAM
        )
    assert caught.value.history.loss.shape == (0,)
    assert_close(caught.value.model.posterior, MODEL.posterior)


def first_as(model):
    """Return every model the tree of the first: arrays in the place of numbers."""
    return dataclasses.replace(model, prior=bbb.priors.Normal(0.0, jnp.asarray(model.prior.std)))


def test_one_restart_is_a_plain_training():
    plain, history = bbb.fit(KEY, MODEL, X, Y, steps=5, optimizer=ADAM)
    one, same = bbb.fit(KEY, MODEL, X, Y, steps=5, optimizer=ADAM, restarts=bbb.train.Restarts(1, NETWORK.init))
    assert_close(plain, one, rtol=0, atol=0)
    np.testing.assert_array_equal(history.loss, same.loss)


@pytest.mark.parametrize(
    ("restarts", "message"),
    [
        (lambda: 0, "restarts to be a whole number of at least 1"),
        (lambda: bbb.train.Restarts(0, NETWORK.init), "restarts to be a whole number of at least 1"),
        (lambda: 2, r"init with restarts, .* got none\. Pass restarts=bbb\.train\.Restarts\(2, init=network\.init\)"),
        (
            lambda: bbb.train.Restarts(2),
            r"init with restarts, to start each member elsewhere, got none\. Pass restarts=bbb\.",
        ),
        (
            lambda: bbb.train.Restarts(2, 0.1),
            r"init with restarts to be a function, got a float\. Pass restarts=bbb\.train\.Restarts\(",
        ),
        (lambda: bbb.train.Restarts(2, lambda key: {}), r"init\(key\) to have the structure of the model's parameters"),
    ],
)
def test_restarts_that_cannot_start_are_refused(restarts, message):
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.fit(KEY, MODEL, X, Y, steps=5, restarts=restarts())


def test_members_that_do_not_fit_each_other_are_refused():
    keys, x, y = jax.random.split(KEY, 2), np.stack([X, X]), np.stack([Y, Y])
    with pytest.raises(bbb.errors.InputError, match="at least one model, got none"):
        bbb.train.fit_each(keys, [], x, y)
    with pytest.raises(
        bbb.errors.KeyTypeError, match=r"3 typed JAX keys, one for each model, got an array of shape \(2,\)"
    ):
        bbb.train.fit_each(keys, [MODEL] * 3, x, y)
    with pytest.raises(
        bbb.errors.ShapeError, match=r"y for each of 2 members, got 1. Pass y of shape \(members, rows, ...\)"
    ):
        bbb.train.fit_each(keys, [MODEL] * 2, x, y[:1])
    with pytest.raises(
        bbb.errors.ShapeError, match="members of one network and one structure, got another at member 1"
    ):
        bbb.train.fit_each(keys, [MODEL, model_of(KEY, learn=False)], x, y)
    with pytest.raises(
        bbb.errors.ShapeError, match=r"x of one shape for all members, got shapes \(23, 2\) and \(9, 2\)"
    ):
        bbb.train.fit_each(keys, [MODEL] * 2, [X, X[:9]], [Y, Y[:9]])


# --- the mixture -----------------------------------------------------------------------------------------------------


def ensemble_of(noise_stds=(0.1, 0.5, 1.0), learn=True):
    """Make a model of three members with means, spreads and noise of their own."""
    rng = np.random.default_rng(1)
    members = [
        jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), MODEL.posterior.mean)
        for _ in noise_stds
    ]
    posterior = [bbb.MeanField.around(mean, std) for mean, std in zip(members, (0.05, 0.1, 0.2), strict=True)]
    likelihood = bbb.likelihoods.Gaussian(0.5)
    if learn:
        likelihood = PerMember(bbb.likelihoods.Gaussian(jnp.asarray(noise_stds, "float32"), learn=True))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *posterior)
    return dataclasses.replace(MODEL, posterior=bbb.posteriors.Ensemble(stacked), likelihood=likelihood)


MIXED = ensemble_of()


@pytest.mark.parametrize("sampling", ["independent", "antithetic"])
def test_draw_i_is_of_member_i_mod_k(sampling):
    draws = np.asarray(bbb.draws(KEY, MIXED, X[:ROWS], draws=24, sampling=sampling))
    key_index = np.arange(24) if sampling == "independent" else np.arange(24) // 6 * 6 + np.arange(24) % 3
    for i in range(24):
        member = MIXED.member(i % 3)
        noise = member.posterior.noise(jax.random.fold_in(KEY, int(key_index[i])))
        if key_index[i] != i:
            noise = jax.tree.map(jnp.negative, noise)
        weights = member.posterior.weights(noise)
        expected = member.apply(weights, jnp.asarray(X[:ROWS], "float32"))
        np.testing.assert_allclose(draws[i], expected, rtol=1e-4, atol=1e-5)


def test_draws_are_rounded_up_to_as_many_of_each_member():
    assert bbb.draws(KEY, MIXED, X[:ROWS], draws=10).shape == (12, ROWS, 1)
    assert bbb.predict(KEY, MIXED, X[:ROWS], draws=10).draws == 12
    assert bbb.draws(KEY, MIXED, X[:ROWS], draws=8, sampling="antithetic").shape == (12, ROWS, 1)


def test_the_predictive_is_the_mixture_of_the_members_own(dtype):
    del dtype  # draws of a model in float32, under either precision
    band = bbb.predict(KEY, MIXED, X[:ROWS], draws=6000, levels=(0.9,))
    outputs = np.asarray(bbb.draws(KEY, MIXED, X[:ROWS], draws=6000), "float64")
    noise = np.array([0.1, 0.5, 1.0])[np.arange(6000) % 3][:, None, None]
    np.testing.assert_allclose(band.f.mean, outputs.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(band.f.std, outputs.std(0), rtol=1e-3)
    np.testing.assert_allclose(band.y.std, np.sqrt(outputs.var(0) + np.mean(noise**2)), rtol=1e-3)
    for p, y in zip((0.05, 0.95), band.y.interval(0.9), strict=True):
        np.testing.assert_allclose(scipy.stats.norm.cdf(y, outputs, noise).mean(0), p, atol=1e-5)


def test_the_log_score_of_a_mixture_takes_each_draws_own_noise():
    outputs = bbb.draws(KEY, MIXED, X[:ROWS], draws=30)
    noise = np.array([0.1, 0.5, 1.0])[np.arange(30) % 3][:, None, None]
    expected = np.log(scipy.stats.norm.pdf(Y[:ROWS], np.asarray(outputs, "float64"), noise).mean(0)).ravel()
    got = mixture.log_score(MIXED.likelihood, outputs, Y[:ROWS].astype("float32"))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    sampled = mixture.sample_y(KEY, MIXED.likelihood, bbb.draws(KEY, MIXED, X[:1], draws=6000))
    residuals = np.asarray(sampled - bbb.draws(KEY, MIXED, X[:1], draws=6000)).reshape(2000, 3)
    assert (np.abs(residuals.std(0) / [0.1, 0.5, 1.0] - 1) * np.sqrt(2 * 2000) < 5).all()


def test_draws_in_unequal_numbers_are_refused():
    outputs = jnp.zeros((31, ROWS, 1))
    message = "draws of 3 members, in equal numbers, got 31 draws. Ask bbb.draws for a multiple of 3."
    with pytest.raises(bbb.errors.ShapeError, match=message):
        MIXED.likelihood.mean(outputs)


@pytest.mark.parametrize("sampling", ["independent", "antithetic"])
def test_monte_carlo_errors_know_that_members_take_turns(sampling):
    x = X[:2]
    bands = [bbb.predict(jax.random.key(s), MIXED, x, draws=300, sampling=sampling) for s in range(200)]
    exact = bbb.predict(KEY, MIXED, x, method="moments").f.mean  # one hidden layer: exact
    errors = np.stack([band.f.mean for band in bands]) - exact
    claimed = np.stack([band.f.mcse_mean for band in bands])
    ratio = np.sqrt(np.mean(errors**2, axis=0) / np.mean(claimed**2, axis=0))
    assert (np.abs(ratio - 1) * np.sqrt(2 * 200) < 5).all()


def test_the_closed_form_is_the_mixture_of_the_members_closed_forms():
    members = [bbb.predict(KEY, MIXED.member(k), X[:ROWS], method="moments") for k in range(3)]
    band = bbb.predict(KEY, MIXED, X[:ROWS], method="moments")
    means = np.stack([member.f.mean for member in members])
    variance = np.mean([member.y.std**2 for member in members], axis=0) + means.var(0)
    np.testing.assert_allclose(band.f.mean, means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(band.y.std, np.sqrt(variance), rtol=1e-5)
    drawn = bbb.predict(KEY, MIXED, X[:ROWS], draws=30_000)
    assert (np.abs(drawn.f.mean - band.f.mean) < 5 * drawn.f.mcse_mean).all()
    assert (np.abs(drawn.f.std - band.f.std) < 5 * drawn.f.mcse_std).all()
    last = bbb.predict(KEY, MIXED, X[:ROWS], draws=3000, method="last_layer")
    assert (np.abs(last.y.std - band.y.std) < 5 * last.y.mcse_std).all()


def test_members_that_share_their_noise_keep_the_likelihood():
    shared = ensemble_of(learn=False)
    model, _ = bbb.fit(
        KEY, model_of(KEY, learn=False), X, Y, steps=5, restarts=bbb.train.Restarts(2, NETWORK.init), optimizer=ADAM
    )
    assert isinstance(model.likelihood, bbb.likelihoods.Gaussian)
    band = bbb.predict(KEY, shared, X[:ROWS], draws=600)
    np.testing.assert_allclose(band.y.std**2 - band.f.std**2, 0.25, rtol=1e-3)


def test_the_spread_between_members_is_told_from_that_within():
    means = np.stack([bbb.predict(KEY, MIXED.member(k), X[:ROWS], method="moments").f.mean for k in range(3)])
    total = bbb.predict(KEY, MIXED, X[:ROWS], method="moments").f.std
    found = evaluate.spread(KEY, MIXED, X[:ROWS], draws=60_000)
    np.testing.assert_allclose(found.between, means.std(0), rtol=0.05)
    np.testing.assert_allclose(found.total, total, rtol=0.05)
    np.testing.assert_allclose(found.within, np.sqrt(total**2 - means.var(0)), rtol=0.05)
    alike = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 3), MIXED.posterior.members)
    same = dataclasses.replace(MIXED, posterior=bbb.posteriors.Ensemble(alike))
    few = evaluate.spread(KEY, same, X[:ROWS], draws=30)  # chance alone, which is taken off
    assert np.mean(few.between**2) < 0.5 * np.mean(few.within**2) / 10


def test_the_spread_of_one_member_or_of_single_draws_is_refused():
    with pytest.raises(bbb.errors.InputError, match="a model of several members, got one of a single posterior"):
        evaluate.spread(KEY, MODEL, X)
    with pytest.raises(bbb.errors.InputError, match=r"two draws of each member at least, got 5\. Pass 6 or more\."):
        evaluate.spread(KEY, MIXED, X, draws=5)


# --- what needs one posterior ----------------------------------------------------------------------------------------


def test_a_sample_of_an_ensemble_is_one_of_a_random_member():
    shifted = jax.tree.map(
        lambda leaf: jnp.stack([jnp.full(leaf.shape, 10.0 * k) for k in range(3)]), MODEL.posterior.mean
    )
    posterior = bbb.posteriors.Ensemble(bbb.MeanField.around(shifted, 0.1))
    drawn = jax.vmap(lambda key: bbb.posteriors.sample(key, posterior))(jax.random.split(KEY, 300))
    which = np.stack([np.round(np.asarray(leaf).reshape(300, -1) / 10) for leaf in [drawn[0]["weight"]]])[0]
    assert (which == which[:, :1]).all()  # all weights of one member
    counts = np.bincount(which[:, 0].astype(int), minlength=3)
    assert (np.abs(counts - 100) < 5 * np.sqrt(300 * 2 / 9)).all()


def test_the_density_of_an_ensemble_is_the_mean_of_its_members():
    weights = bbb.posteriors.sample(KEY, MIXED.posterior[1])
    each = [float(bbb.posteriors.log_prob(MIXED.posterior[k], weights)) for k in range(3)]
    np.testing.assert_allclose(
        bbb.posteriors.log_prob(MIXED.posterior, weights), np.logaddexp.reduce(each) - np.log(3), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: MIXED.posterior.mean, "one posterior, to ask for its means, got an ensemble of 3, each with its own"),
        (lambda: MIXED.posterior.std, "one posterior, to ask for its standard deviations, got an ensemble of 3"),
        (
            lambda: bbb.priors.kl(MIXED.posterior, MIXED.prior),
            "one mean-field posterior, got an ensemble of 3. Take that of",
        ),
        (lambda: bbb.forwards.explain(MIXED.apply, MIXED.posterior, X), "one posterior, to ask for its means"),
        (lambda: bbb.moments.moments(MIXED.apply)(MIXED.posterior, X), "one posterior, to ask for its means"),
        (lambda: MIXED.member(3), "a member from 0 to 2, got 3. Pass one of them."),
        (lambda: bbb.fit(KEY, MIXED, X, Y), "a model of one posterior, got one of 3 members. Take one, "),
        (lambda: bbb.objectives.negative_elbo(KEY, MIXED, X, Y), "a model of one posterior, got one of 3 members"),
    ],
)
def test_what_needs_one_posterior_refuses_an_ensemble_by_name(ask, message):
    with pytest.raises(bbb.errors.InputError, match=message):
        ask()


def test_an_ensemble_survives_a_round_trip_through_its_leaves():
    leaves, structure = jax.tree.flatten(MIXED)
    again = jax.tree.unflatten(structure, leaves)
    assert again.members == 3
    assert_close(again.member(2), MIXED.member(2), rtol=0, atol=0)


def test_what_wants_one_gaussian_for_each_weight_refuses_several_by_name():
    with pytest.raises(
        bbb.errors.InputError, match=r"one posterior, to ask for its means, got an ensemble of .*member\(0\)"
    ):
        _ = MIXED.posterior.mean
