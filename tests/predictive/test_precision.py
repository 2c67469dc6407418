"""How far answers in bfloat16 and float32 are from those of the same posterior in float64, on the same noise.

A number in bfloat16 is right to u = 2⁻⁸ of itself at best, in float32 to 2⁻²⁴. An output is made of a few rounded
steps: the weights (mean + std·ε), a product, an activation, in each layer, and its own rounding at the end. Each is
off by up to u of what it makes, in a way of its own, so that errors add up as their squares do: √(steps)·u/√3, some
u in all, of the size of the outputs. A mean and a std average over draws; an end of an interval is one draw, or two.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.core import noise

KEY = jax.random.key(3)
NORMALS = noise.normals
DRAWS = 1000
NETWORK = bbb.nn.sequential(bbb.nn.linear(3, 50), bbb.nn.tanh, bbb.nn.linear(50, 50), bbb.nn.tanh, bbb.nn.linear(50, 1))
STATED = {
    "bfloat16": {"mean": 0.005, "std": 0.005, "interval": 0.015, "bound": 0.01},
    "float32": {"mean": 1e-6, "std": 1e-6, "interval": 5e-6, "bound": 1e-6},
}
"""What the page on numerics states: of mean, std and interval in parts of the size of the outputs, their largest root
mean square; of the KL, the negative ELBO and its gradient in parts of themselves."""


def rounded(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def of_bfloat16(shape, seed):
    """Return numbers that bfloat16 holds exactly, in float64."""
    return np.asarray(jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16), np.float64)


X = of_bfloat16((20, 3), 5)
Y = of_bfloat16((20, 1), 6)


def model():
    params = rounded(NETWORK.init(jax.random.key(1)), jnp.bfloat16)
    return bbb.bayesianize(
        NETWORK.apply, params, prior=bbb.priors.Normal(0.0, 1.0), likelihood=bbb.likelihoods.Gaussian(0.5), std=0.1
    )


def float32_noise(key, size, dtype):
    return NORMALS(key, size, np.float32).astype(dtype)


def answers(dtype):
    """Return all that is said of one posterior in a dtype, as float64."""
    made = rounded(model(), dtype)
    band = bbb.predict(KEY, made, X, draws=DRAWS, levels=(0.9,))

    def bound(q):
        return bbb.objectives.negative_elbo(KEY, dataclasses.replace(made, posterior=q), X, Y, draws=8)

    (total, parts), slope = jax.jit(jax.value_and_grad(bound, has_aux=True))(made.posterior)
    f, y = band.f, band.y
    found = {
        "mean": np.stack([f.mean, y.mean]),
        "std": np.stack([f.std, y.std]),
        "interval": np.stack([*f.interval(0.9), *y.interval(0.9)]),
        "kl": parts.kl,
        "negative ELBO": total,
        "gradient": np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(slope)]),
    }
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


@pytest.fixture(scope="module")
def of_each_dtype():
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "normals", float32_noise)  # float64 has noise of its own
        yield {dtype: answers(dtype) for dtype in ("float64", "float32", "bfloat16")}


@pytest.mark.parametrize("dtype", STATED)
def test_answers_are_as_near_to_float64s_as_the_readme_states(of_each_dtype, dtype):
    exact, found, stated = of_each_dtype["float64"], of_each_dtype[dtype], STATED[dtype]
    size = np.sqrt(exact["mean"] ** 2 + exact["std"] ** 2).max()
    for name in ("mean", "std", "interval"):
        off = np.abs(found[name] - exact[name]).max() / size
        assert off < stated[name], name
    for name in ("kl", "negative ELBO", "gradient"):
        off = np.linalg.norm(found[name] - exact[name]) / np.linalg.norm(exact[name])
        assert off < stated["bound"], name


def test_the_noise_of_bfloat16_is_that_of_float32():
    """So that the two differ by rounding alone, for one key."""
    drawn = [np.asarray(bbb.draws(KEY, rounded(model(), d), X, draws=50), np.float64) for d in ("float32", "bfloat16")]
    assert np.sqrt(np.mean((drawn[0] - drawn[1]) ** 2)) < 0.03 * drawn[0].std()


def test_a_spread_below_the_spacing_of_bfloat16_is_lost():
    """Between 64 and 128 its numbers lie 0.5 apart: 100 with a std of 0.05 is always 100."""
    drawn = [
        bbb.posteriors.sample(KEY, bbb.MeanField.around(jnp.full(1000, 100, d), 0.05)) for d in ("bfloat16", "float32")
    ]
    assert set(np.asarray(drawn[0], np.float64)) == {100}
    assert np.std(drawn[1]) == pytest.approx(0.05, rel=0.1)


# Training

SMALL = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
TASK = bbb.tasks.regression(seed=0)
ADAM = optax.adam(1e-3)


def cast_within(params, x):
    """Compute in bfloat16, of parameters that are kept, and trained, in float32."""
    return SMALL.apply(rounded(params, jnp.bfloat16), x.astype(jnp.bfloat16)).astype(jnp.float32)


def trained(apply, dtype):
    params = rounded(SMALL.init(jax.random.key(0)), dtype)
    likelihood = bbb.likelihoods.Gaussian(0.5, learn=True)
    begun = bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=likelihood)
    x, y = (column / column.std() for column in (TASK.x, TASK.y))
    ended, history = bbb.fit(jax.random.key(1), begun, x, y, steps=2000, optimizer=ADAM, progress=False)
    loss = np.asarray(history.negative_elbo, np.float64)
    pairs = zip(*(jax.tree.leaves(made.posterior.log_std) for made in (begun, ended)), strict=True)
    return loss[:20].mean(), loss[-100:].mean(), [bool(np.all(a == b)) for a, b in pairs]


def test_training_in_bfloat16_loses_small_updates_and_casting_within_does_not():
    """An update of less than 2⁻⁹ of a parameter, here a step of 0.001 at a log_std of about −3, is rounded away."""
    start, single, still = trained(SMALL.apply, "float32")
    assert not any(still)
    _, cast, still = trained(cast_within, "float32")
    assert not any(still)
    _, half, still = trained(SMALL.apply, "bfloat16")
    assert all(still)
    np.testing.assert_allclose([start, single, half], [1538, 472, 929], rtol=0.05)  # as the page has it
    assert abs(cast - single) < 0.01 * (start - single)
    assert half - single > 0.2 * (start - single)
