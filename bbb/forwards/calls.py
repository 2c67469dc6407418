"""What forwards share: a network, noise that one draw of the weights needs, and a call that says what does not fit."""

import abc
import dataclasses

import jax

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import BBBError
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_posterior
from bbb.tracing import purity
from bbb.tracing.network import Apply


@dataclasses.dataclass(frozen=True)
class NetworkForward(abc.ABC):
    """A forward of one network."""

    apply: Apply

    def __post_init__(self) -> None:
        """Raise for what is not a network."""
        checks.network(self.apply)

    def noise(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        """Draw the noise of one draw of the weights."""
        del x
        return posterior.noise(key)

    @abc.abstractmethod
    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> Tree:
        """Run the network, given the noise."""

    def __call__(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        """Run the network with the noise of one key.

        Raises:
            KeyTypeError, InputError, ShapeError: for a key, a posterior or an x that does not fit.
        """
        checks.key(key)
        check_posterior(posterior)
        checks.alive("x", x)
        try:
            return self.evaluate(self.noise(key, posterior, x), posterior, x)
        except BBBError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            purity.refused(error, x)
