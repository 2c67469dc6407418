"""The likelihood of targets some of which are missing: NaN in y."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.ability import implements
from bbb.core.tree import pytree_dataclass
from bbb.errors import InputError, fail
from bbb.likelihoods.joint import Joint
from bbb.likelihoods.per_member import PerMember
from bbb.likelihoods.protocol import Likelihood, SupportsClasses, SupportsTrainingCheck, check_likelihood, observed

NOT_PASSED_ON = ("likelihood", "log_density", "expected_log_prob", "expected_log_density")
"""Attributes of the likelihood that are not passed on: such methods would be given NaN, or are those below."""


@pytree_dataclass(data=("likelihood",), saved=True)
class PartiallyObserved:
    """A likelihood of targets that may be missing, as NaN in y: what was not observed says nothing.

    `fit` then takes y with NaN, and so does whatever else takes a model and its data::

        likelihood = bbb.likelihoods.PartiallyObserved(bbb.likelihoods.Gaussian([0.5, 0.1], learn=True))
        model = bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(), likelihood=likelihood)
        model, history = bbb.fit(key, model, x, np.where(was_measured, y, np.nan))

    Of a likelihood with a `log_density` of each element (Gaussian, StudentT, Poisson, Bernoulli, ...) a missing output
    drops out of its row, and the others count. Of others, such as `Categorical`, the row drops out, whose class is then
    passed as a float. What drops out has a log-probability and a gradient of exactly 0, whatever the network says
    there. That is the marginal likelihood of what was observed, and right if whether a target is missing does not
    depend on its value, given x (missing at random).

    The bound still counts all rows: those without any target are rows whose log-probability is 0, so that minibatches
    have no bias. Predictions are those of the likelihood itself, at all outputs.

    Args:
        likelihood: of complete targets; 0 has to be an observation that it takes.

    Raises:
        InputError: for what is not a likelihood, or one of several members, or of missing targets already.

    Source: Rubin 1976, "Inference and missing data", Biometrika 63, 581.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> likelihood = bbb.likelihoods.PartiallyObserved(bbb.likelihoods.Gaussian())
        >>> y, outputs = jnp.array([[1.0, jnp.nan]]), jnp.array([[1.0, 5.0]])
        >>> round(float(likelihood.log_prob(y, outputs)[0]), 2)  # of the first alone
        -0.92
    """

    likelihood: Any

    def __init__(self, likelihood: Likelihood) -> None:
        check_likelihood(likelihood)
        if isinstance(likelihood, PerMember | PartiallyObserved | Joint):
            got = f"a {type(likelihood).__name__}"
            do = "Pass for example bbb.likelihoods.Gaussian(0.5); of several outputs, wrap each that may be missing."
            fail(InputError, "a likelihood of complete targets of one output", got, do)
        object.__setattr__(self, "likelihood", likelihood)

    def __getattr__(self, name: str) -> Any:
        if name == "expected_log_prob" and hasattr(self.likelihood, "expected_log_density"):
            return self._expected_log_prob
        if name.startswith("_") or name in NOT_PASSED_ON:
            raise AttributeError(name)
        return getattr(self.likelihood, name)

    @property
    def learn(self) -> bool:
        """Whether `fit` trains the parameters of the likelihood."""
        return bool(self.likelihood.learn)

    @property
    def allows_missing(self) -> bool:
        """True: y may hold NaN."""
        return True

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype of the outputs, with NaN for what is missing.

        Raises:
            ShapeError, InputError: as the likelihood, for what is not missing.
        """
        missing = jnp.isnan(y)
        target = observed(self.likelihood, self._complete(y, missing), outputs)
        if jnp.issubdtype(target.dtype, jnp.integer) and outputs.shape[-1] > 2 / jnp.finfo(outputs.dtype).eps:
            do = "Keep the weights in float32."
            fail(InputError, "a dtype of the weights that holds every class", f"{outputs.dtype}", do)
        return jnp.where(missing, jnp.nan, target.astype(outputs.dtype))

    def check_training(self, y: jax.Array) -> None:
        """Raise if every target is missing, or the likelihood cannot learn from the others.

        Raises:
            InputError: saying what is lacking.
        """
        missing = np.isnan(y)
        if missing.all():
            fail(InputError, "a target that is not missing, in y", "NaN alone", "Pass rows with targets.")
        if implements(self.likelihood, SupportsTrainingCheck):
            first = np.argmin(missing, axis=0, keepdims=True)  # of each output the first that was observed
            stand_in = np.nan_to_num(np.take_along_axis(np.asarray(y), first, axis=0))
            self.likelihood.check_training(self._typed(jnp.asarray(np.where(missing, stand_in, y))))

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log p(y | outputs) in nats, (rows,): of what is not missing.

        Raises:
            ShapeError, InputError: as `as_target`.
        """
        y = self.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape, outputs.dtype))
        missing = self._dropped(y)
        nats = self.likelihood.log_density if self._is_elementwise else self.likelihood.log_prob
        return self._summed(missing, nats, self._complete(y, missing), _without(missing, outputs))

    def complete(self, y: jax.Array) -> jax.Array:
        """Return y with 0 where it is missing, as the likelihood takes it."""
        return self._complete(y, self._dropped(y))

    def observed_rows(self, y: jax.Array) -> jax.Array:
        """Return which rows have any target, (rows,), True or False."""
        missing = self._dropped(y)
        return ~jnp.all(missing, axis=tuple(range(1, missing.ndim)))

    def observed_fisher_root(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return the root of the Fisher information about the outputs of what is not missing in y, (rows, k, k).

        It is the likelihood's, with rows of 0 for the outputs of what is missing: targets are independent given them.
        """
        root: Any = self.likelihood.fisher_root(outputs)
        counts = _without(self._dropped(y), jnp.ones_like(outputs)).reshape(*root.shape[:2], 1)
        return jnp.where(counts > 0, root, 0)

    def _expected_log_prob(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Return E[log p(y | f)] of each row in nats, (rows,), of what is not missing, for outputs of such moments."""
        y = self.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(mean.shape, mean.dtype))
        missing = self._dropped(y)
        moments = (_without(missing, mean), _without(missing, variance))
        return self._summed(missing, self.likelihood.expected_log_density, self._complete(y, missing), *moments)

    @staticmethod
    def _summed(missing: jax.Array, nats: Any, *args: jax.Array) -> jax.Array:
        """Return the nats of elements or rows, 0 where they are missing, summed over each row."""
        kept = jnp.where(missing, 0, nats(*args))
        return jnp.sum(kept, axis=tuple(range(1, kept.ndim)))

    @property
    def _is_elementwise(self) -> bool:
        return hasattr(self.likelihood, "log_density")

    def _dropped(self, y: jax.Array) -> jax.Array:
        """Return what does not count: elements, in y's shape, or rows of which an element is missing, (rows,)."""
        missing = jnp.isnan(y)
        return missing if self._is_elementwise else jnp.any(missing, axis=tuple(range(1, missing.ndim)))

    def _complete(self, y: jax.Array, missing: jax.Array) -> jax.Array:
        """Return y with 0 where it is missing."""
        return self._typed(_without(missing, y))

    def _typed(self, y: jax.Array) -> jax.Array:
        """Return complete targets in the dtype that the likelihood takes: classes as whole numbers.

        Raises:
            InputError: for classes that are not whole.
        """
        if self._is_elementwise or not implements(self.likelihood, SupportsClasses):
            return y
        if not isinstance(y, jax.core.Tracer) and (wrong := np.asarray(y)[np.asarray(y) != np.round(y)]).size:
            fail(InputError, "whole numbers or NaN in y", f"{wrong[0]:g}", "Number the classes from 0.")
        return y.astype(jnp.int32)


def _without(missing: jax.Array, values: jax.Array) -> jax.Array:
    """Return values of rows with 0 where they are missing, so that no gradient passes there, not even of an infinity.

    Outputs of several numbers for each target, such as means followed by logarithms of stds, are missing together.
    """
    if missing.ndim == values.ndim and missing.shape != values.shape:
        missing = jnp.concatenate([missing] * (values.shape[-1] // missing.shape[-1]), axis=-1)
    missing = missing.reshape(*missing.shape, *(1,) * (values.ndim - missing.ndim))
    return jnp.where(missing, 0, values)
