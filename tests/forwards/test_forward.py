"""Forwards: a network with random weights, its chance apart from its arithmetic."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.core.jit import jit
from bbb.forwards.explanation import explain
from bbb.forwards.rowwise import flipout, local_reparam
from bbb.forwards.sampling import weight_sampling

KEY = jax.random.key(3)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 5), bbb.nn.tanh, bbb.nn.linear(5, 3))
X = np.random.default_rng(0).normal(size=(7, 2)).astype("float32")


def posterior():
    return bbb.MeanField.around(NETWORK.init(jax.random.key(0)), 0.3)


def test_weight_sampling_is_the_network_at_one_sample_of_the_weights():
    q = posterior()
    outputs = bbb.forwards.weight_sampling(NETWORK.apply)(KEY, q, X)
    np.testing.assert_array_equal(outputs, NETWORK.apply(bbb.posteriors.sample(KEY, q), X))


def test_noise_and_evaluate_together_are_the_forward():
    q, forward = posterior(), bbb.forwards.weight_sampling(NETWORK.apply)
    noise = forward.noise(KEY, q, X)
    np.testing.assert_array_equal(forward.evaluate(noise, q, X), forward(KEY, q, X))
    assert jax.tree.map(jnp.shape, noise) == jax.tree.map(jnp.shape, q.mean)


def test_evaluate_without_noise_is_the_network_at_the_mean():
    q = posterior()
    outputs = bbb.forwards.weight_sampling(NETWORK.apply).evaluate(jax.tree.map(jnp.zeros_like, q.mean), q, X)
    np.testing.assert_array_equal(outputs, NETWORK.apply(q.mean, X))


def test_one_draw_is_shared_by_all_rows():
    q = posterior()
    outputs = bbb.forwards.weight_sampling(NETWORK.apply)(KEY, q, np.tile(X[:1], (4, 1)))
    np.testing.assert_array_equal(outputs, np.tile(outputs[:1], (4, 1)))


def test_forwards_of_one_network_are_equal_so_that_programs_are_reused():
    assert bbb.forwards.weight_sampling(NETWORK.apply) == bbb.forwards.weight_sampling(NETWORK.apply)
    assert hash(bbb.forwards.weight_sampling(NETWORK.apply)) == hash(bbb.forwards.weight_sampling(NETWORK.apply))


def test_a_plain_function_serves_as_a_forward():
    def apply(w, x):
        return x @ w

    def forward(key, q, x):
        return apply(bbb.posteriors.sample(key, q), x)

    model = bbb.bayesianize(
        apply, jnp.ones((2, 1)), prior=bbb.priors.Normal(0.0, 1.0), likelihood=bbb.likelihoods.Gaussian(0.5), std=0.3
    )
    y, optimizer = np.zeros((7, 1)), optax.sgd(1e-3)
    _, built_in = bbb.fit(KEY, model, X, y, steps=20, objective=bbb.train.Objective(draws=2), optimizer=optimizer)
    _, plain = bbb.fit(
        KEY, model, X, y, steps=20, objective=bbb.train.Objective(draws=2, forward=forward), optimizer=optimizer
    )
    np.testing.assert_allclose(plain.loss, built_in.loss, rtol=1e-4)  # the same draws, to float rounding
    value, _ = bbb.objectives.negative_elbo(KEY, model, X, y, draws=2)
    same, _ = bbb.objectives.negative_elbo(KEY, model, X, y, draws=2, forward=forward)
    np.testing.assert_allclose(same, value, rtol=1e-5)


# --- every forward, on a dense and on a convolutional network --------------------------------------------------------

APPROXIMATE = pytest.mark.filterwarnings("ignore::bbb.forwards.ApproximationWarning")  # which other tests ask for
ROWS = [local_reparam, flipout]
FORWARDS = [weight_sampling, *ROWS]
DEEP = bbb.nn.sequential(*(layer for sizes in ((2, 6), (6, 4)) for layer in (bbb.nn.linear(*sizes), bbb.nn.relu)))


def mlp(params, x):
    """Two hidden layers."""
    hidden = DEEP.apply(params["deep"], x)
    return hidden @ params["weight"] + params["bias"][None]


def conv(params, x):
    dims = ("NHWC", "HWIO", "NHWC")
    images = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=dims)
    return images + params["bias"].reshape(1, 1, 1, -1)


def cnn(params, x):
    hidden = jax.nn.relu(conv(params, x)).reshape(x.shape[0], -1)
    return hidden @ params["weight"]


def case(name, dtype="float32", std=0.3):
    """Return a network, its posterior, and three rows of data."""
    rng = np.random.default_rng(1)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), dtype)

    if name == "mlp":
        deep = jax.tree.map(lambda leaf: leaf.astype(dtype), DEEP.init(jax.random.key(0)))
        apply, params = mlp, {"deep": deep, "weight": normal(4, 2), "bias": normal(2)}
    else:
        apply, params = {"cnn": cnn, "conv": conv}[name], {"kernel": normal(3, 3, 1, 2), "bias": normal(2)}
        params |= {"weight": normal(4 * 4 * 2, 2)} if name == "cnn" else {}
    shape = (3, 2) if name == "mlp" else (3, 4, 4, 1)
    return apply, bbb.MeanField.around(params, std), jnp.asarray(rng.normal(size=shape), dtype)


@functools.cache
def draws_of(forward, name):
    """Return 20,000 draws of the outputs."""
    apply, q, x = case(name)
    keys = jax.random.split(jax.random.key(FORWARDS.index(forward)), 20_000)
    return np.float64(jax.jit(jax.vmap(lambda key: forward(apply)(key, q, x)))(keys))


def assert_same_moments(a, b, errors=5):
    """Compare means and variances of two sets of draws, in standard errors of their difference."""
    (m, v, vm, vv), (m2, v2, vm2, vv2) = map(moments_with_errors, (a, b))
    assert np.max(np.abs(m - m2) / np.sqrt(vm + vm2)) < errors
    assert np.max(np.abs(v - v2) / np.sqrt(vv + vv2)) < errors


def moments_with_errors(draws):
    centred = draws - draws.mean(0)
    variance = np.mean(centred**2, 0)
    return draws.mean(0), variance, variance / len(draws), np.var(centred**2, axis=0) / len(draws)


@APPROXIMATE
@pytest.mark.parametrize("forward", ROWS)
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_each_output_is_distributed_as_under_weight_sampling(forward, name):
    assert_same_moments(draws_of(forward, name), draws_of(weight_sampling, name))


def test_flipout_of_a_convolutional_network_is_distributed_as_under_weight_sampling():
    assert_same_moments(draws_of(flipout, "cnn"), draws_of(weight_sampling, "cnn"))


@APPROXIMATE
def test_local_reparam_of_a_convolutional_network_spreads_a_little_too_little():
    # the first layer's places share no noise: an approximation, stated where it is chosen
    local, exact = draws_of(local_reparam, "cnn"), draws_of(weight_sampling, "cnn")
    (m, v, vm, vv), (m2, v2, vm2, vv2) = map(moments_with_errors, (local, exact))
    assert np.max(np.abs(m - m2) / np.sqrt(vm + vm2)) < 5
    ratio, error = np.sqrt(v / v2), np.sqrt(vv / v**2 + vv2 / v2**2) / 2
    assert np.all(ratio < 1 + 5 * error)
    assert np.all(ratio > 0.7)


@APPROXIMATE
@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
class TestOfEveryForward:
    @pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True)
    def test_key_and_noise_decide_the_outputs(self, forward, name, dtype):
        apply, q, x = case(name, dtype)
        draw, evaluate = jit(forward(apply).noise), jit(forward(apply).evaluate)
        noise = draw(KEY, q, x)
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(noise))
        outputs = evaluate(noise, q, x)
        assert outputs.dtype == dtype
        np.testing.assert_array_equal(evaluate(draw(KEY, q, x), q, x), outputs)
        assert not np.array_equal(evaluate(draw(jax.random.key(4), q, x), q, x), outputs)
        # without noise, and with weights that are almost certain, it is the network itself
        expected = jit(apply)(q.mean, x)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), noise)
        np.testing.assert_allclose(evaluate(zeros, q, x), expected, rtol=8 * jnp.finfo(dtype).eps)
        certain = bbb.MeanField(q.mean, jax.tree.map(lambda leaf: np.full(leaf.shape, -27, leaf.dtype), q.log_std))
        np.testing.assert_allclose(evaluate(noise, certain, x), expected, rtol=1e-6, atol=1e-6)

    def test_turned_noise_mirrors_the_first_products(self, forward, name):
        first = {"mlp": lambda p, x: x @ p["w"] + p["b"][None], "cnn": conv}[name]
        q = case("conv")[1] if name == "cnn" else bbb.MeanField.around({"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, 0.3)
        x = case(name)[2]
        noise, evaluate = jit(forward(first).noise)(KEY, q, x), jit(forward(first).evaluate)
        one, other = (evaluate(e, q, x) for e in (noise, jax.tree.map(jnp.negative, noise)))
        np.testing.assert_allclose(one + other, 2 * first(q.mean, x), rtol=1e-5, atol=1e-5)
        assert np.max(np.abs(one - other)) > 0.1

    def test_gradients_are_finite_at_a_row_of_zeros(self, forward, name):
        apply, q, x = case(name)
        loss = jit(jax.grad(lambda q, x: jnp.sum(jnp.square(forward(apply)(KEY, q, x)))))
        grads = loss(q, jnp.zeros_like(x))
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("forward", ROWS)
def test_noise_may_be_drawn_for_many_calls_at_once(forward):
    apply, q, x = case("mlp")
    made, keys = forward(apply), jax.random.split(KEY, 4)
    noise = jax.jit(jax.vmap(lambda key: made.noise(key, q, x)))(keys)
    outputs = jax.jit(jax.vmap(lambda e: made.evaluate(e, q, x)))(noise)
    np.testing.assert_allclose(outputs[2], jax.jit(made)(keys[2], q, x), rtol=1e-5, atol=1e-6)


@functools.cache
def gradients_of(forward, name):
    """Return 20,000 estimates of the gradient of the expected log-likelihood of a target of ones."""
    apply, q, x = case(name)

    def loss(q, key):
        return 0.5 * jnp.sum(jnp.square(forward(apply)(key, q, x) - 1))

    keys = jax.random.split(jax.random.key(10 + FORWARDS.index(forward)), 20_000)
    grads = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(q, keys)
    return np.concatenate([np.float64(leaf).reshape(len(keys), -1) for leaf in jax.tree.leaves(grads)], axis=1)


# for the convolutional network local reparameterisation is an approximation, and has another expectation
@pytest.mark.parametrize(
    ("forward", "name"),
    [(local_reparam, "mlp"), (flipout, "mlp"), pytest.param(flipout, "cnn", marks=pytest.mark.slow)],
)
def test_the_expected_gradient_is_that_of_weight_sampling(forward, name):
    a, b = gradients_of(forward, name), gradients_of(weight_sampling, name)
    error = np.sqrt((a.var(0) + b.var(0)) / len(a))
    assert np.max(np.abs(a.mean(0) - b.mean(0)) / np.maximum(error, 1e-12)) < 4


@pytest.mark.parametrize("forward", ROWS)
def test_rows_do_not_share_their_noise(forward):
    # two equal rows: equal under weight sampling, uncorrelated here
    q, x = bbb.MeanField.around({"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, 0.3), jnp.ones((2, 2))
    keys = jax.random.split(KEY, 20_000)
    apply = forward(lambda p, x: x @ p["w"] + p["b"][None])
    draws = np.float64(jax.jit(jax.vmap(lambda key: apply(key, q, x)))(keys)).reshape(len(keys), -1)
    correlation = np.corrcoef(draws.T) - np.eye(6)
    assert np.max(np.abs(correlation)) < 5 / np.sqrt(len(keys))
    np.testing.assert_allclose(draws.var(0), 0.27, rtol=5 * np.sqrt(2 / len(keys)))  # (1 + 1 + 1)·0.3²


# --- a weight that is not in one product with data: one draw is shared, or turned by the signs of each row ------------


def tied(params, x):
    """An autoencoder with one weight."""
    return jnp.tanh(x @ params["w"]) @ params["w"].T


def scanned(params, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["layers"])[0]


def embedded(params, x):
    return params["table"][jnp.int32(x[:, 0] > 0)]


def elementwise(params, x):
    return x * params["gain"][None]


def composed(params, x):
    return x @ (jnp.tanh(params["w"]) @ params["layers"][0])


def shared_bias(params, x):
    """One bias for all outputs of a row, which ties them."""
    return x @ params["layers"][0] + params["offset"]


SHARED = [tied, scanned, embedded, elementwise, composed]

PARAMS = {
    "w": np.float32([[0.5, -1.0, 0.3], [0.2, 0.4, -0.6], [0.1, 0.9, 0.3]]),
    "layers": np.float32([[[0.5, 0.1, 0.2], [0.3, -0.4, 0.1], [0.6, 0.2, -0.2]]] * 2),
    "table": np.float32([[1.0, 2.0], [3.0, 4.0]]),
    "gain": np.float32([1.0, 2.0, 3.0]),
    "offset": np.float32(0.5),
}
X3 = np.random.default_rng(2).normal(size=(4, 3)).astype("float32")


def all_of_them(params, x):
    """Each network with parameters of its own, in one program, which compiles faster."""
    return {apply.__name__: apply(params[apply.__name__], x) for apply in (*SHARED, shared_bias)}


@functools.cache
def many(forward):
    keys = jax.random.split(jax.random.key(20 + FORWARDS.index(forward)), 20_000)
    q = bbb.MeanField.around({apply.__name__: PARAMS for apply in (*SHARED, shared_bias)}, 0.3)
    draws = jax.jit(jax.vmap(lambda key: forward(all_of_them)(key, q, X3)))(keys)
    return jax.tree.map(np.float64, draws)


def joint(draws):
    return pairs(draws.reshape(len(draws), -1))


def pairs(flat):
    """Return all sums of two outputs: their variances hold the covariances."""
    first, second = np.triu_indices(flat.shape[1])
    return flat[:, first] + flat[:, second]


@pytest.mark.parametrize("apply", SHARED)
def test_a_shared_draw_has_the_joint_distribution_of_weight_sampling(apply):
    name = apply.__name__
    assert_same_moments(joint(many(local_reparam)[name]), joint(many(weight_sampling)[name]))


@pytest.mark.parametrize("apply", SHARED)
def test_flipout_gives_each_row_its_own_draw_with_the_joint_distribution_of_its_outputs(apply):
    ours, exact = (many(made)[apply.__name__] for made in (flipout, weight_sampling))
    for row in range(len(X3)):
        assert_same_moments(pairs(ours[:, row]), pairs(exact[:, row]))


@pytest.mark.parametrize("forward", ROWS)
def test_a_bias_that_ties_the_outputs_of_a_row_is_one_number_for_it(forward):
    ours, exact = (many(made)["shared_bias"] for made in (forward, weight_sampling))
    for row in range(len(X3)):
        assert_same_moments(pairs(ours[:, row]), pairs(exact[:, row]))


def test_a_weight_used_twice_is_one_weight():
    # x @ w − x @ w is 0 for one draw, and would not be for two
    def nothing(params, x):
        return x @ params["w"] - x @ params["w"]

    q = bbb.MeanField.around(PARAMS, 0.3)
    for forward in FORWARDS:
        np.testing.assert_array_equal(jax.jit(forward(nothing))(KEY, q, X3), np.zeros((4, 3)))


# --- what passes through ---------------------------------------------------------------------------------------------


def test_point_estimates_are_their_means():
    apply, q, x = case("mlp")
    std = jax.tree.map(lambda _: None, q.log_std)
    fixed = bbb.MeanField(q.mean, std | {"weight": q.log_std["weight"]})
    for forward in ROWS:
        noise = jax.eval_shape(forward(apply).noise, KEY, fixed, x)
        assert len(noise) == len(jax.eval_shape(forward(jnp_matmul).noise, KEY, weight_of(fixed), jnp.zeros((3, 4))))
        certain = bbb.MeanField(q.mean, std)
        assert forward(apply).noise(KEY, certain, x) == ()
        np.testing.assert_allclose(jax.jit(forward(apply))(KEY, certain, x), jax.jit(apply)(q.mean, x), rtol=1e-6)


def jnp_matmul(params, x):
    return x @ params


def weight_of(q):
    return bbb.MeanField(q.mean["weight"], q.log_std["weight"])


@pytest.mark.parametrize("forward", FORWARDS)
def test_parameters_may_hold_none(forward):
    def apply(params, x):
        return x @ params["w"] + params["gain"][None]

    q = bbb.MeanField.around(
        {"bias": None, "gain": PARAMS["gain"], "w": PARAMS["w"]}, 0.3, {"bias": None, "gain": False, "w": True}
    )
    without = bbb.MeanField({k: q.mean[k] for k in ("gain", "w")}, {k: q.log_std[k] for k in ("gain", "w")})
    outputs, expected = jit(lambda q, other: [forward(apply)(KEY, p, X3) for p in (q, other)])(q, without)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    assert np.max(np.abs(outputs - apply(q.mean, X3))) > 0.1
    assert [route.leaf for route in explain(apply, q, X3, forward)] == ["gain", "w"]
    assert explain(apply, q, X3, forward) == explain(apply, without, X3, forward)


@pytest.mark.parametrize("forward", ROWS)
def test_trees_of_data_and_outputs_and_typed_keys_pass_through(forward):
    def dropout(params, inputs):
        x, key = inputs
        kept = jax.random.bernoulli(key, 0.5, x.shape)
        hidden = jnp.where(kept, 2 * x, 0) @ params["w"]
        return hidden, {"mean": jnp.mean(hidden, axis=0), "key": key}

    q = bbb.MeanField.around({"w": PARAMS["w"]}, 1e-12)
    outputs, state = jax.jit(forward(dropout))(KEY, q, (X3, jax.random.key(9)))
    expected, expected_state = dropout(q.mean, (X3, jax.random.key(9)))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["mean"], expected_state["mean"], rtol=1e-5, atol=1e-6)
    assert state["key"] == expected_state["key"]


@pytest.mark.parametrize("forward", ROWS)
def test_weights_in_bfloat16_pass_through_conversions(forward):
    def mixed(params, x):
        return (x.astype(jnp.bfloat16) @ params["w"].astype(jnp.bfloat16)).astype(jnp.float32)

    q = bbb.MeanField.around({"w": PARAMS["w"]}, 0.3)
    assert explain(mixed, q, X3, forward)[0].route in ("local", "flipout")
    outputs = forward(mixed)(KEY, q, X3)
    assert outputs.dtype == jnp.float32
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), q)
    assert forward(lambda p, x: x @ p["w"])(KEY, half, X3.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("forward", [local_reparam, pytest.param(flipout, marks=pytest.mark.slow)])
def test_it_trains(forward):
    model = bbb.bayesianize(
        NETWORK.apply, NETWORK.init(KEY), prior=bbb.priors.Normal(0.0, 1.0), likelihood=bbb.likelihoods.Gaussian(0.3)
    )
    y = np.sin(X @ np.ones((2, 3), "float32"))
    _, history = bbb.fit(
        KEY,
        model,
        X,
        y,
        steps=200,
        batch_size=4,
        objective=bbb.train.Objective(draws=2, forward=forward(NETWORK.apply)),
        progress=False,
    )
    assert np.mean(history.loss[-20:]) < 0.5 * np.mean(history.loss[:20])


# --- programs --------------------------------------------------------------------------------------------------------


def test_weight_sampling_is_the_program_of_the_network_at_a_sample():
    apply, q, x = case("cnn")
    forward = weight_sampling(apply)
    one = jax.jit(forward).lower(KEY, q, x).compile()
    other = jax.jit(lambda key, q, x: apply(bbb.posteriors.sample(key, q), x)).lower(KEY, q, x).compile()
    assert one.cost_analysis() == other.cost_analysis()
    assert one.as_text().count(" = ") == other.as_text().count(" = ")


@pytest.mark.parametrize("forward", FORWARDS)
def test_nothing_compiles_twice(forward, caplog):
    apply, q, x = case("mlp")
    other = x + 1

    @functools.partial(jax.jit, static_argnames="made")
    def run(key, q, x, *, made):
        return made(key, q, x)

    with jax.log_compiles():
        caplog.clear()
        run(KEY, q, x, made=forward(apply))
        run(jax.random.key(4), q, other, made=forward(apply))  # another forward, but an equal one
    programs = [r.getMessage().split()[4] for r in caplog.records if "Finished XLA compilation of" in r.getMessage()]
    assert programs.count("jit(run)") == 1, programs


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("apply", "reason"),
    [
        (lambda p, x: "outputs", "is not a valid JAX type"),
        (lambda p, x: None, "nothing returned"),
        (lambda p, x: x @ p["w"] if x[0, 0] > 0 else x, "boolean"),
        (lambda p, x: np.asarray(x) @ np.ones(3), "numpy"),
        (lambda p, x: x @ p["no such leaf"], "no such leaf"),
        (lambda p, x: x @ p["table"], "contracting"),
    ],
)
@pytest.mark.parametrize("forward", ROWS)
def test_a_network_that_cannot_be_traced_is_refused(forward, apply, reason):
    with pytest.raises(
        bbb.errors.InputError, match=r"Expected apply\(params, x\) to be a pure function .* got: "
    ) as caught:
        forward(apply)(KEY, bbb.MeanField.around(PARAMS, 0.3), X3)
    assert reason.lower() in str(caught.value).lower()


@pytest.mark.parametrize("forward", ROWS)
def test_noise_of_another_call_is_refused(forward):
    apply, q, x = case("mlp")
    noise = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(forward(apply).noise, KEY, q, x))
    with pytest.raises(bbb.errors.ShapeError, match=r"Expected noise of shape .*, got shape .*\. Draw the noise with"):
        forward(apply).evaluate(noise, q, x[:2])
    with pytest.raises(bbb.errors.ShapeError, match=r"Expected noise of shape .*, got no more arrays\."):
        forward(apply).evaluate(noise[:-1], q, x)
    with pytest.raises(bbb.errors.ShapeError, match=r"Expected the noise of one call, got more arrays\."):
        forward(apply).evaluate((*noise, noise[0]), q, x)
