"""`tune` against the closed form of a linear network, and what it keeps of a model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import bbb
from bbb import likelihoods, priors
from tests.curvature.models import KEY, ensemble_of, line, mlp

LBFGS = optax.lbfgs()
WORDS = [("full", "leaf", 40), ("full", "network", 5), ("diag", "layer", 5), ("last_layer", "layer", 40)]


def stds(model):
    return jax.tree.leaves(model.prior.std)


@pytest.mark.parametrize(("structure", "per", "rows"), WORDS)
def test_the_evidence_never_falls_and_ends_where_it_has_no_slope(structure, per, rows):
    with jax.enable_x64(True):
        model, x, y = mlp(rows=rows)
        found, tuning = bbb.tune(KEY, model, x, y, structure=structure, per=per)
        assert (np.diff(tuning.evidence) >= 0).all()
        assert tuning.evidence[-1] > tuning.evidence[0] + 1
        of = functools.partial(bbb.log_evidence, x=x, y=y, structure=structure)
        np.testing.assert_allclose(tuning.evidence[[0, -1]], [of(model), of(found)], rtol=1e-9)
        groups = {"leaf": ["0/bias", "0/weight", "2/bias", "2/weight"], "network": ["all"]}.get(per, ["0", "2"])
        groups = ["2"] if structure == "last_layer" else groups
        assert list(tuning.prior_std) == groups
        slopes = jax.grad(lambda changed: of(moved(found, changed, per, structure)))(jnp.zeros(len(groups) + 1))
        np.testing.assert_allclose(slopes, 0, atol=2e-5)
        jax.tree.map(np.testing.assert_array_equal, found.posterior, model.posterior)
        if structure == "last_layer":
            assert stds(found)[:2] == [0.7, 0.7]


def moved(model, changed, per, structure):
    """Return a model whose groups of stds, and noise at last, are multiplied by exponentials."""
    of_leaf = {"leaf": (0, 1, 2, 3), "network": (0, 0, 0, 0), "layer": (0, 0, 1, 1)}[per]
    factors = jnp.concatenate([jnp.zeros(structure == "last_layer"), changed[:-1]])
    leaves, tree = jax.tree.flatten(model.prior.std)
    scaled = [leaf * jnp.exp(factors[i]) for i, leaf in zip(of_leaf, leaves, strict=True)]
    prior = dataclasses.replace(model.prior, std=jax.tree.unflatten(tree, scaled))
    likelihood = jax.tree.map(lambda leaf: leaf + changed[-1], model.likelihood)
    return dataclasses.replace(model, prior=prior, likelihood=likelihood)


def straight(rows=30, columns=4):
    """Return a linear model with N(0, 1) weights and noise 1, and data of other scales than these."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, columns))
    y = 0.3 + 0.5 * x @ rng.normal(size=(columns, 1)) + 0.4 * rng.normal(size=(rows, 1))
    params = {"b": jnp.zeros(1), "w": jnp.zeros((columns, 1))}
    noise = likelihoods.Gaussian(1.0, learn=True)
    return bbb.bayesianize(line, params, prior=priors.Normal(0.0, 1.0), likelihood=noise), x, y


def test_of_a_linear_network_rounds_find_the_largest_density_of_the_data():
    with jax.enable_x64(True):
        model, x, y = straight()
        design = np.hstack([np.ones((len(x), 1)), x])

        def negative(logs):
            prior, noise = np.exp(2 * logs)
            of_y = prior * design @ design.T + noise * np.eye(len(x))
            nats = y[:, 0] @ np.linalg.solve(of_y, y[:, 0]) + np.linalg.slogdet(2 * np.pi * of_y)[1]
            return 0.5 * nats

        exact = scipy.optimize.minimize(negative, np.zeros(2), method="Nelder-Mead", tol=1e-13)
        found, tuning = bbb.tune(KEY, model, x, y, rounds=8, steps=20, optimizer=LBFGS, progress=False)
        np.testing.assert_allclose(tuning.evidence[tuning.best], -exact.fun, rtol=1e-10)
        prior, noise = np.exp(exact.x)
        np.testing.assert_allclose(stds(found), prior, rtol=1e-6)
        np.testing.assert_allclose(found.likelihood.std, noise, rtol=1e-6)
        at_best = tuning.prior_std["all"][tuning.best], tuning.noise_std[tuning.best]
        np.testing.assert_allclose(at_best, (prior, noise), rtol=1e-6)
        assert sorted(set(tuning.round)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_rounds_return_the_one_of_the_largest_evidence():
    model, x, y = straight()
    _, tuning = bbb.tune(KEY, model, x, y, rounds=3, steps=5, updates=2, progress=False)
    ends = [tuning.evidence[tuning.round == i][-1] for i in (1, 2, 3)]
    assert tuning.evidence[tuning.best] == max(ends)
    for i in (1, 2, 3):
        assert (np.diff(tuning.evidence[tuning.round == i]) >= 0).all()


def test_a_group_keeps_the_ratios_of_its_standard_deviations():
    model, x, y = mlp(dtype="float32")
    prior = priors.fan_in(model.posterior.params)
    found, tuning = bbb.tune(KEY, dataclasses.replace(model, prior=prior), x, y, per="layer")
    before, after = jax.tree.leaves(prior.std), stds(found)
    for i in (0, 2):
        np.testing.assert_allclose(after[i] / after[i + 1], before[i] / before[i + 1], rtol=1e-5)
    sizes = [leaf.size for leaf in jax.tree.leaves(model.posterior.params)]
    mean = np.sqrt((sizes[0] * after[0] ** 2 + sizes[1] * after[1] ** 2) / (sizes[0] + sizes[1]))
    np.testing.assert_allclose(tuning.prior_std["0"][-1], mean, rtol=1e-5)


def test_one_std_for_each_weight_keeps_its_shape():
    model, x, y = mlp(dtype="float32")
    std = jax.tree.map(lambda leaf: jnp.linspace(0.5, 1.0, leaf.size).reshape(leaf.shape), model.posterior.params)
    found, _ = bbb.tune(KEY, dataclasses.replace(model, prior=priors.Normal(0.0, std)), x, y, per="network")
    ratios = [np.unique(np.round(a / b, 4)) for a, b in zip(stds(found), jax.tree.leaves(std), strict=True)]
    assert len(np.unique(np.concatenate(ratios))) == 1


def test_noise_that_is_not_to_be_learned_stays_and_so_do_leaves_that_are_not_random():
    model, x, y = mlp(dtype="float32", likelihood=likelihoods.Gaussian(0.3), where="weight")
    found, tuning = bbb.tune(KEY, model, x, y, per="leaf")
    assert tuning.noise_std is None
    assert found.likelihood.std == model.likelihood.std
    assert list(tuning.prior_std) == ["0/weight", "2/weight"]
    np.testing.assert_allclose([stds(found)[0], stds(found)[2]], 0.7, rtol=1e-6)  # the biases


@pytest.mark.parametrize("kind", ["StudentT", "NegativeBinomial", "Categorical"])
def test_other_likelihoods_are_tuned_too(kind):
    model, x, y = mlp(kind, dtype="float32")
    if kind == "StudentT":
        model = dataclasses.replace(model, likelihood=likelihoods.StudentT(0.3, 5.0, learn=True, learn_df=True))
    if kind == "NegativeBinomial":
        model = dataclasses.replace(model, likelihood=likelihoods.NegativeBinomial(0.5, learn=True))
    found, tuning = bbb.tune(KEY, model, x, y)
    assert tuning.evidence[-1] > tuning.evidence[0]
    same = jax.tree.map(lambda a, b: bool((a == b).all()), model.likelihood, found.likelihood)
    assert all(jax.tree.leaves(same)) == (kind == "Categorical")
    np.testing.assert_allclose(bbb.log_evidence(found, x, y), tuning.evidence[-1], rtol=1e-5)


def test_the_members_of_an_ensemble_share_the_prior_and_have_noises_of_their_own():
    model, x, y = mlp(dtype="float32")
    several = ensemble_of(model)
    found, tuning = bbb.tune(KEY, several, x, y)
    assert tuning.noise_std.shape == (len(tuning.evidence), 2)
    assert tuning.noise_std[-1, 0] != tuning.noise_std[-1, 1]
    each = [bbb.log_evidence(found.member(k), x, y) for k in range(2)]
    np.testing.assert_allclose(sum(each), tuning.evidence[-1], rtol=1e-5)
    np.testing.assert_allclose([m.likelihood.std for m in map(found.member, range(2))], tuning.noise_std[-1], rtol=1e-6)
    again, _ = bbb.tune(KEY, found, x, y, rounds=2, steps=3, progress=False)
    assert again.members == 2
    assert bbb.laplace(KEY, again, x, y).members == 2


def test_a_tuned_model_is_trained_and_saved_like_any_other(tmp_path):
    model, x, y = mlp(dtype="float32")
    found, tuning = bbb.tune(KEY, model, x, y, rounds=1, steps=3, progress=False)
    assert found.likelihood.learn
    bbb.save(tmp_path / "model", found)
    again = bbb.load(tmp_path / "model", like=found)
    jax.tree.map(np.testing.assert_array_equal, again, found)
    bbb.fit(KEY, again, x, y, steps=1, progress=False)
    assert "evidence" in repr(tuning)
    assert "prior std of 0" in repr(tuning)


def test_float32_agrees_with_float64():
    model, x, y = mlp(dtype="float32")
    short, _ = bbb.tune(KEY, model, x, y)
    with jax.enable_x64(True):
        exact, _ = bbb.tune(KEY, jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), model), x, y)
    assert stds(short)[0].dtype == jnp.float32
    np.testing.assert_allclose(stds(short), stds(exact), rtol=2e-2)


@pytest.mark.slow
def test_it_chooses_the_hidden_width():
    """The data are two steps, which one hidden unit cannot follow, and two can: more are not worth their weights."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (150, 1)).astype("float32")
    y = (np.tanh(3 * (x + 1)) - np.tanh(3 * (x - 1)) - 1 + 0.2 * rng.normal(size=x.shape)).astype("float32")

    def best(width):
        network = bbb.nn.sequential(bbb.nn.linear(1, width), bbb.nn.tanh, bbb.nn.linear(width, 1))
        noise = likelihoods.Gaussian(0.5, learn=True)
        found = []
        for key in jax.random.split(KEY, 3):
            model = bbb.bayesianize(network.apply, network.init(key), prior=priors.Normal(0.0, 1.0), likelihood=noise)
            _, tuning = bbb.tune(key, model, x, y, rounds=10, steps=500, progress=False)
            found.append(tuning.evidence[tuning.best])
        return max(found)

    evidence = {width: best(width) for width in (1, 2, 4, 12)}
    print(evidence)
    assert max(evidence, key=evidence.get) == 2
    assert evidence[2] > evidence[1] + 50


def test_each_column_gets_a_prior_of_its_own():
    """The evidence has no slope in any of them, and a column that y does not depend on gets next to nothing."""
    with jax.enable_x64(True):
        model, _, _ = mlp()
        rng = np.random.default_rng(0)
        x = rng.normal(size=(60, 2))
        y = np.sin(x[:, :1]) + 0.1 * rng.normal(size=(60, 1))
        found, tuning = bbb.tune(KEY, model, x, y, per="column", rounds=10, steps=200, updates=20, progress=False)
        assert list(tuning.prior_std) == ["0/bias", "0/weight[0]", "0/weight[1]", "2/bias", "2/weight"]
        std = found.prior.std[0]["weight"]
        assert std.shape == (1, 2)
        np.testing.assert_allclose(
            [tuning.prior_std[f"0/weight[{i}]"][tuning.best] for i in (0, 1)], std[0], rtol=1e-12
        )
        assert std[0, 1] < 0.1 * std[0, 0]

        def evidence(logs):
            scaled = std * jnp.exp(logs)[None]
            stds = (found.prior.std[0] | {"weight": scaled}, *found.prior.std[1:])
            prior = dataclasses.replace(found.prior, std=stds)
            return bbb.log_evidence(dataclasses.replace(found, prior=prior), x, y)

        slopes = jax.grad(evidence)(jnp.zeros(2))
        np.testing.assert_allclose(slopes[0], 0, atol=1e-2)  # of the first: the other goes to 0 for ever


def test_a_network_without_columns_has_a_prior_for_each_leaf():
    network = bbb.nn.sequential(bbb.nn.tanh, bbb.nn.linear(2, 1))
    given = {"prior": priors.Normal(0.0, 1.0), "likelihood": likelihoods.Gaussian(1.0, learn=True)}
    model = bbb.bayesianize(network.apply, network.init(KEY), **given)
    x = np.linspace(-1, 1, 20).reshape(10, 2)
    _, tuning = bbb.tune(KEY, model, x, x[:, :1], per="column")
    assert list(tuning.prior_std) == ["1/bias", "1/weight"]


def test_batches_train_the_means_too():
    model, x, y = straight()
    options = {"rounds": 4, "steps": 200, "updates": 5, "progress": False}
    _, whole = bbb.tune(KEY, model, x, y, **options)
    _, parts = bbb.tune(KEY, model, x, y, batch_size=10, **options)
    assert parts.evidence[parts.best] == pytest.approx(whole.evidence[whole.best], abs=0.5)
    assert parts.evidence[-1] != whole.evidence[-1]


def test_a_training_that_diverges_says_so():
    model, x, y = straight()
    with pytest.raises(bbb.errors.NonFiniteLossError, match="finite means after round 1 of tune, got NaN") as caught:
        bbb.tune(KEY, model, x, y, rounds=2, steps=200, optimizer=optax.sgd(1e6), progress=False)
    assert "lower learning rate" in str(caught.value)
    assert np.isfinite(caught.value.model.posterior.mean["w"]).all()
