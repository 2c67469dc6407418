"""Thompson samples: each is one function, the same for every x, every memory and every number of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import likelihoods
from bbb.decide import acquisition
from tests.decide_acquire.models import KEY, X, members, model_of, points

KINDS = ("mean field", "linearised", "members", "points")


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    one = model_of()
    made = {
        "mean field": lambda: one,
        "linearised": lambda: dataclasses.replace(one, linearized=True),
        "members": lambda: members(one, (0.0, 1.0, 2.0)),
        "points": lambda: points(one),
    }
    return made[request.param]()


def test_a_sample_is_one_function_of_x(model):
    found = np.asarray(acquisition.thompson(KEY, model, X, 4))
    assert found.shape == (4, len(X), 1)
    order = np.array([7, 0, 3, 7])
    np.testing.assert_allclose(acquisition.thompson(KEY, model, X[order], 4), found[:, order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(acquisition.thompson(KEY, model, X, 2), found[:2], rtol=1e-5, atol=1e-6)
    assert np.ptp(found, axis=0).min() > 1e-3  # and each is another
    other = acquisition.thompson(jax.random.key(6), model, X, 4)
    assert np.abs(np.asarray(other) - found).max() > 1e-2


def test_the_function_is_the_first_sample(model):
    function = acquisition.thompson_function(KEY, model)
    found = np.asarray(acquisition.thompson(KEY, model, X))[0]
    np.testing.assert_allclose(function(X), found, rtol=1e-5, atol=1e-6)
    again = jax.tree.unflatten(*reversed(jax.tree.flatten(function)))
    x = jnp.float32(X)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(again, x), found, rtol=1e-5, atol=1e-6)
    within = jax.jit(lambda key, model, x: acquisition.thompson_function(key, model)(x))(KEY, model, x)
    np.testing.assert_allclose(within, found, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda row: function(row[None])[0, 0])(x[0])
    step = np.float32([[1e-2, 0]])
    rise = (function(x[:1] + step) - function(x[:1] - step))[0, 0] / 2e-2
    assert abs(slope[0] - rise) < 1e-3


def test_samples_are_the_draws_of_the_library():
    model = model_of()
    np.testing.assert_array_equal(acquisition.thompson(KEY, model, X, 8), bbb.draws(KEY, model, X, draws=8))
    one = model.forward(jax.random.fold_in(KEY, 3), model.posterior, jnp.float32(X))
    np.testing.assert_allclose(acquisition.thompson(KEY, model, X, 8)[3], one, rtol=1e-5, atol=1e-6)


def test_the_rows_of_a_tile_do_not_matter():
    model, many = model_of(), np.resize(X, (1_500, 2))
    wide = np.asarray(acquisition.thompson(KEY, model, many, 300))
    np.testing.assert_array_equal(acquisition.thompson(KEY, model, many, 300, memory="8MB"), wide)
    np.testing.assert_array_equal(wide[:, :11], wide[:, 11:22])


def test_a_linearised_model_gives_functions_that_are_linear_in_the_draw():
    model = dataclasses.replace(model_of(), linearized=True)
    params = acquisition.thompson_function(KEY, model).params
    mean, x = model.posterior.mean, jnp.float32(X)
    moved = jax.tree.map(lambda a, b: a - b, params, mean)
    value, change = jax.jvp(lambda w: model.apply(w, x), (mean,), (moved,))
    np.testing.assert_allclose(acquisition.thompson(KEY, model, X)[0], value + change, rtol=1e-4, atol=1e-5)


def test_samples_of_members_are_of_each_as_often_and_differ_within_one():
    one, draws = model_of(std=0.05), 300
    several = members(one, (0.0, 4.0))
    found = np.asarray(acquisition.thompson(KEY, several, X, draws))[:, 0, 0]
    centres = [float(several.apply(several.posterior[k].mean, jnp.float32(X))[0, 0]) for k in range(2)]
    nearest = np.abs(found[:, None] - np.array(centres)).argmin(axis=1)
    assert abs(nearest.mean() - 0.5) < 4 * 0.5 / np.sqrt(draws)
    assert len(np.unique(found)) == draws
    first = [np.asarray(acquisition.thompson(jax.random.key(seed), several, X))[0, 0, 0] for seed in range(12)]
    of = np.abs(np.array(first)[:, None] - np.array(centres)).argmin(axis=1)
    assert 0 < of.sum() < 12  # one sample alone is not always of the first member


def test_samples_of_held_draws_are_some_of_them():
    model = points(model_of())
    held = np.asarray(bbb.draws(KEY, model, X))[:, 0, 0]
    found = np.asarray(acquisition.thompson(KEY, model, X, 40))[:, 0, 0]
    distance = np.abs(found[:, None] - held)
    assert distance.min(axis=1).max() < 1e-6
    assert len(np.unique(distance.argmin(axis=1))) == len(held)


def test_the_outputs_of_one_network_are_of_one_draw():
    network = model_of(outputs=2)
    both = {"a": likelihoods.Gaussian(0.3), "b": likelihoods.Gaussian(0.3)}

    def apply(params, x):
        outputs = network.apply(params, x)
        return {"a": outputs[:, :1], "b": outputs[:, 1:]}

    model = bbb.bayesianize(apply, network.posterior.mean, prior=bbb.priors.Normal(), likelihood=both, std=0.5)
    found, plain = acquisition.thompson(KEY, model, X, 3), np.asarray(acquisition.thompson(KEY, network, X, 3))
    np.testing.assert_allclose(found["a"], plain[..., :1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["b"], plain[..., 1:], rtol=1e-5, atol=1e-6)
    at = acquisition.thompson_function(KEY, model)(X)
    np.testing.assert_allclose(at["b"], plain[0, :, 1:], rtol=1e-5, atol=1e-6)


def test_a_function_shows_what_it_is():
    assert repr(acquisition.thompson_function(KEY, model_of())).startswith(
        "FunctionDraw, one function of a posterior's"
    )
