"""A Gaussian prior whose weights depend on each other: such as the posterior of the data before."""

import dataclasses
from typing import Any, ClassVar, TypeGuard

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.tree import (
    Tree,
    count,
    from_vector,
    is_none,
    map_present,
    pytree_dataclass,
    sum_leaves,
    to_vector,
    widest_dtype,
)
from bbb.errors import InputError, fail
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.priors.normal import Normal

MOST = 10_000
"""Weights of a posterior that depend on each other, whose KL from such a prior takes a product for each of them."""


@pytree_dataclass(data=("distribution",), saved=True)
class MultivariateNormal:
    """One Gaussian over all random weights, N(mean, Σ), in the form of a Gaussian posterior.

    `bbb.decide.update` makes one of the posterior before. For independent weights `Normal(posterior.mean,
    posterior.std)` says the same.

    Attributes:
        distribution: a `FullRank`, `LowRank`, `LowRankPrecision`, `Kronecker` or another Gaussian posterior.

    Raises:
        InputError: if it is not one Gaussian.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> posterior = bbb.MeanField.around(params, std=0.1)
        >>> prior = bbb.priors.MultivariateNormal(
        ...     posterior
        ... )  # what was learned is what is believed from now on
        >>> abs(round(float(bbb.priors.kl(posterior, prior)), 3))
        0.0
    """

    factorises: ClassVar[bool] = False

    distribution: Any

    def __post_init__(self) -> None:
        """Raise for what is not one Gaussian."""
        if not isinstance(self.distribution, GaussianPosterior):
            do = "Pass for example model.posterior; of an ensemble, that of a member: model.member(0).posterior."
            fail(InputError, "a Gaussian posterior as a prior", f"a {type(self.distribution).__name__}", do)

    def kl(self, posterior: GaussianPosterior) -> jax.Array:
        """Return KL(posterior ‖ self) in closed form: nats, a scalar.

        With means m and m0, and the precision Λ = Σ⁻¹:

            ½·(tr(Λ·S) − d) + ½·(m − m0)ᵀ·Λ·(m − m0) + H(self) − H(posterior)

        For independent weights the trace is Σ Λᵢᵢ·Sᵢᵢ; for others it takes a product with Λ for each number of the
        posterior's noise.

        Raises:
            InputError: for a posterior whose weights depend on each other, of more than 10,000 weights.
        """
        trace = self._trace_alone(posterior) if posterior.factorises else self._trace(posterior)
        nats = self.distribution.entropy() - posterior.entropy()
        return nats + (0.5 * trace + self.half_square(posterior.random_leaves(posterior.params))).astype(nats.dtype)

    def half_square(self, params: Tree) -> jax.Array:
        """Return ½·(w − mean)ᵀ·Λ·(w − mean) of weights, a tree like the random leaves: nats, 0 at the mean."""
        means = self.distribution.random_leaves(self.distribution.params)
        apart = map_present(lambda w, m: w - m, params, means)
        return 0.5 * _dot(apart, self.distribution.precision_times(apart))

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params), in nats: a scalar; leaves that are None, its point estimates, are left out."""
        return self.distribution.log_prob(params)

    def scales(self, params: Tree) -> Tree:
        """Return the standard deviation of each weight alone: a tree like `params`; leaves that are None left out."""
        return map_present(lambda w, s: s.astype(w.dtype), params, self.distribution.std)

    def curvature(self, params: Tree) -> Tree:
        """Return Λᵢᵢ for each weight: a tree like `params`; leaves that are None are left out."""
        log_std = self.distribution.conditionals().log_std
        return map_present(lambda w, s: jnp.exp(-2 * s).astype(w.dtype), params, log_std)

    def sample_params(self, key: jax.Array, params: Tree) -> Tree:
        """Draw weights: a tree like `params`; leaves that are None are left out."""
        drawn = self.distribution.weights(self.distribution.noise(key))
        return map_present(lambda w, new: new.astype(w.dtype), params, drawn)

    def centred(self, params: Tree) -> "MultivariateNormal":
        """Return the prior of this covariance around `params`, a tree like the random leaves."""
        every = jax.tree.map(
            lambda old, new: old if new is None else new, self.distribution.params, params, is_leaf=is_none
        )
        return dataclasses.replace(self, distribution=self.distribution.with_params(every))

    def marginals(self) -> Normal:
        """Return the prior of each weight alone."""
        alone = self.distribution.marginals()
        return Normal(alone.random_leaves(alone.mean), alone.std)

    def validate(self) -> None:
        """Raise what the distribution raises of parts that do not fit each other, as those of a file may not."""
        self.distribution.validate()

    def _trace_alone(self, posterior: GaussianPosterior) -> jax.Array:
        """Return Σ (Λᵢᵢ·Sᵢᵢ − 1) for independent weights."""
        given, own = self.distribution.conditionals().log_std, posterior.marginals().log_std
        return sum_leaves(map_present(lambda s, s0: jnp.expm1(2 * (s - s0)), own, given))

    def _trace(self, posterior: GaussianPosterior) -> jax.Array:
        """Return tr(Λ·S) − d: the sum of aᵀ·Λ·a over the columns a of a root of S, less d."""
        if count(posterior.random_leaves(posterior.params)) > MOST:
            got = f"{count(posterior.random_leaves(posterior.params)):,} in a {type(posterior).__name__}"
            do = "Take bbb.priors.Normal around its marginals, or a posterior of independent weights."
            fail(InputError, f"at most {MOST:,} weights that depend on each other, for their KL", got, do)
        still = jax.tree.map(jnp.zeros_like, jax.eval_shape(posterior.noise, jax.random.key(0)))

        def along(noise: Tree) -> jax.Array:
            _, column = jax.jvp(lambda e: posterior.random_leaves(posterior.weights(e)), (still,), (noise,))
            return _dot(column, self.distribution.precision_times(column))

        units = jnp.eye(count(still), dtype=widest_dtype(still))
        squares = jax.vmap(lambda unit: along(from_vector(unit, still)))(units)
        return jnp.sum(squares) - count(posterior.random_leaves(posterior.params))


def as_prior(posterior: GaussianPosterior) -> Normal | MultivariateNormal:
    """Return what a Gaussian posterior says, as the prior of the data that come next.

    A `Normal` of a mean and a standard deviation for each weight if they are independent, else a `MultivariateNormal`.
    Leaves that are point estimates have no prior.

    Raises:
        InputError: for what is not one Gaussian posterior.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> prior = bbb.priors.as_prior(bbb.MeanField.around(params, std=0.1))
        >>> type(prior).__name__
        'Normal'
    """
    checks.outside("as_prior", posterior=posterior)
    prior = MultivariateNormal(posterior)
    return prior.marginals() if posterior.factorises else prior


def is_dependent(prior: object) -> TypeGuard[MultivariateNormal]:
    """Return whether the weights of a prior depend on each other, as far as this library knows it."""
    return isinstance(prior, MultivariateNormal)


def _dot(one: Tree, other: Tree) -> jax.Array:
    """Return the sum of the products of all numbers of two trees."""
    dtype = widest_dtype((one, other))
    return jnp.vdot(to_vector(one, dtype), to_vector(other, dtype))
