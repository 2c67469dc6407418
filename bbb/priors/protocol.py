"""What a prior must provide, and what it may provide."""

from typing import TYPE_CHECKING, NoReturn, Protocol, TypeGuard, cast

import jax

from bbb import checks
from bbb.core.ability import implements, missing_members
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.posteriors.mean_field import MeanField

if TYPE_CHECKING:
    pass


class Prior(Protocol):
    """What every verb needs of a prior: a KL divergence in closed form, or else a density to estimate it from.

    ===========================================  =====================================================
    verb                                         needs
    ===========================================  =====================================================
    `bayesianize`, `fit`, `negative_elbo`, `kl`  `Prior`: `kl`; or `SupportsLogDensity`: `log_density`
    `plots.weight_density`                       `SupportsLogProb`: `log_prob`; or `SupportsFitting`
    `laplace`, `log_evidence`                    `SupportsCurvature`: `curvature`, `log_prob`; or
                                                 `SupportsFitting`, of such a prior
    `fit` with `Restarts(..., anchored=True)`    `SupportsAnchoring`: `sample_params`, `centred`,
                                                 `log_prob`
    `tune`                                       a `Normal`
    `decide.prior_predict`                       `SupportsDrawing`: `sample_params`; or
                                                 `SupportsFitting`, of such a prior
    `decide.simulation_based_calibration`        likewise
    `decide.psis`, `mcmc.hmc`, `mcmc.nuts`       `SupportsLogProb` or `SupportsLogDensity`
    ===========================================  =====================================================

    A prior of your own is a frozen dataclass that is registered with JAX, so that compiled programs take its numbers;
    an option that is not a number is `dataclasses.field(metadata={"static": True})`. The KL divergence from this one
    has no closed form::

        @jax.tree_util.register_dataclass
        @dataclasses.dataclass(frozen=True)
        class Cauchy:
            scale: float = 1.0

            def log_density(self, params):
                return jax.tree.map(lambda w: -jnp.log(jnp.pi * self.scale * (1 + (w / self.scale) ** 2)), params)

        model = bbb.bayesianize(apply, params, prior=Cauchy(0.5), likelihood=bbb.likelihoods.Gaussian(0.5))

    A prior whose weights depend on each other has `factorises = False`: its `kl` takes any Gaussian posterior.

    `save` writes a prior that does not belong to this library as arrays, which `load(path, like=model)` reads.
    """

    def kl(self, posterior: MeanField) -> jax.Array:
        """Return KL(posterior ‖ self) in nats, summed over every weight."""


class SupportsLogDensity(Protocol):
    """A prior whose KL divergence is estimated from draws of the weights, by the density of each."""

    def log_density(self, params: Tree) -> Tree:
        """Return log p of each weight, in nats: a tree like `params`."""


class SupportsLogProb(Protocol):
    """A prior with a density of all weights together."""

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params) in nats, a scalar; leaves that are None are left out."""


class SupportsScales(Protocol):
    """A prior that knows how far each weight may lie from its centre."""

    def scales(self, params: Tree) -> Tree:
        """Return the standard deviation of each weight: a tree like `params`; leaves that are None are left out."""


class SupportsFitting(Protocol):
    """A prior whose scales follow from the posterior, as in empirical Bayes."""

    def fitted(self, posterior: MeanField) -> Prior:
        """Return the prior of the scales that are best for a posterior."""


class SupportsCurvature(SupportsLogProb, Protocol):
    """A prior whose log density is concave in each weight, as a Laplace approximation needs it."""

    def curvature(self, params: Tree) -> Tree:
        """Return −∂² log p/∂w² at each weight of `params`, above 0: a tree like `params`, None left out."""


class SupportsDrawing(Protocol):
    """A prior that can be drawn from."""

    def sample_params(self, key: jax.Array, params: Tree) -> Tree:
        """Draw weights: a tree like `params`, of which the shapes and dtypes are used; None stays None."""


class SupportsAnchoring(SupportsDrawing, SupportsLogProb, Protocol):
    """A prior that can be drawn from, and moved to where its mode is the draw."""

    def centred(self, params: Tree) -> SupportsLogProb:
        """Return the same prior with its mode at `params`."""


AnyPrior = Prior | SupportsLogDensity
"""A prior that `bayesianize` takes: with a KL divergence in closed form, or one that is estimated."""


def check_prior(prior: AnyPrior) -> None:
    """Raise if an object is not a prior: without a KL, closed or estimated, or not registered with JAX.

    Raises:
        InputError: naming what it lacks.
    """
    checks.has("a prior", prior, ("log_density" if needs_estimate(prior) else "kl",), "bbb.priors.Normal(0.0, 1.0)")
    checks.registered("a prior", prior)


def needs_estimate(prior: object) -> TypeGuard[SupportsLogDensity]:
    """Return whether a prior has a density to estimate its KL from; a likelihood, which has one too, is not a prior."""
    return implements(prior, SupportsLogDensity) and not hasattr(prior, "as_target")


def raise_without_key() -> NoReturn:
    """Raise because a KL without a closed form needs a key.

    Raises:
        InputError: always.
    """
    do = "Pass bbb.priors.kl(posterior, prior, key=jax.random.key(0), draws=1000)."
    fail(InputError, "a key, to estimate a KL that has no closed form", "none", do)


def check_curvature(prior: object, verb: str) -> SupportsCurvature:
    """Return a prior whose log density is concave in each weight.

    Raises:
        InputError: naming what it lacks.
    """
    missing = [f"`{name}`" for name in missing_members(prior, SupportsCurvature)]
    if missing or isinstance(prior, type):
        expected = f"a prior with {' and '.join(missing or ['`curvature`'])}, which {verb} needs"
        do = "Take bbb.priors.Normal or bbb.priors.EmpiricalNormal, whose log density is a parabola."
        fail(InputError, expected, f"a {type(prior).__name__} without", do)
    return cast(SupportsCurvature, prior)
