"""What a likelihood must provide, and what it may provide."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import jax
import jax.numpy as jnp

from bbb import checks
from bbb.core.ability import implements, missing_members
from bbb.errors import InputError, ShapeError, fail

if TYPE_CHECKING:
    pass


class Likelihood(Protocol):
    """What training needs of a likelihood; every other ability is a protocol of its own, and optional.

    ======================================================  ==================================================
    verb                                                    needs
    ======================================================  ==================================================
    `bayesianize`, `fit`, `negative_elbo`                   `Likelihood`: `learn`, `as_target`, `log_prob`
    `predict`, `export`                                     `SupportsFunction`: `function`; and
                                                            `SupportsMoments`: `mean`, `variance`; or
                                                            `SupportsClasses`: `probabilities`
    quantiles and intervals of y, `diagnose`                `SupportsQuantiles`: `cdf`, `density`, `discrete`,
                                                            besides `mean` and `variance`
    `to_datatree`, `mixture.sample_y`                       `SupportsSampling`: `sample`
    `predict` by "moments" or "last_layer"                  `SupportsGaussianNoise`: `observed`
    `exact_elbo_cost`                                       `SupportsExpectedLogProb`: `expected_log_prob`
    `laplace`, `log_evidence`, `tune`                       `SupportsFisher`: `fisher_root`
    `PartiallyObserved`, output by output                   `log_density`, and `expected_log_density` for
                                                            `exact_elbo_cost`
    `draws`, `prune`, `save`, and `load(path, like=model)`  nothing more
    ======================================================  ==================================================

    All methods but `log_prob` and `fisher_root` work elementwise, under any leading axes, such as draws. A likelihood
    that has `probabilities`, over a last axis of classes, is summarised by them. If `discrete` is True, y is a whole
    number from 0, and `density` is the probability of y.

    A likelihood of your own is a frozen dataclass that is registered with JAX, so that compiled programs take its
    numbers; an option that is not a number, such as `learn`, is static::

        @jax.tree_util.register_dataclass
        @dataclasses.dataclass(frozen=True)
        class LaplaceNoise:
            scale: float = 1.0
            learn: bool = dataclasses.field(default=False, metadata={"static": True})

            def as_target(self, y, outputs):
                return y.astype(outputs.dtype)

            def log_prob(self, y, outputs):
                nats = -jnp.abs(y - outputs) / self.scale - jnp.log(2 * self.scale)
                return nats.sum(axis=tuple(range(1, nats.ndim)))

            def function(self, outputs):
                return outputs

            def mean(self, outputs):
                return outputs

            def variance(self, outputs):
                return jnp.full_like(outputs, 2 * self.scale**2)

        model = bbb.bayesianize(apply, params, prior=bbb.priors.Normal(0.0, 1.0), likelihood=LaplaceNoise(0.5))
    """

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the parameters of the likelihood itself."""

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype that `log_prob` takes; raise if it is not an observation of such outputs."""

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | outputs) in nats, of each row: (rows,)."""


class SupportsFunction(Protocol):
    """A likelihood that knows which of the outputs are the function."""

    def function(self, outputs: jax.Array) -> jax.Array:
        """Return the part of the outputs that is the function itself, which `Predictive.f` describes."""


class SupportsMoments(Protocol):
    """A likelihood of numbers that have a mean and a variance."""

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs]."""

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs], the aleatoric variance."""


class NumericLikelihood(SupportsFunction, SupportsMoments, Protocol):
    """A likelihood of numbers whose predictive distribution has moments."""


class SupportsQuantiles(SupportsMoments, Protocol):
    """A likelihood of numbers whose mixture over draws has quantiles, which are searched for by its cdf."""

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""

    def density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return the density of y, the derivative of `cdf`; or, of a discrete y, its probability."""

    @property
    def discrete(self) -> bool:
        """Whether y is a whole number from 0."""


class SupportsClasses(Protocol):
    """A likelihood of classes."""

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Return the probability of each class, over a last axis of classes."""


class SupportsSampling(Protocol):
    """A likelihood that can draw observations."""

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""


class SupportsGaussianNoise(Protocol):
    """A likelihood that adds Gaussian noise to the outputs, so that Gaussian outputs have a Gaussian y."""

    def observed(self, mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the variance of y, where the outputs are N(mean, variance)."""


class SupportsExpectedLogProb(Protocol):
    """A likelihood whose expected log-probability depends on the mean and the variance of the outputs alone."""

    def expected_log_prob(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Return E[log p(y | f)] of each row in nats, (rows,), for outputs f of such means and variances."""


class SupportsTrainingCheck(Protocol):
    """A likelihood that some observations cannot be learned from."""

    def check_training(self, y: jax.Array) -> None:
        """Raise if nothing can be learned from y, such as from labels of one class."""


class SupportsTabulatedCDF(Protocol):
    """A likelihood whose cdf is slow, and may be read off a table instead."""

    def tabulated_cdf(self, outputs: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Return a function like `cdf` for very many elements."""


class SupportsGaussianComponents(Protocol):
    """A likelihood that is Gaussian given the outputs, so that a mixture of draws may keep means and variances."""

    def components(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the variance of y given each element of the outputs."""


class SupportsFisher(Protocol):
    """A likelihood whose Fisher information in the outputs is known: what its Gauss-Newton matrix is made of."""

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return A, (rows, k, k), for outputs of k numbers a row, (rows, ...), in the order of their memory.

        A·Aᵀ is the Fisher information of y in the outputs, E[−∂² log p(y | outputs)], which does not depend on y and
        has no negative eigenvalue. For outputs that are natural parameters, it is minus the Hessian of log p.
        """


class SupportsDraws(Protocol):
    """A likelihood of draws that do not share their parameters, such as those of an ensemble."""

    def log_prob_of_draws(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | draw) in nats of each draw and row, (draws, rows), for y (rows, ...)."""


def check_likelihood(likelihood: Likelihood) -> None:
    """Raise if an object is not a likelihood: if it lacks what training needs, or is not registered with JAX.

    Raises:
        InputError: naming what it lacks.
    """
    example = "bbb.likelihoods.Gaussian(0.5, learn=True)"
    methods = ("log_prob", "as_target")
    if isinstance(likelihood, type) or not any(hasattr(likelihood, name) for name in methods):
        checks.has("a likelihood", likelihood, methods, example)
    _needs(likelihood, "fit", Likelihood)
    checks.has("a likelihood", likelihood, methods, example)
    checks.registered("a likelihood", likelihood)
    checks.boolean("learn of a likelihood", likelihood.learn)


def check_predicts(likelihood: object, verb: str, quantiles: bool) -> None:
    """Raise if a likelihood lacks what a summary of y needs, or its quantiles.

    Raises:
        InputError: naming what it lacks.
    """
    if implements(likelihood, SupportsClasses):
        _needs(likelihood, verb, SupportsFunction)
        return
    _needs(likelihood, verb, SupportsFunction, SupportsMoments)
    if quantiles:
        check_quantiles(likelihood, f"{verb} with quantiles or intervals of y")


def check_fisher(likelihood: object, verb: str) -> SupportsFisher:
    """Return a likelihood whose Fisher information in the outputs is known.

    Raises:
        InputError: naming what it lacks.
    """
    _needs(likelihood, verb, SupportsFisher)
    return cast(SupportsFisher, likelihood)


def check_quantiles(likelihood: object, verb: str) -> SupportsQuantiles:
    """Return a likelihood that has what a search for quantiles of y needs.

    Raises:
        InputError: naming what it lacks.
    """
    _needs(likelihood, verb, SupportsQuantiles)
    return cast(SupportsQuantiles, likelihood)


def check_samples(likelihood: object, verb: str) -> SupportsSampling:
    """Return a likelihood that can draw observations.

    Raises:
        InputError: naming what it lacks.
    """
    _needs(likelihood, verb, SupportsSampling)
    return cast(SupportsSampling, likelihood)


def _needs(likelihood: object, verb: str, *abilities: type) -> None:
    missing = [f"`{name}`" for name in missing_members(likelihood, *abilities)]
    if missing:
        expected = f"a likelihood with {' and '.join(missing)}, which {verb} needs"
        do = "Add what is missing, as bbb.likelihoods.Likelihood describes it."
        fail(InputError, expected, f"a {type(likelihood).__name__} without", do)


def observed(likelihood: Likelihood, y: Any, outputs: Any) -> Any:
    """Return y as `likelihood.log_prob` takes it, after a check that this returns one number for each row.

    Raises:
        ShapeError, InputError: as `as_target` of the likelihood, or for a `log_prob` that is not (rows,).
    """
    target = likelihood.as_target(y, outputs)
    if type(likelihood).__module__.startswith("bbb."):  # whose `log_prob` need not be traced once more
        return target
    if not hasattr(target, "dtype") or jnp.shape(target)[:1] != y.shape[:1]:
        got = f"shape {target.shape}" if hasattr(target, "shape") else f"a {type(target).__name__}"
        fail(ShapeError, "as_target to return the rows of y", got, "Return y in the dtype of log_prob's.")
    nats = jax.eval_shape(likelihood.log_prob, target, outputs)
    shape = getattr(nats, "shape", type(nats).__name__)
    if shape != y.shape[:1]:
        do = "Sum over the outputs of a row: nats.sum(axis=tuple(range(1, nats.ndim)))."
        fail(ShapeError, f"log_prob of shape {y.shape[:1]}, a number for each row", f"{shape}", do)
    return target


def log_prob_of_draws(likelihood: Likelihood, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return log p(y | draw) in nats of each draw and row, (draws, rows), for outputs (draws, rows, ...)."""
    if implements(likelihood, SupportsDraws):
        return likelihood.log_prob_of_draws(y, outputs)
    return jax.vmap(likelihood.log_prob, in_axes=(None, 0))(y, outputs)


def allows_missing(likelihood: object) -> bool:
    """Return whether y may hold NaN, for targets that were not observed: False where the likelihood does not say."""
    return bool(getattr(likelihood, "allows_missing", False))


def fisher_root_of(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    """Return `fisher_root(outputs)` of a likelihood, (rows, k, k), without what is missing in y, if it allows that."""
    if allows_missing(likelihood):
        return likelihood.observed_fisher_root(y, outputs)
    return likelihood.fisher_root(outputs)


def is_discrete(likelihood: object) -> bool:
    """Return whether y is a count, or 0 or 1: False where the likelihood does not say."""
    return bool(getattr(likelihood, "discrete", False))


def noise_std(likelihood: object) -> jax.Array | None:
    """Return the standard deviation of the noise; None if there is none, or it depends on the outputs."""
    std = getattr(likelihood, "std", None)
    return None if callable(std) else std
