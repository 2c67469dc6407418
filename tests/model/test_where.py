"""where=: some leaves become Gaussian, the others stay point estimates, which are trained and have no noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.core.jit import jit
from bbb.networks import protocol
from bbb.posteriors.mean_field import relative_std

NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
PATHS = ["0/bias", "0/weight", "2/bias", "2/weight"]


def params():
    return NETWORK.init(jax.random.key(0))


def model(where=None, **changes):
    parts = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.5), **changes}
    return bbb.bayesianize(NETWORK.apply, params(), where=where, **parts)


def gaussian_paths(made):
    return bbb.core.tree.names(made.posterior.log_std)


def data():
    x = np.linspace(-1, 1, 16)[:, None]
    return x, np.sin(3 * x)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("where", "paths"),
    [
        (None, PATHS),
        ("2/weight", ["2/weight"]),
        ("2/*", ["2/bias", "2/weight"]),
        ("*/weight", ["0/weight", "2/weight"]),
        ("weight", ["0/weight", "2/weight"]),
        (["0/bias", "2/bias"], ["0/bias", "2/bias"]),
        (("0/*", "weight"), ["0/bias", "0/weight", "2/weight"]),
        (lambda path, leaf: leaf.ndim == 2, ["0/weight", "2/weight"]),
        (lambda path, leaf: path.startswith("2"), ["2/bias", "2/weight"]),
        ((True, (), False), ["0/bias", "0/weight"]),
        (({"bias": False, "weight": True}, (), False), ["0/weight"]),
        (True, PATHS),
    ],
)
def test_where_picks_the_leaves_that_become_gaussian(where, paths):
    made = model(where)
    assert gaussian_paths(made) == paths
    same(made.posterior.mean, params())


def test_a_pattern_matches_whole_parts_of_the_path_only():
    with pytest.raises(bbb.errors.InputError, match="the pattern 'eight' of where to pick at least one leaf, got none"):
        model("eight")


@pytest.mark.parametrize("where", [lambda path, leaf: False, False, (False, (), {"bias": False, "weight": False})])
def test_a_where_that_picks_nothing_is_refused(where):
    text = r"Expected where to pick at least one leaf, got none\. The leaves are: 0/bias, 0/weight, 2/bias, 2/weight\."
    with pytest.raises(bbb.errors.InputError, match=text):
        model(where)


def test_a_pattern_that_matches_nothing_is_named_with_the_leaves_there_are():
    text = r"the pattern '\*/kernel' of where .*, got none\. The leaves are: 0/bias, 0/weight, 2/bias, 2/weight\."
    with pytest.raises(bbb.errors.InputError, match=text):
        model(["weight", "*/kernel"])


def test_a_where_that_is_no_choice_is_refused():
    with pytest.raises(
        bbb.errors.ShapeError, match="Expected where to be a pattern, a function of a path and a leaf, or a"
    ):
        model((True, False))
    with pytest.raises(bbb.errors.InputError, match="every leaf of where to be a bool, got a int"):
        model((1, (), 0))


def test_a_leaf_that_is_no_float_is_refused_by_name_picked_or_not():
    def apply(p, x):
        return x * p["w"]

    for where in (None, "w"):
        with pytest.raises(
            bbb.errors.InputError, match=r"params leaf 'n' to be a floating-point array, got dtype int32\."
        ):
            bbb.bayesianize(
                apply,
                {"w": jnp.ones(1), "n": jnp.ones(1, jnp.int32)},
                prior=bbb.priors.Normal(),
                likelihood=bbb.likelihoods.Gaussian(),
                where=where,
            )


def test_point_estimates_are_their_means_in_every_draw(dtype):
    posterior = model("weight", std=0.5).posterior
    first, _, last = bbb.posteriors.sample(jax.random.key(1), posterior)
    for drawn, mean in ((first, posterior.mean[0]), (last, posterior.mean[2])):
        np.testing.assert_array_equal(drawn["bias"], mean["bias"])
        assert not np.array_equal(drawn["weight"], mean["weight"])
        assert drawn["weight"].dtype == dtype
    assert bbb.core.tree.names(posterior.noise(jax.random.key(1))) == ["0/weight", "2/weight"]
    assert bbb.core.tree.names(posterior.std) == ["0/weight", "2/weight"]


def test_kl_and_log_prob_are_sums_over_the_gaussian_leaves_alone(dtype):
    made = model("weight", std=0.3)
    weights = tuple(layer and {"weight": layer["weight"]} for layer in params())
    alone = bbb.MeanField.around(weights, 0.3)
    np.testing.assert_allclose(bbb.priors.kl(made.posterior, made.prior), bbb.priors.kl(alone, made.prior), rtol=1e-5)
    drawn = bbb.posteriors.sample(jax.random.key(2), made.posterior)
    part = tuple(layer and {"weight": layer["weight"]} for layer in drawn)
    np.testing.assert_allclose(
        bbb.posteriors.log_prob(made.posterior, drawn), bbb.posteriors.log_prob(alone, part), rtol=1e-5
    )
    gaussian = made.posterior.random_leaves(drawn)
    assert bbb.core.tree.names(gaussian) == ["0/weight", "2/weight"]
    np.testing.assert_allclose(made.prior.log_prob(gaussian), made.prior.log_prob(part), rtol=1e-5)


def test_values_of_priors_and_scales_at_point_estimates_are_ignored():
    layer = {"bias": np.full(7, 9.0), "weight": 0.25}  # a bias of 7 fits none of the layers
    made = model("weight", prior=bbb.priors.Normal(0.0, (layer, (), layer)), std=(layer, (), layer))
    np.testing.assert_allclose(made.posterior.std[0]["weight"], 0.25, rtol=1e-6)
    same_spread = bbb.priors.Normal(0.0, 0.25).kl(made.posterior)
    np.testing.assert_allclose(bbb.priors.kl(made.posterior, made.prior), same_spread, rtol=1e-6)


@pytest.mark.parametrize(
    "forward",
    ["local_reparam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("weight_sampling", "flipout"))],
)
def test_training_moves_point_estimates_and_gaussians(forward):
    made = model("2/*")
    trained, history = bbb.fit(
        jax.random.key(0),
        made,
        *data(),
        steps=100,
        objective=bbb.train.Objective(forward=getattr(bbb.forwards, forward)(made.apply)),
    )
    assert history.loss[-1] < history.loss[0]
    assert jax.tree.structure(trained) == jax.tree.structure(made)
    for before, after in zip(jax.tree.leaves(made.posterior), jax.tree.leaves(trained.posterior), strict=True):
        assert not np.array_equal(before, after)


def test_only_gaussian_leaves_spread_the_prediction():
    x = np.array([[0.0], [1.0]])
    band = bbb.predict(jax.random.key(0), model("2/bias", std=0.5), x, draws=4_000)
    np.testing.assert_allclose(band.f.std, 0.5, rtol=5 / np.sqrt(2 * 4_000))  # 5 standard errors of a std


def test_the_gradient_of_a_point_estimate_is_that_of_the_plain_network(dtype):
    made = model("2/bias", std=1e-6)
    x, y = (jnp.asarray(part, dtype) for part in data())

    def loss(posterior):
        return jnp.sum(jnp.square(bbb.forwards.weight_sampling(NETWORK.apply)(jax.random.key(0), posterior, x) - y))

    got = jit(jax.grad(loss))(made.posterior).mean
    want = jit(jax.grad(lambda p: jnp.sum(jnp.square(NETWORK.apply(p, x) - y))))(made.posterior.mean)
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)


def test_a_posterior_with_point_estimates_survives_jax():
    posterior = model("weight").posterior
    same(jax.jit(lambda p: p)(posterior), posterior)
    same(jax.tree.unflatten(*reversed(jax.tree.flatten(posterior))), posterior)


def test_two_trees_that_do_not_fit_are_still_refused():
    with pytest.raises(bbb.errors.ShapeError, match="log_std to have the structure of mean"):
        bbb.MeanField({"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": jnp.ones(2), "c": None})
    with pytest.raises(bbb.errors.ShapeError, match="log_std leaf 'b' to have the shape"):
        bbb.MeanField({"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": None, "b": jnp.ones(3)})


def test_parameters_may_hold_none():
    def apply(p, x):
        return x @ p["weight"]

    made = bbb.bayesianize(
        apply,
        {"weight": jnp.ones((2, 1)), "bias": None, "scale": jnp.ones(1)},
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(),
        where="weight",
    )
    assert gaussian_paths(made) == ["weight"]
    assert set(bbb.posteriors.sample(jax.random.key(0), made.posterior)) == {"weight", "bias", "scale"}
    assert np.isfinite(bbb.predict(jax.random.key(0), made, np.ones((3, 2)), draws=8).y.std).all()


def test_point_estimates_are_saved_and_loaded(tmp_path):
    made = model("weight")
    bbb.save(tmp_path / "m", made)
    for loaded in (bbb.load(tmp_path / "m"), bbb.load(tmp_path / "m", like=made)):
        same(loaded, made)
        assert jax.tree.structure(loaded) == jax.tree.structure(made)


def test_a_file_of_other_point_estimates_is_refused(tmp_path):
    bbb.save(tmp_path / "m", model("weight"))
    with pytest.raises(
        bbb.errors.ModelFileError, match="the parameters of the model given as like, got a file without"
    ):
        bbb.load(tmp_path / "m", like=model())


@pytest.mark.parametrize("where", [None, True, "*"])
def test_running_statistics_are_left_out_whatever_is_picked(where):
    network = bbb.nn.sequential(bbb.nn.linear(2, 3), bbb.nn.residual(bbb.nn.batch_norm(3)), bbb.nn.linear(3, 1))
    made = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(),
        where=where,
    )
    paths = ["0/bias", "0/weight", "1/0/bias", "1/0/weight", "2/bias", "2/weight"]
    assert gaussian_paths(made) == paths


def test_a_where_that_picks_running_statistics_alone_is_refused():
    network = bbb.nn.sequential(bbb.nn.linear(2, 3), bbb.nn.batch_norm(3))
    with pytest.raises(bbb.errors.InputError, match=r"'running_\*' of where to pick at least one leaf, got none"):
        bbb.bayesianize(
            network.apply,
            network.init(jax.random.key(0)),
            prior=bbb.priors.Normal(),
            likelihood=bbb.likelihoods.Gaussian(),
            where="running_*",
        )


# MOPED


def test_a_prior_around_the_weights_is_centred_on_them(dtype):
    made = model(prior=bbb.priors.Normal.around(params()), std=1.0)
    assert float(bbb.priors.kl(made.posterior, made.prior)) == pytest.approx(0.0, abs=1e-6)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(made.prior)} == {dtype}


def test_relative_scales_are_delta_times_the_weights():
    weights = {"w": jnp.array([-2.0, 0.5, 0.0]), "n": jnp.array(3)}
    std = relative_std(weights, delta=0.1, least=1e-3)
    np.testing.assert_allclose(std["w"], [0.2, 0.05, 1e-3], rtol=1e-6)
    rho = np.log(np.expm1(0.1 * np.abs([-2.0, 0.5])))  # as the paper writes it
    np.testing.assert_allclose(std["w"][:2], np.log1p(np.exp(rho)), rtol=1e-6)
    posterior = model(std=relative_std(params(), 0.2)).posterior
    np.testing.assert_allclose(
        posterior.std[0]["weight"], np.maximum(0.2 * np.abs(params()[0]["weight"]), 1e-4), rtol=1e-5
    )


def test_bad_numbers_for_moped_are_refused():
    with pytest.raises(bbb.errors.InputError, match="delta to be finite and above 0"):
        relative_std(params(), delta=0.0)
    with pytest.raises(bbb.errors.InputError, match="prior std to be finite and above 0"):
        bbb.priors.Normal.around(params(), -1.0)


# Equal networks


def test_equal_networks_compile_once():
    def build():
        network = bbb.nn.sequential(bbb.nn.linear(1, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
        return bbb.bayesianize(
            network.apply, params(), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
        )

    first, second = build(), build()
    assert first.apply == second.apply
    assert hash(first.apply) == hash(second.apply)
    traces = []
    count = jax.jit(lambda m: traces.append(m) or bbb.priors.kl(m.posterior, m.prior))
    count(first), count(second)
    assert len(traces) == 1


def test_different_networks_and_objects_without_values_stay_apart():
    class Plain:
        def apply(self, p, x):
            return x * p

    a, b = Plain(), Plain()
    assert protocol.by_value(a.apply) == a.apply
    assert protocol.by_value(a.apply) != protocol.by_value(b.apply)
    assert model().apply != protocol.by_value(bbb.nn.relu.apply)
