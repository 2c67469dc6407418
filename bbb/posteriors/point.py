"""One set of weights that a sampler drew: of many of them an `Ensemble` makes a posterior."""

from typing import Any

import jax
import jax.numpy as jnp

from bbb import checks, display
from bbb.core.tree import Tree, is_none, map_present, pytree_dataclass
from bbb.errors import ShapeError, fail
from bbb.posteriors.protocol import Posterior


@pytree_dataclass(data=("drawn", "fixed"), saved=True)
class Point(display.Displayed, Posterior):
    """One set of weights, without chance.

    The draws of Markov chains are `Ensemble(Point(drawn, fixed))`, whose leaves have a leading axis of draws: see
    `bbb.mcmc`. Alone it is a point estimate, which no model can have.

    Attributes:
        drawn: the leaves that were sampled, a tree like the parameters with None in the place of the rest.
        fixed: the rest, with None in the place of what was sampled.

    Raises:
        ShapeError: if a leaf is in both trees, or in neither.
    """

    is_trainable = False

    drawn: Tree
    fixed: Tree

    def __post_init__(self) -> None:
        """Raise for two trees that do not make one."""
        try:
            twice = jax.tree.map(lambda a, b: (a is None) == (b is None), self.drawn, self.fixed, is_leaf=is_none)
        except (ValueError, TypeError):
            twice = True
        if any(jax.tree.leaves(twice)):
            do = "Pass trees of one structure, with None in the place of what the other one holds."
            got = f"{jax.tree.structure(self.drawn)} and {jax.tree.structure(self.fixed)}"
            fail(ShapeError, "every leaf in drawn or in fixed, and in one of them alone", got, do)
        checks.floating("drawn", self.drawn)

    @property
    def params(self) -> Tree:
        """The weights."""
        return jax.tree.map(lambda a, b: b if a is None else a, self.drawn, self.fixed, is_leaf=is_none)

    @property
    def is_point(self) -> bool:
        """True: nothing is random in one draw."""
        return True

    def noise(self, key: jax.Array) -> Tree:
        """Return nothing: no random number is needed."""
        del key
        return ()

    def weights(self, noise: Tree) -> Tree:
        """Return the weights themselves."""
        del noise
        return self.params

    def log_prob(self, params: Tree) -> jax.Array:
        """Return 0: as for any point estimate, there is no density."""
        return jnp.zeros((), jax.tree.leaves(self.random_leaves(params))[0].dtype)

    def random_leaves(self, params: Tree) -> Tree:
        """Return the leaves of `params`, a tree like the weights, that were sampled, with None in the others' place."""
        return map_present(lambda _, leaf: leaf, self.drawn, params)

    def with_params(self, params: Tree) -> "Point":
        """Return another point, of which the same leaves are taken to be sampled."""
        return Point(self.random_leaves(params), map_present(lambda _, leaf: leaf, self.fixed, params))

    def _table_shown(self) -> display.Table:
        return display.Table(f"Point of {sizes_shown(self)}", [])


def sizes_shown(point: Any, axes: int = 0) -> str:
    """Return how many weights of a point were sampled, in how many leaves; of leaves with leading axes."""
    drawn, fixed = jax.tree.leaves(point.drawn), jax.tree.leaves(point.fixed)
    count = [sum(display.size(leaf, axes) for leaf in leaves) for leaves in (drawn, fixed)]
    dtypes = ", ".join(dict.fromkeys(str(leaf.dtype) for leaf in drawn if hasattr(leaf, "dtype")))
    kind = f" ({dtypes})" if dtypes else ""
    rest = f", and {display.counted(count[1], 'point estimate')}" if count[1] else ""
    weights = display.counted(count[0], "weight")
    return f"{weights} in {display.counted(len(drawn), 'leaf', 'leaves')}{kind}{rest}"
