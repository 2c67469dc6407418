"""Activations and small networks for closed forms, and draws of them."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import bbb
from bbb.moments.api import moments

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")

PIECEWISE = {
    "relu": (jax.nn.relu, [0.0]),
    "leaky_relu": (jax.nn.leaky_relu, [0.0]),
    "relu6": (jax.nn.relu6, [0.0, 6.0]),
    "hard_tanh": (jax.nn.hard_tanh, [-1.0, 1.0]),
    "hard_sigmoid": (jax.nn.hard_sigmoid, [-3.0, 3.0]),
    "abs": (jnp.abs, [0.0]),
    "clip": (lambda z: jnp.clip(z, -0.5, 2.0), [-0.5, 2.0]),
    "sign": (jnp.sign, [0.0]),
    "masked": (lambda z: z * (z > 0.5).astype(z.dtype), [0.5]),
    "two lines": (lambda z: jnp.maximum(z, 1.0 - 0.25 * z), [0.8]),
}

CURVED = {
    "tanh": (jnp.tanh, [0.0]),
    "sigmoid": (jax.nn.sigmoid, [0.0]),
    "gelu": (lambda z: jax.nn.gelu(z, approximate=False), [0.0]),
    "gelu by tanh": (jax.nn.gelu, [0.0]),
    "softplus": (jax.nn.softplus, [0.0]),
    "silu": (jax.nn.silu, [0.0]),
    "elu": (jax.nn.elu, [0.0]),
    "selu": (jax.nn.selu, [0.0]),
    "mish": (jax.nn.mish, [0.0]),
    "soft_sign": (jax.nn.soft_sign, [0.0]),
    "hard_swish": (jax.nn.hard_swish, [-3.0, 3.0]),
    "square": (jnp.square, [0.0]),
}


def each(*names, slow=()):
    """Parametrise by names; `slow` ones, which take the same path as others, run with -m slow."""
    return pytest.mark.parametrize("name", [*names, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)])


def around(params, std):
    return bbb.MeanField.around(params, std)


def mlp(activation, *, layers=1):
    def apply(params, x):
        for i in range(layers):
            x = activation(x @ params[f"W{i}"] + params[f"b{i}"][None])
        return x @ params["V"] + params["c"][None]

    return apply


def mlp_posterior(dtype="float32", *, layers=1, width=8, outputs=2, std=0.3):
    rng = np.random.default_rng(1)
    sizes = [3, *[width] * layers]
    params = {f"W{i}": rng.normal(size=(a, b)) / math.sqrt(a) for i, (a, b) in enumerate(itertools.pairwise(sizes))}
    params |= {f"b{i}": rng.normal(size=width) for i in range(layers)}
    params |= {"V": rng.normal(size=(width, outputs)) / math.sqrt(width), "c": rng.normal(size=outputs)}
    return around({name: jnp.asarray(p.astype(dtype)) for name, p in params.items()}, std)


def drawn(apply, q, x, draws, chunk=2_000):
    """The mean, variance and fourth central moment of many draws of the outputs."""

    @jax.jit
    def outputs(key):
        def one(key):
            return apply(q.weights(q.noise(key)), x)

        return lax.map(lambda k: jax.vmap(one)(jax.random.split(k, chunk)), jax.random.split(key, draws // chunk))

    f = np.asarray(outputs(KEY), "float64").reshape(draws, *jax.eval_shape(apply, q.mean, x).shape)
    centred = f - f.mean(0)
    return f.mean(0), (centred**2).mean(0), (centred**4).mean(0)


def assert_agrees_with_draws(apply, q, x, draws=100_000, errors=5):
    mean, variance, fourth = drawn(apply, q, x, draws)
    found = moments(apply)(q, x)
    assert np.all(np.abs(found.mean - mean) <= errors * np.sqrt(variance / draws))
    assert np.all(np.abs(found.variance - variance) <= errors * np.sqrt((fourth - variance**2) / draws))
