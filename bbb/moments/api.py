"""Networks with the weights integrated out: `moments(apply)(posterior, x) -> (mean, variance)`, without draws.

The network is traced, and evaluated on values that are known by their first two moments, of two kinds:

    Random        a mean and a variance for each element: a weight, a pre-activation, an activation
    Elementwise   g(z) for a Random z: kept as a function, so that z·sigmoid(z) is one function of one z, until an
                  operation that is not elementwise reads it

The moments of products and sums of independent values are exact, and so are those of g(z) for a Gaussian z. Where a
network needs more than that, values are assumed to be independent or Gaussian, and carry an `Assumption` that says so.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import NonFiniteOutputError, fail
from bbb.moments.rules import MomentRules
from bbb.moments.run import integrated_moments, is_large, output_facts
from bbb.moments.values import Assumption, MeanVariance
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import independent
from bbb.tracing.network import Apply


class Exactness(NamedTuple):
    """Whether moments are exact (up to rounding and quadrature), and the assumptions if they are not."""

    exact: bool
    assumptions: tuple[Assumption, ...]

    def __str__(self) -> str:
        if self.exact:
            return "exact"
        return "\n".join(("approximate:", *(f"- {assumption}" for assumption in self.assumptions)))


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """A network with its weights integrated out: see `moments`."""

    apply: Apply

    def __post_init__(self) -> None:
        """Check that `apply` can be a network."""
        checks.network(self.apply)

    def __call__(self, posterior: Posterior, x: jax.Array) -> MeanVariance:
        """Return the mean and the variance of the outputs at x, each of the outputs' shape.

        Raises:
            UnknownPrimitiveError: if a random value is the input of an operation without a rule.
            NonFiniteOutputError: if they are not finite, as for a network that divides by 0.
            InputError: if x is not an array of numbers, or a tree of them.
        """
        checks.arrays("x", x)
        found = self.unchecked(posterior, x)
        _check_finite(found)
        return found

    def unchecked(self, posterior: Posterior, x: Any) -> MeanVariance:
        """Compute the same without checking that it is finite, for callers that check and report it themselves."""
        posterior = independent(posterior, "moments")
        checks.alive("x", x)
        return integrated_moments(posterior, None, x, apply=self.apply, leaves=None, large=is_large(posterior, x))

    def exactness(self, posterior: Posterior, x: Tree) -> Exactness:
        """Return whether the moments are exact, and where they are not; nothing is computed."""
        posterior = independent(posterior, "moments")
        checks.arrays("x", x, also=jax.ShapeDtypeStruct)
        assumed = output_facts(MomentRules(), self.apply, posterior, x, None).assumed
        return Exactness(not assumed, assumed)


def moments(apply: Apply) -> ClosedForm:
    """Integrate out the weights of a network: `moments(apply)(posterior, x) -> (mean, variance)`.

    For networks of products, convolutions, sums and means (including average pooling), operations that move elements,
    and elementwise functions. Layer normalisation, maxima over several values (max pooling, softmax, and so attention),
    sorting, rounding, division by values that may be negative, and scans over random values raise an error that names
    the operation: use draws for those.

    Exact for a linear network of up to two layers, and for one hidden layer: with piecewise linear activations in
    closed form, with others by quadrature. For deeper networks the elements of a layer are taken as independent, and
    sums of products of random values as Gaussian. `moments(apply).exactness(posterior, x)` says which, and where.

    Raises (when called):
        UnknownPrimitiveError: if a random value is the input of an operation without a rule.
        InputError, ShapeError: if the network cannot be traced, or does not return one array.

    Source: for one hidden layer, the moments of a rectified Gaussian (Frey & Hinton 1999, Neural Comput. 11, 193) and
    of a product of independent variables; for deeper ones moment matching, as in Wu et al. 2019, arXiv 1810.03958,
    §3, with independent elements.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> found = bbb.moments.moments(model.apply)(model.posterior, task.x)
        >>> found.mean.shape, found.variance.shape
        ((20, 1), (20, 1))
    """
    return ClosedForm(apply)


def _check_finite(found: MeanVariance) -> None:
    """Check that moments are finite; tracers pass.

    Raises:
        NonFiniteOutputError: with the first row whose moments are NaN or infinite.
    """
    if isinstance(found.mean, jax.core.Tracer) or isinstance(found.variance, jax.core.Tracer):
        return
    right = np.isfinite(np.asarray(found.mean)) & np.isfinite(np.asarray(found.variance))
    if not right.all():
        row = int(np.argwhere(~right)[0][0]) if right.ndim else 0
        do = "Look there for a division by 0, a logarithm of 0, or an overflow of the dtype."
        got = f"NaN or infinity at row {row}: the network is not finite there"
        fail(NonFiniteOutputError, "finite moments of the outputs", got, do)
