"""The call of a forward, and the errors that it raises."""

from typing import TYPE_CHECKING

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import BBBError
from bbb.posteriors.verbs import check_posterior
from bbb.tracing import purity

if TYPE_CHECKING:
    from bbb.forwards.linearization import Linearized
    from bbb.forwards.mean import AtMean
    from bbb.forwards.rowwise import RowSampling
    from bbb.forwards.sampling import WeightSampling


def called_with(
    forward: "WeightSampling | Linearized | RowSampling | AtMean", key: Tree, posterior: Tree, x: Tree
) -> Tree:
    """Run a network with random weights, or say what does not fit it."""
    checks.key(key)
    check_posterior(posterior)
    checks.alive("x", x)
    try:
        return forward.evaluate(forward.noise(key, posterior, x), posterior, x)
    except BBBError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        purity.refused(error, x)
