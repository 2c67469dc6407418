"""The network linearised in its weights: against the Jacobian, and its moments against dense algebra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb.errors import InputError
from bbb.forwards.linearization import Linearized
from bbb.networks import nn

KEY = jax.random.key(5)
MLP = nn.sequential(nn.linear(2, 6), nn.tanh, nn.linear(6, 5), nn.gelu, nn.linear(5, 3))
CONV = nn.sequential(nn.conv(2, 3, 3, padding=1), nn.tanh, nn.max_pool(2), nn.flatten, nn.linear(12, 2))
BATCH = nn.sequential(nn.linear(2, 5), nn.batch_norm(5), nn.tanh, nn.linear(5, 2))
AFFINE = nn.linear(2, 3)
POSTERIORS = {"mean field": bbb.MeanField.around, "full rank": bbb.posteriors.FullRank.around}


@pytest.fixture
def wide():
    """Run a test in float64."""
    with jax.enable_x64(True):
        yield


def rows(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def table(params, x):
    """A network with a leaf of integers, which picks a row of a table for each row of x."""
    picked = params["rows"][jnp.arange(x.shape[1]) % 2]
    return jnp.sin(x @ params["table"][picked]) * params["scale"]


TABLE = {"table": np.random.default_rng(1).normal(size=(4, 3)), "rows": np.array([3, 1]), "scale": np.array(1.5)}


def network(name):
    """Return a network, its parameters in float64, what is random of them, and rows."""
    if name == "integers":
        return table, jax.tree.map(jnp.asarray, TABLE), {"table": True, "rows": False, "scale": True}, rows(4, 2)
    layers, x = {"mlp": (MLP, rows(4, 2)), "conv": (CONV, rows(4, 2, 4, 4)), "batch norm": (BATCH, rows(4, 2))}[
        name.removesuffix(" with point estimates")
    ]
    params = jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype == "float32" else leaf, layers.init(KEY))
    where = True
    if name == "batch norm":
        where = jax.tree.map(lambda state: not state, layers.state(params))
    if name.endswith("point estimates"):
        where = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    return layers.apply, params, where, x


NETWORKS = ("mlp", "mlp with point estimates", "conv", "batch norm", "integers")


def case(name, posterior="mean field"):
    apply, params, where, x = network(name)
    q = POSTERIORS[posterior](params, 0.3, where)
    if posterior == "full rank":
        lower = 0.5 * np.random.default_rng(2).normal(size=q.lower.shape)
        q = bbb.posteriors.FullRank(q.mean, q.log_diagonal, jnp.asarray(lower))
    return apply, q, x


def jacobian(apply, q, x):
    """Return J of the random leaves, (rows, outputs, d), by forward mode."""
    random = q.random_leaves(q.params)
    flat, back = ravel_pytree(random)

    def outputs(w):
        params = jax.tree.map(lambda w, m: m if w is None else w, back(w), q.params, is_leaf=lambda leaf: leaf is None)
        return apply(params, x)

    return jax.jit(jax.jacfwd(outputs))(flat)


def covariance(q):
    """Return the covariance of the random leaves, in the order of `jax.tree.leaves`, (d, d)."""
    if isinstance(q, bbb.MeanField):
        return jnp.diag(jnp.square(ravel_pytree(q.std)[0]))
    return q.scale @ q.scale.T


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_mean_and_the_jacobian_times_what_was_drawn(wide, name, posterior):
    apply, q, x = case(name, posterior)
    w = bbb.posteriors.sample(KEY, q)
    moved = ravel_pytree(jax.tree.map(jnp.subtract, q.random_leaves(w), q.random_leaves(q.params)))[0]
    expected = apply(q.params, x) + jacobian(apply, q, x) @ moved
    found = jax.jit(bbb.forwards.linearized(apply))(KEY, q, x)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert float(jnp.max(jnp.abs(found - apply(w, x)))) > 1e-3  # and not the network at the draw
    np.testing.assert_allclose(jax.jit(Linearized(apply).at)(w, q, x), found, rtol=1e-12, atol=1e-12)
    at_the_mean = jax.jit(Linearized(apply).at)(q.params, q, x)  # another program: the last bit may differ
    np.testing.assert_allclose(at_the_mean, jax.jit(apply)(q.params, x), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", NETWORKS)
def test_its_moments_are_those_of_dense_algebra(wide, name, posterior):
    apply, q, x = case(name, posterior)
    mean, variance = bbb.forwards.linearized(apply).moments(q, x)
    J = jacobian(apply, q, x)
    np.testing.assert_allclose(mean, apply(q.params, x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variance, jnp.einsum("noi,ij,noj->no", J, covariance(q), J), rtol=1e-10)


def test_of_a_network_that_is_linear_in_its_weights_it_is_weight_sampling(wide):
    params = jax.tree.map(lambda leaf: leaf.astype(float), AFFINE.init(KEY))
    for around in POSTERIORS.values():
        q, x = around(params, 0.3), rows(5, 2)
        sampled = bbb.forwards.weight_sampling(AFFINE.apply)(KEY, q, x)
        np.testing.assert_allclose(bbb.forwards.linearized(AFFINE.apply)(KEY, q, x), sampled, rtol=1e-13, atol=1e-14)
        mean, variance = bbb.forwards.linearized(AFFINE.apply).moments(q, x)
        closed = bbb.moments.moments(AFFINE.apply)(q.marginals(), x)
        np.testing.assert_allclose((mean, variance), closed, rtol=1e-12)


@pytest.mark.parametrize("at_once", [1, 2_000, 20_000, 2**30])
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_moments_do_not_depend_on_how_many_gradients_are_taken_at_once(wide, name, at_once):
    apply, q, x = case(name, "full rank")
    whole = Linearized(apply).moments(q, x)
    np.testing.assert_allclose(Linearized(apply).moments(q, x, at_once), whole, rtol=1e-12)


def test_the_moments_are_those_of_many_draws(dtype):
    apply, q, x = MLP.apply, bbb.posteriors.FullRank.around(MLP.init(KEY), 0.2), rows(3, 2).astype(dtype)
    q = jax.tree.map(lambda leaf: leaf.astype(dtype), q)
    lower = 0.2 * np.random.default_rng(2).normal(size=q.lower.shape).astype(dtype)
    q = bbb.posteriors.FullRank(q.mean, q.log_diagonal, jnp.asarray(lower))
    draws = 4_000
    forward = bbb.forwards.linearized(apply)
    found = np.asarray(jax.jit(jax.vmap(lambda key: forward(key, q, x)))(jax.random.split(KEY, draws)), float)
    mean, variance = (np.asarray(part, float) for part in forward.moments(q, x))
    assert (np.abs(found.mean(0) - mean) < 4 * np.sqrt(variance / draws)).all()
    assert (np.abs(found.var(0) - variance) < 4 * variance * np.sqrt(2 / draws)).all()  # Gaussian, whose kurtosis is 3


def test_moments_of_outputs_of_any_shape_are_of_that_shape():
    q = bbb.MeanField.around({"w": jnp.ones((2,))}, 0.1)
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    mean, variance = bbb.forwards.linearized(lambda p, x: x @ p["w"]).moments(q, x)
    np.testing.assert_allclose(mean, [3.0, 7.0], rtol=1e-6)
    np.testing.assert_allclose(variance, [0.05, 0.25], rtol=1e-5)
    square = bbb.forwards.linearized(lambda p, x: (p["w"][None] * x)[:, None, :]).moments(q, x)
    np.testing.assert_allclose(square[1], 0.01 * np.square(x)[:, None, :], rtol=1e-5)
    none = bbb.forwards.linearized(lambda p, x: jnp.ones((x.shape[0], 2))).moments(q, x)
    np.testing.assert_array_equal(none, [np.ones((2, 2)), np.zeros((2, 2))])


def test_moments_of_bfloat16_are_summed_in_float32():
    params = {"w": jnp.ones((4096, 1), jnp.bfloat16)}
    q = bbb.MeanField.around(params, 1.0)
    x = jnp.ones((2, 4096), jnp.bfloat16)
    _, variance = bbb.forwards.linearized(lambda p, x: x @ p["w"]).moments(q, x)
    assert variance.dtype == jnp.bfloat16
    np.testing.assert_array_equal(variance, 4096)  # in bfloat16, 256 + 1 = 256


def ensemble():
    members = [bbb.MeanField.around(MLP.init(jax.random.key(k)), 0.1 + 0.2 * k) for k in range(3)]
    return members, bbb.posteriors.Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))


def test_a_mixture_is_linearised_around_the_mean_of_the_component_that_is_drawn():
    members, q = ensemble()
    x, forward, seen = rows(4, 2).astype("float32"), bbb.forwards.linearized(MLP.apply), set()
    for key in jax.random.split(KEY, 8):
        k, noise = q.noise(key)
        seen.add(int(k))
        expected = forward.evaluate(noise, members[int(k)], x)
        np.testing.assert_allclose(forward(key, q, x), expected, rtol=1e-6, atol=1e-6)
    assert seen == {0, 1, 2}


def test_forwards_of_one_network_are_equal_so_that_programs_are_reused():
    assert bbb.forwards.linearized(MLP.apply) == bbb.forwards.linearized(MLP.apply)
    assert hash(bbb.forwards.linearized(MLP.apply)) == hash(bbb.forwards.linearized(MLP.apply))
    assert bbb.forwards.linearized(MLP.apply) != bbb.forwards.weight_sampling(MLP.apply)


def test_trees_of_outputs_and_integers_among_them_come_back():
    def apply(params, x):
        return {"f": jnp.sin(x * params["w"][None]), "rows": jnp.asarray(x.shape[0]), "w > 1": params["w"] > 1}

    q = bbb.MeanField.around({"w": jnp.ones(2)}, 0.5)
    found = bbb.forwards.linearized(apply)(KEY, q, jnp.ones((3, 2)))
    moved = bbb.posteriors.sample(KEY, q)["w"] - 1
    np.testing.assert_allclose(found["f"][0], np.sin(1) + np.cos(1) * moved, rtol=1e-6)
    assert found["rows"] == 3
    np.testing.assert_array_equal(found["w > 1"], [False, False])  # at the mean


def model(layers=MLP, **options):
    beliefs = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.5), **options}
    return bbb.bayesianize(layers.apply, layers.init(KEY), **beliefs)


def test_training_takes_it_as_any_forward():
    start, x, y = model(), rows(8, 2).astype("float32"), np.zeros((8, 3), "float32")
    objective = bbb.train.Objective(draws=2, forward=bbb.forwards.linearized(start.apply))
    _, built_in = bbb.fit(KEY, start, x, y, steps=20, objective=objective, optimizer=optax.sgd(1e-3))

    def forward(key, q, x):
        w = bbb.posteriors.sample(key, q)
        moved = jax.tree.map(jnp.subtract, w, q.mean)
        return start.apply(q.mean, x) + jax.jvp(lambda m: start.apply(m, x), (q.mean,), (moved,))[1]

    objective = bbb.train.Objective(draws=2, forward=forward)
    _, plain = bbb.fit(KEY, start, x, y, steps=20, objective=objective, optimizer=optax.sgd(1e-3))
    np.testing.assert_allclose(built_in.loss, plain.loss, rtol=1e-4)
    value, _ = bbb.objectives.negative_elbo(KEY, start, x, y, forward=bbb.forwards.linearized(start.apply))
    sampled, _ = bbb.objectives.negative_elbo(KEY, start, x, y)
    assert value != sampled


def test_in_training_mode_the_statistics_are_those_of_the_network_at_the_mean():
    start, x, y = model(BATCH), rows(16, 2).astype("float32"), np.zeros((16, 2), "float32")
    objective = bbb.train.Objective(draws=2, forward=bbb.forwards.linearized(start.apply))
    trained, _ = bbb.fit(KEY, start, x, y, steps=1, objective=objective, optimizer=optax.sgd(0.0))
    _, updates = BATCH.train(start.posterior.mean, x, KEY)
    found, expected = trained.posterior.mean[1], updates[1]
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_explain_says_that_all_rows_share_a_draw():
    q = bbb.MeanField.around(MLP.init(KEY), 0.3)
    found = bbb.forwards.explain(MLP.apply, q, rows(4, 2).astype("float32"), bbb.forwards.linearized)
    assert {(route.route, route.reason) for route in found} == {
        ("shared draw", "one draw of the weights serves all rows, of the linearised network")
    }


@jax.custom_vjp
def backwards(x):
    return jnp.sin(x)


backwards.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def looped(params, x):
    return jax.lax.while_loop(lambda s: s[0] < 3.0, lambda s: (s[0] + 1, jnp.sin(s[1])), (x[0, 0] * 0, x @ params))[1]


def test_what_jax_cannot_differentiate_is_refused_by_name(wide):
    q, x = bbb.MeanField.around(jnp.ones((2, 1)), 0.3), rows(3, 2)
    forward = bbb.forwards.linearized(lambda p, x: backwards(x @ p))
    with pytest.raises(InputError, match=r"in its weights in forward mode, .*got .*custom_vjp.* Define .*custom_jvp"):
        forward(KEY, q, x)
    with pytest.raises(InputError, match="custom_vjp"):
        jax.jit(forward)(KEY, q, x)
    bbb.forwards.linearized(lambda p, x: backwards(x) @ p)(KEY, q, x)  # of data alone, it is in no one's way
    forward.moments(q, x)  # which needs reverse mode alone
    forward = bbb.forwards.linearized(looped)
    forward(KEY, q, x)
    with pytest.raises(InputError, match=r"in reverse mode, for moments, got .*while_loop.* Use draws instead"):
        forward.moments(q, x)
    with pytest.raises(TypeError, match="contract"):  # an error of the network itself is its own
        bbb.forwards.linearized(functools.partial(jnp.dot)).evaluate(q.noise(KEY), q, x)


def test_other_posteriors_have_no_moments():
    with pytest.raises(InputError, match=r"Expected one Gaussian posterior, for moments, got a Ensemble\. Use draws"):
        bbb.forwards.linearized(MLP.apply).moments(ensemble()[1], rows(3, 2))
