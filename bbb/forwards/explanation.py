"""What a forward does with each weight of a network, and why."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax.extend.core import JaxprEqn
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.tree import Tree, names
from bbb.errors import InputError, fail
from bbb.forwards.linearization import Linearized
from bbb.forwards.rowwise import RowSampling, local_reparam
from bbb.forwards.sampling import WeightSampling
from bbb.forwards.select import Forward
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_posterior
from bbb.tracing import purity
from bbb.tracing.interpreter import source_line
from bbb.tracing.network import Apply


class Route(NamedTuple):
    """How a forward treats one leaf of the parameters.

    Attributes:
        leaf: its path in the tree, such as `0/weight`.
        route: "local", "flipout", "shared draw", "point estimate" or "unused".
        reason: why; "once for each row" if each row makes a copy of the weight.
        line: where the network uses it, `file:line (function)`; empty where there is no single such place.
        each_row: "exact" if its noise makes each row what it is under `weight_sampling`; "approximate", with the size;
            "shared" if it is exact because all rows share one draw; empty where there is no noise.
    """

    leaf: str
    route: str
    reason: str
    line: str = ""
    each_row: str = ""


class Explanation(tuple[Route, ...]):
    """The routes of all leaves, in their order; its `str` is a table."""

    __slots__ = ()

    def __str__(self) -> str:
        rows = [tuple(name.replace("_", " ") for name in Route._fields), *self]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


INSTEAD = "Pass local_reparam, flipout, linearized or weight_sampling."


def explain(
    apply: Apply, posterior: Posterior, x: ArrayLike, forward: Callable[[Apply], Forward] = local_reparam
) -> Explanation:
    """Return how a forward treats each leaf of the parameters, and why; nothing is computed.

    Args:
        apply: the network.
        posterior: as for the forward; of its arrays only shapes and dtypes matter.
        x: likewise, such as one batch.
        forward: `weight_sampling`, `linearized`, `local_reparam` or `flipout`.

    Raises:
        InputError: if JAX cannot trace the network, it is not pure, or it returns anything but a tree of arrays; or
            for a forward of another kind.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> [
        ...     (route.leaf, route.route)
        ...     for route in bbb.forwards.explain(model.apply, model.posterior, task.x)
        ... ]
        [('bias', 'local'), ('weight', 'local')]
    """
    checks.network(apply)
    check_posterior(posterior)
    checks.function("forward", forward, INSTEAD)
    params = posterior.params
    purity.pure(apply, params, x)
    leaves, random_leaves = names(params), names(posterior.random_leaves(params))
    try:
        random: Any = forward(apply)
    except TypeError:  # a function of something else
        random = forward
    found = _routes(random, posterior, x, leaves)

    def route(i: int, leaf: str) -> Route:
        if leaf not in random_leaves:
            return Route(leaf, "point estimate", "has no standard deviation")
        return found.get(i, Route(leaf, "unused", "the outputs do not depend on it"))

    return Explanation(route(i, leaf) for i, leaf in enumerate(leaves))


def _routes(forward: Forward, posterior: Posterior, x: Tree, leaves: list[str]) -> dict[int, Route]:
    """Collect the routes by the place of their leaf."""
    if isinstance(forward, WeightSampling | Linearized):
        of = ", of the linearised network" if isinstance(forward, Linearized) else ""
        return {
            i: Route(leaf, "shared draw", f"one draw of the weights serves all rows{of}", "", "shared")
            for i, leaf in enumerate(leaves)
        }
    if not isinstance(forward, RowSampling):
        kind = type(forward).__name__
        fail(InputError, "a forward of bbb", f"a {kind}", INSTEAD)
    found: dict[int, Route] = {}

    def note(leaf: int, route: str, reason: str, equation: JaxprEqn | None, each_row: str) -> None:
        line = "" if equation is None else source_line(equation)
        found[leaf] = Route(leaves[leaf], route, reason, line, each_row)

    forward.follow(posterior, x, note)
    return found
