"""The log density that chains sample, against its formula."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.likelihoods.per_member import PerMember
from bbb.mcmc.api import _target
from bbb.mcmc.target import log_prior
from tests.mcmc.models import NOISE, PRIOR, SHIFT, ensemble, linear

WEIGHTS = {"b": np.array([0.7]), "w": np.array([[-0.4], [1.9]])}


def at(dtype, **parts):
    """Return a target, and the position of `WEIGHTS`."""
    model, x, y, *_ = linear(dtype, **parts)
    target = _target(model, *(jnp.asarray(part, dtype) for part in (x, y)), None)
    return target, target.position(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), WEIGHTS)), x, y


def normal(value, mean, std):
    return -0.5 * ((value - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)


def test_the_density_is_that_of_all_rows_and_of_the_prior(dtype):
    target, position, x, y = at(dtype)
    w = np.concatenate([leaf.ravel() for leaf in WEIGHTS.values()])
    f = x @ WEIGHTS["w"] + WEIGHTS["b"]
    exact = normal(y, f, NOISE).sum() + normal(w, SHIFT, PRIOR).sum()
    np.testing.assert_allclose(target.log_density(position, {"b": None, "w": None}), exact, rtol=_rtol(dtype))
    slope = np.column_stack([np.ones(len(x)), x]).T @ (y - f)[:, 0]
    slope = PRIOR * (slope / NOISE**2 - (w - SHIFT) / PRIOR**2)  # in units of the prior
    found = jax.grad(target.log_density)(position, {"b": None, "w": None})
    np.testing.assert_allclose(found, slope, rtol=_rtol(dtype))


def _rtol(dtype):
    return 1e-5 if dtype == "float32" else 1e-12


def test_a_position_is_weights_over_their_prior_std_and_back(dtype):
    target, position, *_ = at(dtype, prior=bbb.priors.Normal(0.0, {"b": 0.5, "w": 2.0}))
    np.testing.assert_allclose(position, [1.4, -0.2, 0.95], rtol=_rtol(dtype))
    for got, leaf in zip(jax.tree.leaves(target.random(position)), WEIGHTS.values(), strict=True):
        np.testing.assert_allclose(got, leaf, rtol=_rtol(dtype))


def test_scales_are_standard_deviations_of_the_prior():
    with jax.enable_x64(True):
        for prior, std in (
            (bbb.priors.Laplace(0.0, 0.5), math.sqrt(2) * 0.5),
            (bbb.priors.ScaleMixture(0.25, 2.0, 0.1), math.sqrt(0.25 * 4 + 0.75 * 0.01)),
        ):
            np.testing.assert_allclose(at("float64", prior=prior)[0].scale, [std] * 3, rtol=1e-12)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cauchy:
    """A prior of one's own, with the density of each weight and no more."""

    def log_density(self, params):
        return jax.tree.map(lambda w: -jnp.log(jnp.pi * (1 + jnp.square(w))), params)


def test_a_prior_of_ones_own_is_summed_in_its_own_units():
    random = {"a": jnp.array([0.5, -2.0]), "b": None}
    expected = -math.log(math.pi * 1.25) - math.log(math.pi * 5)
    np.testing.assert_allclose(log_prior(Cauchy(), random), expected, rtol=1e-6)
    target, position, *_ = at("float32", prior=Cauchy())
    np.testing.assert_array_equal(target.scale, [1, 1, 1])
    np.testing.assert_allclose(position, [0.7, -0.4, 1.9], rtol=1e-6)


def test_noise_that_members_learned_is_held_at_the_mean_of_its_logarithms():
    model, x, y, *_ = linear(likelihood=bbb.likelihoods.Gaussian(1.0, learn=True))
    likelihood = PerMember(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + math.log(4.0)]), model.likelihood))
    both = bbb.BNN(model.apply, ensemble(model, 0.0, 0.1).posterior, model.prior, likelihood)
    target = _target(both, *(jnp.asarray(part, jnp.float32) for part in (x, y)), None)
    assert float(target.likelihood.std) == pytest.approx(2.0)
