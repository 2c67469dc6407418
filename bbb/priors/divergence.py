"""The Kullback-Leibler divergence from a posterior to a prior, in nats."""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.tree import Tree, pytree_dataclass, sum_leaves
from bbb.errors import InputError, ShapeError, fail
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_posterior
from bbb.priors.protocol import Prior, needs_estimate, raise_without_key

if TYPE_CHECKING:
    pass


KL_DRAWS = 2
"""Draws a step that a KL is estimated from, at least: with two, the standard error can be estimated as well."""


@pytree_dataclass(data=("prior", "noise"))
class WithNoise:
    """A prior whose KL is estimated, with the noise to estimate it from: to the objective, a prior like any other.

    Of KL = E[log q(w) − log p(w)], the first part is known; only the second is averaged over the draws, with the
    gradient of the weights w = m + s·ε. Independent weights are enough for it, since log p is a sum over weights.

    Attributes:
        prior: one that has `log_density`.
        noise: standard normal, a tree like the `log_std` of the posterior's marginals with a leading axis of draws.
    """

    prior: Any
    noise: Tree

    def kl(self, posterior: MeanField) -> jax.Array:
        """Estimate KL(posterior ‖ prior): nats, a scalar, without bias."""
        log_q = sum_leaves(jax.tree.map(lambda s: -s - 0.5 * math.log(2 * math.pi * math.e), posterior.log_std))
        return log_q - sum_leaves(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), self._log_densities(posterior)))

    def kl_std_error(self, posterior: MeanField) -> jax.Array:
        """Estimate the standard error of `kl`, in nats: weights are independent, so that their variances add."""
        draws = jax.tree.leaves(self.noise)[0].shape[0]
        variances = jax.tree.map(lambda leaf: jnp.var(leaf, axis=0, ddof=1), self._log_densities(posterior))
        return jnp.sqrt(sum_leaves(variances) / draws)

    def _log_densities(self, posterior: MeanField) -> Tree:
        return jax.vmap(lambda e: self.prior.log_density(posterior.random_leaves(posterior.weights(e))))(self.noise)


def with_noise(key: jax.Array, prior: Any, posterior: GaussianPosterior, draws: int) -> Any:
    """Return a prior whose KL is estimated with the noise to do so, and any other prior as it is."""
    if hasattr(prior, "log_density"):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(draws, dtype=jnp.uint32))
        return WithNoise(prior, jax.vmap(posterior.marginals().noise)(keys))
    return prior


def kl(posterior: Posterior, prior: Prior, *, key: jax.Array | None = None, draws: int = 1000) -> jax.Array:
    """Return the Kullback-Leibler divergence KL(posterior ‖ prior): nats, a scalar, summed, never averaged.

    It is not symmetric, and grows without bound as the prior's std goes to 0. Of a prior that is independent for each
    weight it is the divergence of the marginals from the prior, and the posterior's total correlation:
    KL(q ‖ p) = Σ KL(qᵢ ‖ pᵢ) + Σ H(qᵢ) − H(q). One that is not, such as `MultivariateNormal`, says so as posteriors
    do, by `factorises`, and takes the whole posterior.

    Args:
        posterior: a `MeanField` or another Gaussian posterior.
        prior: what it is compared with.
        key: one typed JAX key, for a prior whose KL has no closed form; others do not look at it.
        draws: how many draws such a KL is estimated from.

    Raises:
        ShapeError: if the prior's trees are not a prefix of the posterior's.
        InputError: if the prior's KL has no closed form, and there is no key; for an ensemble, or another posterior
            without marginals; or for what is not a posterior or not a prior.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.MeanField.around(params, std=1.0)
        >>> round(float(bbb.priors.kl(posterior, bbb.priors.Normal(0.0, 1.0))), 2)  # ½·mean² each
        3.0
    """
    check_posterior(posterior)
    is_estimated = key is not None and needs_estimate(prior)
    if key is None and needs_estimate(prior) and not hasattr(prior, "kl"):
        raise_without_key()
    checks.has("a prior", prior, ("log_density" if is_estimated else "kl",), "bbb.priors.Normal(0.0, 1.0)")
    if posterior.is_mixture:
        do = "Take that of a member, kl(model.member(0).posterior, prior): their mean is an upper bound."
        fail(InputError, "one mean-field posterior", f"an ensemble of {posterior.components}", do)
    if not isinstance(posterior, GaussianPosterior):
        do = "Pass a MeanField, or another posterior that has marginals() and total_correlation()."
        fail(InputError, "a Gaussian posterior, for its KL", f"a {type(posterior).__name__}", do)
    if key is not None:
        checks.key(key)
        prior = with_noise(key, prior, posterior, checks.positive_integer("draws", draws))
    if not getattr(prior, "factorises", True):
        return prior.kl(posterior)  # type: ignore[arg-type]
    return prior.kl(posterior.marginals()) + posterior.total_correlation()


def check_fits(prior: Any, posterior: GaussianPosterior) -> None:
    """Raise for a prior whose trees do not fit a posterior, or whose KL is not a number; nothing is computed.

    Raises:
        ShapeError: if they are not a prefix of the posterior's, or the KL has axes.
        InputError: if the KL is not of floating-point numbers.
    """
    nats = jax.eval_shape(lambda q: with_noise(jax.random.key(0), prior, q, 1).kl(q), posterior.marginals())
    if not (hasattr(nats, "shape") and jnp.issubdtype(nats.dtype, jnp.floating)):
        got = f"dtype {nats.dtype}" if hasattr(nats, "dtype") else f"a {type(nats).__name__}"
        do = "Let kl(posterior) return nats, summed over every weight."
        fail(InputError, "a prior whose KL is a floating-point number", got, do)
    if nats.shape:
        do = "Sum them over every weight."
        fail(ShapeError, "a prior whose KL is one number of nats", f"shape {nats.shape}", do)
