"""Models that predict with the network linearised around the posterior's mean: every door gives the same function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from scipy.stats import norm

import bbb
from bbb.errors import InputError
from bbb.evaluate.diagnosis.checks_of_posterior import LOOKS, _bound
from bbb.likelihoods.per_member import PerMember
from bbb.networks import nn
from bbb.posteriors import Ensemble, FullRank

KEY = jax.random.key(7)
NETWORK = nn.sequential(nn.linear(2, 6), nn.tanh, nn.linear(6, 2))


def correlated(params, std, where=True):
    """Return a Gaussian whose weights depend on each other."""
    q = FullRank.around(params, std, where)
    lower = 0.3 * np.random.default_rng(3).normal(size=q.lower.shape)
    return FullRank(q.mean, q.log_diagonal, jnp.asarray(lower, q.lower.dtype))


POSTERIORS = {"mean field": bbb.MeanField.around, "full rank": correlated}


def model_of(network=NETWORK, posterior="mean field", dtype="float32", likelihood=None, seed=0):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), network.init(jax.random.key(seed)))
    made = bbb.bayesianize(
        network.apply,
        params,
        prior=bbb.priors.Normal(),
        likelihood=likelihood or bbb.likelihoods.Gaussian(np.array([0.5, 0.1])),
        std=0.3,
        posterior=POSTERIORS[posterior],
    )
    return dataclasses.replace(made, linearized=True)


def ensemble(dtype="float32"):
    members = [model_of(dtype=dtype, seed=seed) for seed in range(3)]
    posterior = Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *(member.posterior for member in members)))
    return members, dataclasses.replace(members[0], posterior=posterior)


def inputs(rows):
    return np.random.default_rng(1).normal(size=(rows, 2))


def worst(difference, error):
    return float(np.max(np.abs(difference) / error))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_draw_i_is_the_linearised_network_with_key_i(posterior, dtype):
    model, x = model_of(posterior=posterior, dtype=dtype), inputs(3).astype(dtype)
    forward = bbb.forwards.linearized(model.apply)
    assert model.forward == forward
    found = bbb.draws(KEY, model, x, draws=4)
    expected = jax.vmap(lambda i: forward(jax.random.fold_in(KEY, i), model.posterior, x))(jnp.arange(4))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    plain = bbb.draws(KEY, dataclasses.replace(model, linearized=False), x, draws=4)
    assert float(jnp.max(jnp.abs(found - plain))) > 0.01


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_draws_agree_with_the_closed_form_within_their_errors(posterior, dtype):
    model, x = model_of(posterior=posterior, dtype=dtype), inputs(30)
    ps = (0.025, 0.5, 0.9)
    drawn = bbb.predict(KEY, model, x, draws=4_000, method="draws", quantiles=ps)
    exact = bbb.predict(KEY, model, x)
    assert (exact.method, exact.draws, exact.assumptions) == ("moments", 0, ())
    for got, want in ((drawn.f, exact.f), (drawn.y, exact.y)):
        assert got.mean.dtype == want.std.dtype == dtype
        assert worst(got.mean - want.mean, got.mcse_mean) < 4
        assert worst(got.std - want.std, got.mcse_std) < 4
        for p in ps:
            assert worst(got.quantile(p) - want.quantile(p), got.mcse_quantile(p)) < 4.5  # of 60 numbers, three times


def test_the_closed_form_is_the_network_at_the_mean_and_a_gaussian_around_it():
    model, x = model_of(), inputs(9)
    exact = bbb.predict(KEY, model, x, levels=(0.9,))
    np.testing.assert_allclose(exact.f.mean, NETWORK.apply(model.posterior.mean, x.astype("float32")), rtol=1e-5)
    _, variance = bbb.forwards.linearized(NETWORK.apply).moments(model.posterior, x.astype("float32"))
    np.testing.assert_allclose(exact.f.std, np.sqrt(variance), rtol=1e-5)
    np.testing.assert_allclose(exact.y.std**2, exact.f.std**2 + np.array([[0.5, 0.1]]) ** 2, rtol=1e-5)
    lower = exact.y.interval(0.9).lower
    np.testing.assert_allclose(lower, norm.ppf(0.05, exact.y.mean, exact.y.std), rtol=1e-5, atol=1e-5)
    other = bbb.predict(jax.random.key(1), model, x, draws=3)  # without chance, for which no draws are counted
    np.testing.assert_array_equal(other.f.std, exact.f.std)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_memory_and_tiles_change_no_draw(posterior):
    model, x = model_of(posterior=posterior), inputs(2_700)
    whole = bbb.draws(KEY, model, x, draws=60)
    with pytest.raises(InputError, match="memory of at least") as caught:
        bbb.draws(KEY, model, x, draws=60, memory=1)
    least = int(str(caught.value).split("at least ")[1].split(" bytes")[0].replace(",", ""))
    np.testing.assert_allclose(bbb.draws(KEY, model, x, draws=60, memory=least), whole, rtol=1e-4, atol=1e-5)
    for memory in (2 * least, 4 * least, "2GB"):
        np.testing.assert_array_equal(bbb.draws(KEY, model, x, draws=60, memory=memory), whole)
    np.testing.assert_allclose(bbb.draws(KEY, model, x[:3], draws=60), whole[:, :3], rtol=1e-4, atol=1e-5)


def test_memory_and_tiles_change_no_closed_form():
    model, x = model_of(posterior="full rank", dtype="float32"), inputs(700)
    whole = bbb.predict(KEY, model, x)
    little = bbb.predict(KEY, model, x, memory="200KB")
    np.testing.assert_allclose(little.f.std, whole.f.std, rtol=1e-5)
    np.testing.assert_allclose(bbb.predict(KEY, model, x[:3]).f.std, whole.f.std[:3], rtol=1e-5)


@pytest.mark.parametrize(
    "asked",
    [
        {"draws": "auto", "tolerance": 0.5},
        {"sampling": "antithetic"},
        {"rows": "together"},
        {"mesh": Mesh(np.array(jax.devices()[:1]), ("draws",))},
        {"method": "draws"},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_asks_for_draws_has_them(asked):
    made = bbb.predict(KEY, model_of(), inputs(5), **{"draws": 64, **asked})
    assert made.method == "draws"
    assert made.draws >= 64


def test_the_default_of_all_other_models_is_draws():
    model = dataclasses.replace(model_of(), linearized=False)
    assert bbb.predict(KEY, model, inputs(5), draws=8).method == "draws"
    other = dataclasses.replace(model_of(), likelihood=bbb.likelihoods.StudentT(0.5, 4.0))
    assert bbb.predict(KEY, other, inputs(5), draws=8).method == "draws"
    assert bbb.predict(KEY, ensemble()[1], inputs(5), draws=9).method == "draws"


def test_antithetic_draws_mirror_each_other_around_the_mean(dtype):
    model, x = model_of(dtype=dtype), inputs(5).astype(dtype)
    found = bbb.draws(KEY, model, x, draws=6, sampling="antithetic")
    centre = NETWORK.apply(model.posterior.mean, x)
    np.testing.assert_allclose((found[::2] + found[1::2]) / 2, np.broadcast_to(centre, (3, 5, 2)), rtol=1e-5, atol=1e-6)


def test_each_member_of_an_ensemble_is_linearised_around_its_own_mean(dtype):
    members, model = ensemble(dtype)
    x = inputs(4).astype(dtype)
    found = bbb.draws(KEY, model, x, draws=6)
    for i in range(6):
        member = members[i % 3]
        expected = member.forward(jax.random.fold_in(KEY, i), member.posterior, x)
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-5)
    mixed = bbb.predict(KEY, model, x, method="moments")
    alone = [bbb.predict(KEY, member, x) for member in members]
    means = np.stack([one.f.mean for one in alone])
    np.testing.assert_allclose(mixed.f.mean, means.mean(0), rtol=1e-5)
    variance = np.mean([one.f.std**2 for one in alone], axis=0) + means.var(0)
    np.testing.assert_allclose(mixed.f.std**2, variance, rtol=1e-5)
    assert model.member(1).linearized
    drawn = bbb.predict(KEY, model, x, draws=6_000)
    assert worst(drawn.f.mean - mixed.f.mean, drawn.f.mcse_mean) < 4
    assert worst(drawn.f.std - mixed.f.std, drawn.f.mcse_std) < 4


def test_each_member_may_have_noise_of_its_own():
    _, model = ensemble()
    noises = [bbb.likelihoods.Gaussian(np.array([0.1 * (k + 1)] * 2, "float32")) for k in range(3)]
    likelihood = PerMember(jax.tree.map(lambda *leaves: jnp.stack(leaves), *noises))
    found = bbb.predict(KEY, dataclasses.replace(model, likelihood=likelihood), inputs(4), method="moments")
    own = np.mean(np.square([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(found.y.std**2 - found.f.std**2, np.full((4, 2), own), rtol=1e-4)


def test_classes_are_those_of_draws():
    model, x = model_of(nn.linear(2, 3), likelihood=bbb.likelihoods.Categorical()), inputs(6)
    made = bbb.predict(KEY, model, x, draws=50)
    assert made.method == "draws"
    outputs = bbb.draws(KEY, model, x, draws=50)
    np.testing.assert_allclose(made.y.probabilities, jax.nn.softmax(outputs).mean(0), rtol=1e-5)
    deep = model_of(likelihood=bbb.likelihoods.Categorical())
    outputs = bbb.draws(KEY, deep, x, draws=50)
    np.testing.assert_allclose(
        bbb.predict(KEY, deep, x, draws=50).y.probabilities, jax.nn.softmax(outputs).mean(0), 1e-5
    )


BATCH = nn.sequential(nn.linear(2, 4), nn.batch_norm(4), nn.tanh, nn.linear(4, 2))


def test_state_and_point_estimates_are_what_they_are():
    made = bbb.bayesianize(
        BATCH.apply,
        BATCH.init(KEY),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5),
        where="weight",
    )
    model, x = dataclasses.replace(made, linearized=True), inputs(5)
    drawn, exact = bbb.predict(KEY, model, x, draws=4_000, method="draws"), bbb.predict(KEY, model, x)
    assert worst(drawn.f.std - exact.f.std, drawn.f.mcse_std) < 4


# --- other doors -----------------------------------------------------------------------------------------------------


def test_diagnose_looks_at_what_is_predicted():
    model, x = model_of(), inputs(60)
    y = bbb.predict(KEY, model, x).f.mean + 5.0
    assert [finding.name for finding in bbb.diagnose(model, None, x, y)]
    bounds = [
        _bound(KEY, dataclasses.replace(model, linearized=linear), x.astype("float32"), y, None)
        for linear in (True, False)
    ]
    value, _ = bbb.objectives.negative_elbo(KEY, model, x, y, draws=LOOKS)
    np.testing.assert_allclose(bounds[0], -value, rtol=1e-5)
    assert abs(bounds[0] - bounds[1]) > 1


def test_pruning_keeps_it_and_leaves_a_smaller_variance():
    model, x = model_of(), inputs(5)
    found = bbb.evaluate.pruning_curve(model, (0.0, 1.0), lambda pruned: float(bbb.predict(KEY, pruned, x).f.std.max()))
    assert found[0] > 0.1
    assert found[1] < 1e-6


def test_arviz_is_given_the_linearised_function():
    pytest.importorskip("xarray")
    model, x = model_of(), inputs(4)
    tree = bbb.evaluate.to_datatree(KEY, model, x, draws=6)
    np.testing.assert_array_equal(tree["posterior_predictive"]["f"][0], bbb.draws(KEY, model, x, draws=6))


def test_the_negative_elbo_is_that_of_the_linearised_network():
    model, x = model_of(), inputs(4).astype("float32")
    y = np.zeros((4, 2), "float32")
    value, _ = bbb.objectives.negative_elbo(KEY, model, x, y)
    plain = dataclasses.replace(model, linearized=False)
    same, _ = bbb.objectives.negative_elbo(KEY, plain, x, y, forward=bbb.forwards.linearized(NETWORK.apply))
    assert value == same
    assert value != bbb.objectives.negative_elbo(KEY, plain, x, y)[0]


def test_a_model_shows_it():
    model = model_of()
    assert "predictions  of the network linearised in its weights" in repr(model)
    assert "linearised" not in repr(dataclasses.replace(model, linearized=False))


@jax.custom_vjp
def backwards(x):
    return jnp.sin(x)


backwards.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def test_the_closed_form_needs_no_forward_mode_and_draws_say_that_they_do():
    made = bbb.bayesianize(
        lambda p, x: backwards(x @ p),
        jnp.ones((2, 1)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5),
    )
    model, x = dataclasses.replace(made, linearized=True), inputs(4)
    np.testing.assert_allclose(bbb.predict(KEY, model, x).f.mean, np.sin(x.sum(1, keepdims=True)), rtol=1e-4)
    with pytest.raises(InputError, match=r"differentiate in its weights in forward mode, .*got .* Define .*custom_jvp"):
        bbb.draws(KEY, model, x, draws=4)


def test_rows_that_meet_are_refused_by_the_closed_form_too():
    def centred(params, x):
        return (x - x.mean(0, keepdims=True)) @ params

    made = bbb.bayesianize(
        centred, jnp.ones((2, 1)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5)
    )
    model = dataclasses.replace(made, linearized=True)
    with pytest.raises(InputError, match="processes each row of x by itself"):
        bbb.predict(KEY, model, inputs(4))
    assert bbb.predict(KEY, model, inputs(4), rows="together", draws=4).method == "draws"
