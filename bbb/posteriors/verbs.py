"""A draw of the parameters, its log density, and the checks of posteriors."""

from typing import Any

import jax

from bbb import checks
from bbb.core import process
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.posteriors.ensemble import several
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior


def check_posterior(posterior: Any) -> None:
    """Raise for what is not a posterior.

    Raises:
        InputError: saying what came.
    """
    process.process()
    checks.is_a("posterior", posterior, (MeanField, Posterior), "Pass for example model.posterior.")
    checks.alive("posterior", posterior)


def check_random(posterior: Any, verb: str) -> None:
    """Raise for what is not a posterior, or one without a random leaf.

    Raises:
        InputError: naming the verb that needs one.
    """
    check_posterior(posterior)
    if posterior.is_point:
        got = "point estimates alone, in which nothing is random"
        do = "Give its weights Gaussians: bbb.bayesianize(apply, posterior.mean, prior=..., likelihood=...)."
        fail(InputError, f"a posterior with at least one Gaussian, for {verb}", got, do)


def check_gaussians(posterior: Any, verb: str) -> None:
    """Raise for what is not a posterior, or one of points, be they one or several: without a Gaussian to ask about.

    Raises:
        InputError: naming the verb that needs one.
    """
    check_random(posterior, verb)
    if posterior.holds_draws:
        got = f"one of {posterior.components:,} draws, which are points"
        do = "Use what needs draws alone, such as bbb.predict, and bbb.plots and bbb.metrics of what it gives."
        fail(InputError, f"a posterior with at least one Gaussian, for {verb}", got, do)


def noise_like(posterior: Posterior) -> Tree:
    """Return the shapes and dtypes of the random numbers that one draw of a posterior needs."""
    return jax.eval_shape(posterior.noise, jax.eval_shape(lambda: jax.random.key(0)))


def independent(posterior: Any, verb: str) -> "MeanField":
    """Return a posterior as independent Gaussians, which it has to be.

    Raises:
        InputError: for what is not a posterior, a mixture, or one whose weights depend on each other.
    """
    check_posterior(posterior)
    if posterior.is_mixture:
        several(posterior, "means")
    if not getattr(posterior, "factorises", False):
        do = "Use draws of the weights, such as bbb.forwards.weight_sampling(model.apply)."
        got = f"a {type(posterior).__name__}, whose weights depend on each other"
        fail(InputError, f"a posterior of independent weights, such as a MeanField, for {verb}", got, do)
    return posterior.marginals()


def marginals(posterior: Any, verb: str) -> "MeanField":
    """Return the Gaussian of each weight alone; those of a mixture have a leading axis of components.

    Raises:
        InputError: for what is not a Gaussian posterior, or a mixture of such.
    """
    check_posterior(posterior)
    if posterior.holds_draws:
        check_gaussians(posterior, verb)
    if not isinstance(posterior.component(0), GaussianPosterior):
        got, do = f"a {type(posterior).__name__}", "Pass a MeanField, or another posterior that has marginals()."
        fail(InputError, f"a Gaussian posterior, for {verb}", got, do)
    return posterior.each(lambda component: component.marginals())


def sample(key: jax.Array, posterior: Posterior) -> Tree:
    """Draw one set of weights, a tree like `posterior.params`; of an ensemble, those of a member chosen at random.

    Raises:
        KeyTypeError: if `key` is not one typed JAX key.
        InputError: if `posterior` is not a posterior.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.MeanField.around(params, std=0.1)
        >>> drawn = bbb.posteriors.sample(jax.random.key(0), posterior)
        >>> jax.tree.map(jax.numpy.shape, drawn)
        {'bias': (2,), 'weight': (2, 3)}
    """
    checks.key(key)
    check_posterior(posterior)
    return posterior.weights(posterior.noise(key))


def log_prob(posterior: Posterior, params: Tree) -> jax.Array:
    """Return log q(params), in nats: a scalar, summed over every weight that is random.

    Raises:
        InputError: if `posterior` is not a posterior.
        ShapeError: if `params` differs from the posterior in structure or in a shape.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.MeanField.around(params, std=0.1)
        >>> round(float(bbb.posteriors.log_prob(posterior, params)), 2)  # nats, of all eight
        11.07
    """
    check_posterior(posterior)
    checks.fits("params", params, "posterior", posterior.params)
    return posterior.log_prob(params)
