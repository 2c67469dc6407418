"""Kronecker factors against the exact matrix where they are exact, and against factors made by hand elsewhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.posteriors import Kronecker
from tests.curvature.models import CASES, KEY, covariance_of, ensemble_of, linear, mlp, precision_of

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def at(apply, params, likelihood, prior=None):
    parts = {"prior": bbb.priors.Normal(0.0, 0.7) if prior is None else prior, "likelihood": likelihood}
    return bbb.bayesianize(apply, jax.tree.map(lambda leaf: jnp.asarray(leaf, float), params), **parts)


def kron(model, x, y, **options):
    return bbb.laplace(KEY, model, x, y, structure="kron", **options).posterior


def by_leaf(posterior):
    """Return the covariance of each leaf's weights, by the path of the leaf, in the order of its memory."""
    found, start = {}, 0
    covariance = covariance_of(posterior)
    random = posterior.random_leaves(posterior.params)
    for name, leaf in zip(bbb.core.tree.names(random), jax.tree.leaves(random), strict=True):
        found[name] = covariance[start : start + leaf.size, start : start + leaf.size]
        start += leaf.size
    return found


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- exact -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 5])
@pytest.mark.parametrize("rows", [12, 2])
def test_of_one_layer_without_bias_it_is_exact(rows, batch_size):
    """Every row has the same gradient there, so that the Gauss-Newton is A⊗F: posterior, evidence and its gradient."""
    with jax.enable_x64(True):
        x, y = data(rows, 3), data(rows, 2, seed=1)
        model = at(lambda w, x: x @ w, data(3, 2), bbb.likelihoods.Gaussian(0.3, learn=True))
        made = kron(model, x, y, batch_size=batch_size)
        assert type(made) is Kronecker
        made.validate()
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), **CLOSE)
        of = lambda structure: lambda m: bbb.log_evidence(m, x, y, structure, batch_size=batch_size)  # noqa: E731
        (one, slopes), (full, exact) = (jax.value_and_grad(of(s))(model) for s in ("kron", "full"))
        np.testing.assert_allclose(one, full, rtol=1e-8)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), slopes, exact)


def test_of_a_layer_with_a_bias_each_leaf_has_its_exact_block():
    with jax.enable_x64(True):
        model, x, y, _, _ = linear(12)
        blocks = by_leaf(kron(model, x, y))
        precision = precision_of(model, x)
        np.testing.assert_allclose(blocks["b"], np.linalg.inv(precision[:2, :2]), **CLOSE)
        np.testing.assert_allclose(blocks["w"], np.linalg.inv(precision[2:, 2:]), **CLOSE)


def test_of_a_layer_at_many_places_whose_outputs_all_are_seen_it_is_exact():
    """KFAC-expand: a sequence, and a convolution, with an output of each place."""
    with jax.enable_x64(True):
        noise = bbb.likelihoods.Gaussian(0.3)
        model, x = at(lambda w, x: jnp.einsum("oi,nti->nto", w, x), data(2, 3), noise), data(6, 5, 3)
        exact = np.linalg.inv(precision_of(model, x))
        np.testing.assert_allclose(covariance_of(kron(model, x, np.zeros((6, 5, 2)))), exact, **CLOSE)
        layer = bbb.nn.conv(2, 3, (2, 3), padding="same", bias=False, dilation=(1, 2))
        model, x = at(layer.apply, layer.init(KEY), noise), data(4, 2, 5, 6)
        made = kron(model, x, np.zeros((4, 3, 5, 6)))
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), **CLOSE)


LAYOUTS = {
    "weight first": lambda w, x: (w.T @ x.T).T,
    "weight second": lambda w, x: x @ w,
    "reshaped": lambda w, x: x @ w.reshape(6, 4),
    "two axes of each": lambda w, x: jnp.einsum("nab,abcd->ncd", x.reshape(-1, 2, 3), w.reshape(2, 3, 2, 2)).reshape(
        -1, 4
    ),
    "axes of outputs first": lambda w, x: jnp.einsum("nab,dacb->ncd", x.reshape(-1, 2, 3), w).reshape(-1, 4),
    "within jit": lambda w, x: jax.jit(jnp.matmul)(x, jnp.transpose(w.T)),
}
SHAPES = {"reshaped": (2, 3, 4), "two axes of each": (2, 3, 2, 2), "axes of outputs first": (2, 2, 2, 3)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_weight_is_followed_through_its_layout(layout):
    with jax.enable_x64(True):
        model = at(LAYOUTS[layout], data(*SHAPES.get(layout, (6, 4))), bbb.likelihoods.Gaussian(0.3))
        x = data(9, 6)
        (route,) = bbb.curvature.explain(model, x)
        assert route.route == "factors 6 × 4"
        made = kron(model, x, np.zeros((9, 4)))
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), **CLOSE)


def test_scales_of_the_prior_that_differ_within_a_leaf_count_by_their_part_in_each_direction():
    with jax.enable_x64(True):
        std = np.array([[0.5], [1.0], [2.0]]) * np.ones((1, 2))
        model = at(
            lambda p, x: x @ p["w"] + p["b"][None],
            {"b": data(2), "w": data(3, 2)},
            bbb.likelihoods.Gaussian(0.3),
            bbb.priors.Normal(0.0, {"b": np.array([0.1, 3.0]), "w": std}),
        )
        x = data(12, 3)
        made = kron(model, x, np.zeros((12, 2)))
        precision = precision_of(model, x)
        blocks = by_leaf(made)
        np.testing.assert_allclose(blocks["b"], np.linalg.inv(precision[:2, :2]), **CLOSE)
        u, v = (np.asarray(part["w"]).reshape(-1, size) for part, size in ((made.left, 3), (made.right, 2)))
        turn = np.kron(u, v)
        diagonal = np.diag(turn.T @ precision[2:, 2:] @ turn)
        np.testing.assert_allclose(blocks["w"], turn @ np.diag(1 / diagonal) @ turn.T, **CLOSE)


# --- factors by hand -------------------------------------------------------------------------------------------------


def block(inputs, gradients, rows):
    """Return A⊗B, of vectors a and g of all rows and places, for a weight of (inputs, outputs)."""
    a, g = (np.reshape(part, (-1, np.shape(part)[-1])) for part in (inputs, gradients))
    return np.kron(a.T @ a / len(a), g.T @ g)


def rooted(model, outputs, jacobian):
    """Return Fᐟ²ᵀ times the Jacobian of outputs, (rows, k, ...)."""
    root = model.likelihood.fisher_root(outputs)
    return np.einsum("nki,nk...->ni...", root, np.reshape(jacobian, (*root.shape[:2], *np.shape(jacobian)[2:])))


@pytest.mark.parametrize("kind", CASES)
def test_of_two_layers_it_is_the_product_of_factors_by_hand(kind):
    with jax.enable_x64(True):
        model, x, y = mlp(kind)
        params = model.posterior.params
        w1, b1, w2, b2 = (params[i][name] for i in (0, 2) for name in ("weight", "bias"))
        hidden = np.tanh(x @ np.asarray(w1).T + np.asarray(b1))
        outputs = hidden @ np.asarray(w2).T + np.asarray(b2)
        slopes = np.asarray(w2)[None] * (1 - hidden**2)[:, None]  # of the outputs in what enters tanh, (n, k, hidden)
        eye = np.broadcast_to(np.eye(len(b2)), (len(x), len(b2), len(b2)))
        first, last = (rooted(model, jnp.asarray(outputs), part) for part in (slopes, eye))
        prior = 0.7**-2
        exact = {
            "0/weight": block(x, first, len(x)),
            "0/bias": np.einsum("nia,nib->ab", first, first),
            "2/weight": block(hidden, last, len(x)),
            "2/bias": np.einsum("nia,nib->ab", last, last),
        }
        made = kron(model, x, y)
        found = by_leaf(made)
        half = 0.0
        for name, matrix in exact.items():
            precision = matrix + prior * np.eye(len(matrix))
            half += 0.5 * np.linalg.slogdet(precision)[1]
            if name.endswith("weight"):  # here (outputs, inputs)
                inputs = x.shape[1] if name[0] == "0" else hidden.shape[1]
                order = np.arange(len(matrix)).reshape(inputs, -1).T.reshape(-1)
                precision = precision[np.ix_(order, order)]
            np.testing.assert_allclose(found[name], np.linalg.inv(precision), **CLOSE)
        joint = model.likelihood.log_prob(jnp.asarray(y), jnp.asarray(outputs)).sum() + model.prior.log_prob(params)
        evidence = (
            joint + 0.5 * made.left[0]["weight"].dtype.type(sum(map(len, exact.values()))) * np.log(2 * np.pi) - half
        )
        np.testing.assert_allclose(bbb.log_evidence(model, x, y, "kron", batch_size=4), evidence, rtol=1e-10)


def test_of_a_convolutional_network_it_is_the_product_of_factors_by_hand():
    with jax.enable_x64(True):
        network = bbb.nn.sequential(
            bbb.nn.conv(2, 3, 3, stride=2, padding=1), bbb.nn.tanh, bbb.nn.flatten, bbb.nn.linear(12, 2)
        )
        model = at(network.apply, network.init(KEY), bbb.likelihoods.Categorical())
        x, y = data(5, 2, 4, 4), np.array([0, 1, 1, 0, 1])
        params = model.posterior.params
        wide = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
        places = [(i, j) for i in (0, 2) for j in (0, 2)]
        met = np.stack([wide[:, :, i : i + 3, j : j + 3].reshape(5, -1) for i, j in places], axis=1)  # (n, places, 18)
        kernel = np.asarray(params[0]["weight"]).reshape(3, -1)
        entering = jnp.asarray(np.moveaxis(met @ kernel.T, 2, 1) + np.asarray(params[0]["bias"])[:, None])

        def rest(entering):
            return jnp.tanh(entering).reshape(1, -1) @ params[3]["weight"].T + params[3]["bias"][None]

        outputs = jnp.concatenate([rest(one) for one in entering])
        slopes = np.stack([np.asarray(jax.jacobian(rest)(one))[0] for one in entering])  # (n, 2, 3, places)
        gradients = rooted(model, outputs, slopes)
        found = by_leaf(kron(model, x, y, batch_size=2))
        matrix = block(met, np.moveaxis(gradients, 3, 2), 5)
        order = np.arange(54).reshape(18, 3).T.reshape(-1)
        precision = (matrix + 0.7**-2 * np.eye(54))[np.ix_(order, order)]
        np.testing.assert_allclose(found["0/weight"], np.linalg.inv(precision), **CLOSE)
        summed = gradients.sum(3)  # the bias's own block is exact
        exact = np.einsum("nia,nib->ab", summed, summed) + 0.7**-2 * np.eye(3)
        np.testing.assert_allclose(found["0/bias"], np.linalg.inv(exact), **CLOSE)


# --- what cannot be factored -----------------------------------------------------------------------------------------


def twice(params, x):
    return jnp.tanh(x @ params["w"]) @ params["w"].T @ params["v"] * params["s"][None] + params["more"][0, 0]


def test_other_leaves_have_their_own_block_or_their_diagonal_and_explain_says_so():
    with jax.enable_x64(True):
        params = {"w": data(3, 3), "v": data(3, 2), "s": data(2), "more": data(1, 2), "unused": data(2, 2)}
        model, x = at(twice, params, bbb.likelihoods.Gaussian(0.5)), data(7, 3)
        routes = {route.leaf: route for route in bbb.curvature.explain(model, x)}
        assert {name: route.route for name, route in routes.items()} == {
            "w": "diagonal",
            "v": "factors 3 × 2",
            "s": "own block",
            "more": "diagonal",
            "unused": "diagonal",
        }
        assert routes["w"].reason == "is used more than once"
        assert routes["v"].reason == "is the matrix of a dot_general"
        assert "test_kronecker.py" in routes["v"].line
        assert routes["unused"].reason == "the outputs do not depend on it"
        precision = precision_of(model, x)
        blocks = by_leaf(kron(model, x, np.zeros((7, 2))))
        names = ["more", "s", "unused", "v", "w"]
        ends = dict(zip(names, np.cumsum([params[name].size for name in names]), strict=True))
        exact = {
            name: precision[(e := ends[name]) - params[name].size : e, e - params[name].size : e] for name in names
        }
        np.testing.assert_allclose(blocks["s"], np.linalg.inv(exact["s"]), **CLOSE)
        for name in ("w", "more", "unused"):
            np.testing.assert_allclose(blocks[name], np.diag(1 / np.diag(exact[name])), **CLOSE)


def test_points_are_said_to_be_points_and_stay_out_of_it():
    with jax.enable_x64(True):
        model, x, y = mlp(where="*/weight")
        assert [route.route for route in bbb.curvature.explain(model, x)] == [
            "point estimate",
            "factors 2 × 4",
            "point estimate",
            "factors 4 × 1",
        ]
        made = kron(model, x, y)
        assert made.log_std[0]["bias"] is None
        assert made.left[0]["bias"] is None


def test_a_loop_a_group_and_a_user_derivative_are_followed_as_far_as_they_can_be():
    with jax.enable_x64(True):

        def loop(params, x):
            return jax.lax.scan(lambda h, _: (jnp.tanh(h @ params["w"]), None), x, None, length=2)[0] @ params["v"]

        model, x = at(loop, {"w": data(3, 3), "v": data(3, 1)}, bbb.likelihoods.Gaussian(0.5)), data(7, 3)
        assert [route.route for route in bbb.curvature.explain(model, x)] == ["factors 3 × 1", "diagonal"]
        precision, made = precision_of(model, x), kron(model, x, np.zeros((7, 1)))
        np.testing.assert_allclose(by_leaf(made)["w"], np.diag(1 / np.diag(precision)[3:]), **CLOSE)
        layer = bbb.nn.conv(2, 4, 3, groups=2, bias=False)
        grouped = at(layer.apply, layer.init(KEY), bbb.likelihoods.Gaussian(0.5))
        assert [route.route for route in bbb.curvature.explain(grouped, data(2, 2, 4, 4))] == ["diagonal"]
        own = jax.custom_jvp(lambda w, x: x @ w)
        own.defjvp(lambda at, by: (at[1] @ at[0], 2 * (at[1] @ by[0]) + by[1] @ at[0]))
        user = at(own, data(3, 1), bbb.likelihoods.Gaussian(0.5))
        assert [route.route for route in bbb.curvature.explain(user, x)] == ["diagonal"]
        stds = kron(user, x, np.zeros((7, 1))).std
        np.testing.assert_allclose(stds.reshape(-1), np.diag(precision_of(user, x)) ** -0.5, **CLOSE)


# --- what it does not depend on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_it_depends_on_the_batch_size_by_rounding_alone(structure):
    with jax.enable_x64(True):
        model, x, y = mlp("Categorical")
        of = lambda size: bbb.laplace(KEY, model, x, y, structure=structure, batch_size=size).posterior  # noqa: E731
        whole, order = covariance_of(of(None)), np.random.default_rng(0).permutation(len(x))
        for size in (1, 7, 100):
            np.testing.assert_allclose(covariance_of(of(size)), whole, rtol=1e-10, atol=1e-13)
        other = bbb.laplace(KEY, model, x[order], y[order], structure=structure, batch_size=3).posterior
        np.testing.assert_allclose(covariance_of(other), whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("noise", [0.3, 1e-3])
def test_float32_agrees_with_float64(noise):
    """Of little noise, too: eigenvalues 1e-7 of the largest decide beside the prior."""
    likelihood = bbb.likelihoods.Gaussian(noise)
    model, x, y = mlp(rows=40, dtype="float32", likelihood=likelihood)
    short, nats = kron(model, x, y), bbb.log_evidence(model, x, y, "kron")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(short))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), model)
        exact = covariance_of(kron(wide, x, y))
        np.testing.assert_allclose(nats, bbb.log_evidence(wide, x, y, "kron"), rtol=1e-4)
    np.testing.assert_allclose(covariance_of(short), exact, rtol=1e-2, atol=2e-4)


def test_its_gradient_is_that_of_differences():
    with jax.enable_x64(True):
        model, x, y = mlp("Gaussian")

        def nats(both):
            prior = dataclasses.replace(model.prior, std=0.7 * jnp.exp(both[0]))
            noise = jax.tree.map(lambda s: s + both[1], model.likelihood)
            means = jax.tree.map(lambda leaf: leaf + both[2] * jnp.cos(leaf), model.posterior.params)
            moved = dataclasses.replace(
                model, prior=prior, likelihood=noise, posterior=model.posterior.with_params(means)
            )
            return bbb.log_evidence(moved, x, y, "kron", batch_size=9)

        start, step = jnp.asarray([0.1, -0.2, 0.1]), 1e-5
        slopes = jax.jit(jax.grad(nats))(start)
        moved = [(nats(start + step * e) - nats(start - step * e)) / (2 * step) for e in jnp.eye(3)]
        np.testing.assert_allclose(slopes, jnp.stack(moved), rtol=1e-6)


def test_each_member_of_an_ensemble_gets_its_own_and_predictions_are_of_the_linearised_network():
    with jax.enable_x64(True):
        model, x, y = mlp()
        several = ensemble_of(model)
        made = bbb.laplace(KEY, several, x, y, structure="kron")
        assert made.members == 2
        for k in range(2):
            np.testing.assert_allclose(
                covariance_of(made.posterior[k]), covariance_of(kron(several.member(k), x, y)), **CLOSE
            )
        one = bbb.laplace(KEY, model, x, y, structure="kron")
        jacobian = jax.jacobian(lambda p: model.apply(p, jnp.asarray(x))[:, 0])(model.posterior.params)
        rows = np.concatenate([np.reshape(leaf, (len(x), -1)) for leaf in jax.tree.leaves(jacobian)], axis=1)
        variance = np.einsum("nd,de,ne->n", rows, covariance_of(one.posterior), rows)
        np.testing.assert_allclose(bbb.predict(KEY, one, x).f.std[:, 0] ** 2, variance, rtol=1e-8)
