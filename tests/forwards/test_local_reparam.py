"""Local reparameterisation: exact for one layer however it is written, and quieter gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.core.jit import jit
from bbb.forwards import rules, values
from bbb.forwards.explanation import explain
from bbb.forwards.rowwise import flipout, local_reparam
from bbb.forwards.sampling import weight_sampling

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(3, 4)).astype("float32"), RNG.normal(size=4).astype("float32")
X = RNG.normal(size=(5, 3)).astype("float32")
POSTERIOR = bbb.MeanField.around({"w": W, "b": B}, {"w": 0.3, "b": 0.2})


def dense(params, x):
    return x @ params["w"] + params["b"][None]


def dense_by_columns(params, x):
    return (params["w"].T @ x.T + params["b"][:, None]).T


def dense_by_einsum(params, x):
    return jnp.einsum("of,rf->ro", params["w"].T, x) + params["b"][None]


def dense_by_rows(params, x):
    return jax.vmap(lambda row: params["w"].T @ row + params["b"])(x)


def dense_by_convolution(params, x):
    kernel, numbers = params["w"].T[:, :, None], ("NCH", "OIH", "NCH")
    outputs = jax.lax.conv_general_dilated(x[:, :, None], kernel, (1,), "VALID", dimension_numbers=numbers)
    return jnp.squeeze(outputs + params["b"][None, :, None], 2)


def dense_by_heads(params, x):
    heads = jnp.einsum("rf,fhd->rhd", x, params["w"].reshape(3, 2, 2)) + params["b"].reshape(1, 2, 2)
    return heads.reshape(x.shape[0], 4)


def dense_of_a_negative(params, x):
    return -(x @ -params["w"] - params["b"][None])


def dense_of_a_scaled_weight(params, x):
    return x @ (0.5 * params["w"] / 0.5) + params["b"][None]


def dense_recomputed(params, x):
    return jax.checkpoint(dense)(params, x)


def dense_compiled(params, x):
    return jax.jit(dense)(params, x)


WAYS = [dense, dense_by_columns, dense_by_einsum, dense_by_rows, dense_by_convolution, dense_by_heads]
WAYS += [dense_of_a_negative, dense_of_a_scaled_weight, dense_recomputed, dense_compiled]
"""The same dense layer, written in ten ways."""


@pytest.mark.parametrize("forward", [local_reparam, flipout])
@pytest.mark.parametrize("apply", WAYS)
def test_it_serves_a_dense_layer_however_it_is_written(apply, forward):
    routes = [route.route for route in explain(apply, POSTERIOR, X, forward)]
    assert routes == ["local", "local"] if forward is local_reparam else ["flipout", "flipout"]


@pytest.mark.parametrize("apply", WAYS)
def test_its_noise_has_the_exact_variance(apply, dtype):
    # mean x·μ + m, variance x²·σ² + s²: with noise of ones, one standard deviation above the mean
    q, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (POSTERIOR, X))
    shapes = jax.eval_shape(local_reparam(apply).noise, KEY, q, x)
    assert sum(leaf.size for leaf in shapes) == 5 * 4
    up = jit(local_reparam(apply).evaluate)(tuple(np.ones(leaf.shape, dtype) for leaf in shapes), q, x)
    std = np.sqrt(np.square(x) @ np.full((3, 4), 0.3**2) + 0.2**2)
    np.testing.assert_allclose(np.abs(up - dense(q.mean, x)), std, rtol=1e-4 if dtype == "float32" else 1e-7)


def test_two_products_join_before_they_are_drawn():
    def cell(params, inputs):
        x, hidden = inputs
        return x @ params["w"] + hidden @ params["v"] + params["b"][None]

    q = bbb.MeanField.around({"w": W, "v": np.ones((4, 4), "float32"), "b": B}, 0.3)
    assert [leaf.shape for leaf in jax.eval_shape(local_reparam(cell).noise, KEY, q, (X, np.ones((5, 4), "f4")))] == [
        (5, 4)
    ]


def test_a_row_of_zeros_without_bias_has_no_noise_and_a_finite_slope():
    def loss(q):
        return jnp.sum(local_reparam(lambda p, x: x @ p["w"])(KEY, q, jnp.zeros((2, 3))))

    value, grads = jit(jax.value_and_grad(loss))(POSTERIOR)
    assert value == 0
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(grads))


def test_the_root_of_the_variance():
    variances = jnp.asarray([0.0, 4.0, jnp.nan])
    np.testing.assert_array_equal(rules._sqrt(variances), [0, 2, np.nan])
    np.testing.assert_array_equal(jax.vmap(jax.grad(rules._sqrt))(variances), [0, 0.25, 0])


def test_functions_with_a_derivative_of_their_own_keep_it():
    @jax.custom_jvp
    def strange(x):
        return x * x

    strange.defjvp(lambda primals, tangents: (strange(primals[0]), 100 * tangents[0]))

    @jax.custom_vjp
    def stranger(x):
        return x * x

    stranger.defvjp(lambda x: (x * x, None), lambda _, g: (10 * g,))
    x, none = jnp.ones((1, 1)), bbb.MeanField.around({"w": jnp.ones((1, 1))}, 1e-12)
    for function, slope in ((strange, 100.0), (stranger, 10.0)):
        for forward in (local_reparam, flipout, weight_sampling):
            for apply in (lambda p, x, f=function: f(x @ p["w"]), lambda p, x, f=function: x @ f(p["w"])):
                grads = jit(jax.grad(lambda q, a=apply, g=forward: jnp.sum(g(a)(KEY, q, x))))(none)
                np.testing.assert_allclose(grads.mean["w"], slope)


def test_relu_has_slope_0_at_0():
    zero = bbb.MeanField.around({"w": jnp.zeros((1, 1))}, 1e-30)

    def loss(q):
        return jnp.sum(local_reparam(lambda p, x: jax.nn.relu(x @ p["w"]))(KEY, q, jnp.ones((1, 1))))

    assert jit(jax.grad(loss))(zero).mean["w"] == 0  # of jax.nn.relu; that of max(x, 0) would be ½


def test_what_is_to_be_recomputed_still_is():
    def loss(q, x):
        noise = jax.eval_shape(local_reparam(dense_recomputed).noise, KEY, q, x)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), noise)
        return jnp.sum(local_reparam(dense_recomputed).evaluate(zeros, q, x))

    assert "remat" in str(jax.make_jaxpr(loss)(POSTERIOR, X)) or "checkpoint" in str(jax.make_jaxpr(loss)(POSTERIOR, X))
    grads, expected = jit(jax.grad(loss))(POSTERIOR, X), jax.grad(lambda p: jnp.sum(dense(p, X)))(POSTERIOR.mean)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads.mean, expected)


@pytest.mark.parametrize(
    ("before", "marks", "after", "expected"),
    [
        ((6, 4), (False, True), (2, 3, 4), (False, False, True)),
        ((6, 4), (False, True), (6, 2, 2), (False, True, True)),
        ((2, 3, 4), (False, False, True), (6, 4), (False, True)),
        ((2, 3), (False, True), (6,), None),
        ((2, 3), (True, True), (6,), (True,)),
        ((4, 6), (False, True), (2, 12), None),
        ((2, 3), (False, True), (1, 2, 1, 3, 1), (False, False, False, True, False)),
        ((1, 3), (True, True), (3,), (True,)),
        ((), (), (1, 1), (False, False)),
        ((0, 3), (False, True), (0, 3), None),
    ],
)
def test_axes_keep_their_meaning_through_a_reshape_or_it_is_refused(before, marks, after, expected):
    assert values.regrouped(before, marks, after) == expected


def test_it_warns_where_a_weight_meets_a_row_more_than_once():
    calls = []

    def per_time(p, x):
        calls.append(x.shape)
        return jnp.mean(x @ p["w"] + p["b"][None, None], axis=1)

    model = bbb.bayesianize(
        per_time, {"w": W, "b": B}, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5), std=0.3
    )
    x, y = np.ones((6, 9, 3), "float32"), np.ones((6, 4), "float32")
    text = (
        r"Expected weights that meet each row at one place, for local_reparam to be exact, got b at many "
        r"\(the std of a sum over its 9 positions may be too small by a factor of up to √9\); w at many \(.*\)\. "
        r"Pass bbb\.forwards\.flipout\(model\.apply\), which is exact there, "
        r"or bbb\.forwards\.weight_sampling\(model\.apply\)\."
    )
    forward = local_reparam(model.apply)
    with pytest.warns(bbb.forwards.ApproximationWarning, match=text):
        forward(KEY, model.posterior, x)
    with pytest.warns(bbb.forwards.ApproximationWarning, match=text):
        bbb.objectives.negative_elbo(KEY, model, x, y, forward=forward)
    with pytest.warns(bbb.forwards.ApproximationWarning, match=text):
        bbb.fit(KEY, model, x, y, steps=1, objective=bbb.train.Objective(forward=forward), progress=False)
    traces = len(calls)
    with pytest.warns(bbb.forwards.ApproximationWarning, match=text):
        bbb.fit(KEY, model, x, y, steps=1, objective=bbb.train.Objective(forward=forward), progress=False)
    assert len(calls) == traces  # the second time, nothing is traced anew
    # what is exact is silent: here warnings are errors
    bbb.fit(KEY, model, x, y, steps=1, objective=bbb.train.Objective(forward=flipout(model.apply)), progress=False)
    forward(KEY, model.posterior, x[:, :1])


def test_it_cuts_the_variance_of_the_gradient_on_digits_to_a_fifth_at_most():
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    x, y = np.float32(images[:128] / 16), labels[:128]
    network = bbb.nn.sequential(bbb.nn.linear(64, 32), bbb.nn.relu, bbb.nn.linear(32, 10))
    start = bbb.MeanField.around(network.init(jax.random.key(0)), 0.05)
    optimizer, prior = optax.adam(1e-3), bbb.priors.Normal(0.0, 0.1)

    def data_term(q, key, forward):
        log_probs = jax.nn.log_softmax(forward(network.apply)(key, q, x))
        return -jnp.sum(jnp.take_along_axis(log_probs, y[:, None], axis=1)) * (len(images) / len(x))

    def step(state, key):
        q, moments = state
        grads = jax.grad(lambda q: data_term(q, key, weight_sampling) + bbb.priors.kl(q, prior))(q)
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(grads, moments)
        return (optax.apply_updates(q, updates), moments), None

    keys = jax.random.split(KEY, 100)
    q, _ = jax.jit(lambda state: jax.lax.scan(step, state, keys)[0])((start, optimizer.init(start)))

    def total_variance(forward):
        grads = jax.jit(lambda keys: jax.lax.map(lambda key: jax.grad(data_term)(q, key, forward), keys))(keys)
        return sum(float(np.sum(np.var(leaf, axis=0))) for leaf in jax.tree.leaves(grads))

    quiet, loud = total_variance(local_reparam), total_variance(weight_sampling)
    assert loud / quiet > 5
    assert loud / total_variance(flipout) > 5
