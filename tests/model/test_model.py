"""bayesianize: a Gaussian on every parameter, centred on the network's own, everything in one dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb

NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 4), bbb.nn.relu, bbb.nn.linear(4, 1))


def params():
    return NETWORK.init(jax.random.key(0))


def model(**changes):
    parts = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.5), **changes}
    return bbb.bayesianize(NETWORK.apply, params(), **parts)


def test_the_posterior_is_centred_on_the_networks_parameters():
    made = model()
    assert jax.tree.structure(made.posterior.mean) == jax.tree.structure(params())
    for got, want in zip(jax.tree.leaves(made.posterior.mean), jax.tree.leaves(params()), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_posterior_starts_narrow():
    for leaf in jax.tree.leaves(model().posterior.std):
        np.testing.assert_allclose(leaf, bbb.model.INITIAL_STD, rtol=1e-5)


def test_the_starting_std_may_differ_per_layer():
    first, _, last = model(std=(0.1, (), 0.5)).posterior.std
    np.testing.assert_allclose(first["weight"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(last["bias"], 0.5, rtol=1e-5)


def test_every_number_has_the_dtype_of_the_parameters(dtype):
    cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params())
    made = bbb.bayesianize(
        NETWORK.apply,
        cast,
        prior=bbb.priors.Normal(0, np.float64(1.0)),
        likelihood=bbb.likelihoods.Gaussian(np.float64(0.5), learn=True),
    )
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(made)} == {dtype}


def test_parameters_of_several_dtypes_are_taken():
    mixed = {"w": jnp.ones((1, 1)), "b": jnp.ones(1, jnp.bfloat16)}

    def apply(p, x):
        return x @ p["w"] + p["b"].astype("float32")[None]

    made = bbb.bayesianize(apply, mixed, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5))
    assert {name: str(leaf.dtype) for name, leaf in made.posterior.mean.items()} == {"w": "float32", "b": "bfloat16"}
    band = bbb.predict(jax.random.key(0), made, np.ones((3, 1)), draws=8)
    assert np.isfinite(band.y.std).all()


def test_any_function_of_any_tree_becomes_bayesian():
    made = bbb.bayesianize(
        lambda w, x: x * w, jnp.float32(2.0), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(1.0)
    )
    band = bbb.predict(jax.random.key(0), made, np.ones(3, "float32"), draws=10)
    assert band.f.mean.shape == (3,)


def test_a_model_is_an_argument_of_compiled_functions():
    made = model()
    assert float(jax.jit(lambda m: bbb.priors.kl(m.posterior, m.prior))(made)) == pytest.approx(
        float(bbb.priors.kl(made.posterior, made.prior)), rel=1e-5
    )


def test_models_may_be_stacked():
    stack = jax.tree.map(lambda a, b: jnp.stack([a, b]), model(std=0.1), model(std=0.2))
    together = jax.vmap(lambda m: bbb.priors.kl(m.posterior, m.prior))(stack)
    apart = [bbb.priors.kl(m.posterior, m.prior) for m in (model(std=0.1), model(std=0.2))]
    np.testing.assert_allclose(together, apart, rtol=1e-5)
