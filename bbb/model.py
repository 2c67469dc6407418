"""The Bayesian neural network: a network, a posterior over its weights, a prior and a likelihood."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import _check
from bbb._tree import Tree, noun, widest_dtype
from bbb.forward import Apply
from bbb.likelihood import Likelihood
from bbb.posterior import MeanField
from bbb.prior import Prior


@noun(data=("posterior", "prior", "likelihood"), static=("apply",))
class BNN:
    """A Bayesian neural network, as `bayesianize` makes it; a pytree.

    Attributes:
        apply: the network, `apply(params, x) -> outputs`.
        posterior: the distribution over its parameters.
        prior: what the parameters were believed to be before the data.
        likelihood: what an observation looks like, given outputs.
    """

    apply: Apply
    posterior: MeanField
    prior: Prior
    likelihood: Likelihood


INITIAL_STD = 0.02
"""The standard deviation a posterior starts with, unless told: small, so that training starts as that of the plain
network does, yet within reach of 1 in a few hundred Adam steps of 0.01 on its logarithm."""


def bayesianize(apply: Apply, params: Tree, *, prior: Prior, likelihood: Likelihood, std: Tree = INITIAL_STD) -> BNN:
    """Give every parameter of a network a Gaussian, centred on `params`.

    Args:
        apply: the network, `apply(params, x) -> outputs`; x and outputs have one leading row axis.
        params: its parameters, any tree of floating-point arrays.
        prior: such as `bbb.prior.Normal(0.0, 1.0)`.
        likelihood: such as `bbb.likelihood.Gaussian(std=0.5, learn=True)`.
        std: the posterior's standard deviations at the start: a number, or a tree that is a prefix of `params`.

    Raises:
        InputError: if a parameter is not floating point or not finite, or a std not positive.
        ShapeError: if `std`, or a tree of the prior, is not a prefix of `params`.
    """
    if not callable(apply):
        _check.fail(
            _check.InputError,
            "apply to be a function apply(params, x)",
            f"a {type(apply).__name__}",
            "Pass for example network.apply.",
        )
    _check.has("a prior", prior, ("kl",), "bbb.prior.Normal(0.0, 1.0)")
    _check.has("a likelihood", likelihood, ("log_prob",), "bbb.likelihood.Gaussian(0.5, learn=True)")
    posterior = MeanField.around(params, std)
    jax.eval_shape(prior.kl, posterior)  # refuses a prior that does not fit, and computes nothing
    dtype = widest_dtype(posterior.mean)
    return BNN(apply, posterior, _floats(prior, dtype), _floats(likelihood, dtype))


def rows_for(model: BNN, name: str, value: Any) -> jax.Array:
    """Check rows of data, and bring floating-point ones to the dtype of the model's weights."""
    array = _check.rows(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return jax.device_put(array)
    dtype = widest_dtype(model.posterior.mean)
    with np.errstate(over="ignore"):  # what overflows is refused below, by name
        cast = array.astype(dtype)  # by NumPy where it can: JAX would compile a program for every number of rows
    _check.rows(f"{name} in {dtype}", cast)  # a number may be finite in float64 and infinite in float32
    return jax.device_put(cast)  # unlike jnp.asarray, compiles nothing


def _floats(tree: Tree, dtype: Any) -> Tree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
