"""A mixture of several posteriors in equal parts."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import jax
from jax.scipy.special import logsumexp

from bbb import display
from bbb.core.tree import Tree, pytree_dataclass
from bbb.errors import InputError, fail
from bbb.posteriors import point
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField, leaves_shown, sizes_shown
from bbb.posteriors.point import Point
from bbb.posteriors.protocol import Posterior


@pytree_dataclass(data=("members",), saved=True)
class Ensemble(display.Displayed, Posterior):
    """A mixture of several posteriors of one kind in equal parts, such as `fit(..., restarts=K)` learns.

    Or of several, each a `Point`: draws of the weights, such as `bbb.mcmc` makes, each of which is evaluated once.

    What needs one Gaussian for each weight refuses it by name: take `ensemble[k]`, or `model.member(k)`.

    Attributes:
        members: a posterior, such as a `MeanField`, whose leaves have a leading axis of members.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> how = {"steps": 20, "progress": False, "restarts": bbb.train.Restarts(2, layer.init)}
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> model.members, history.loss.shape
        (2, (20, 2))
        >>> type(model.member(0).posterior).__name__
        'MeanField'
    """

    is_mixture: ClassVar[bool] = True

    members: Posterior

    def __len__(self) -> int:
        """Return the number of members."""
        return int(jax.tree.leaves(self.members)[0].shape[0])

    def __getitem__(self, k: Any) -> Any:
        """Return member k, which may be traced.

        Raises:
            IndexError: if there is no such member, for a k that is not traced.
        """
        if not isinstance(k, jax.core.Tracer) and not -len(self) <= k < len(self):
            raise IndexError(f"Expected a member of {len(self)}, got {k}.")
        return jax.tree.map(lambda leaf: leaf[k], self.members)

    @property
    def logarithms(self) -> tuple[str, ...]:  # type: ignore[override]
        """The fields of a member that hold logarithms."""
        return self.members.logarithms

    @property
    def components(self) -> int:
        """The number of members."""
        return len(self)

    def component(self, k: Any) -> Posterior:
        """Return member k, which may be traced."""
        return self[k]

    def each(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """Return `function(member, *arrays)` of all members at once, stacked along a leading axis."""
        return jax.vmap(function)(self.members, *arrays)

    @property
    def params(self) -> Tree:
        """The parameters of the first member, whose shapes and dtypes are those of all."""
        return self[0].params

    def noise(self, key: jax.Array) -> tuple[jax.Array, Tree]:
        """Draw which member to ask, and the noise of its draw."""
        choice, key = jax.random.split(key)
        return jax.random.randint(choice, (), 0, len(self)), self[0].noise(key)

    def weights(self, noise: tuple[jax.Array, Tree]) -> Tree:
        """Return the draw of the member that was chosen."""
        k, inner = noise
        return self[k].weights(inner)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return the logarithm of the mean of the members' densities at `params`, in nats: a scalar."""
        each = self.each(lambda member: member.log_prob(params))
        return logsumexp(each) - math.log(len(self))

    def random_leaves(self, params: Tree) -> Tree:
        """Return the leaves of `params`, those of one member, that are random, with None in the others' place."""
        return self.members.random_leaves(params)

    @property
    def is_point(self) -> bool:
        """Whether nothing is random: there is one member, and it is a point."""
        return self.members.is_point and len(self) == 1

    @property
    def holds_draws(self) -> bool:
        """Whether each of several members is a point, such as a draw of `bbb.mcmc`."""
        return self.members.is_point and len(self) > 1

    def with_params(self, params: Tree) -> NoReturn:
        """Raise: each member has parameters of its own."""
        del params
        several(self, "means")

    def pruned(self, mask: Tree) -> "Ensemble":
        """Return the ensemble of the pruned members; the leaves of `mask` have a leading axis of members."""
        return Ensemble(self.each(lambda member, of_member: member.pruned(of_member), mask))

    def validate(self) -> None:
        """Raise if members are not of one number, or their parts do not fit each other."""
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(self)}
        one_kind = isinstance(self.members, GaussianPosterior | Point)
        if not one_kind or len(sizes) != 1 or not all(n for size in sizes for n in size):
            raise ValueError("an ensemble without members, or of several numbers of them")
        self[0].validate()

    @property
    def mean(self) -> NoReturn:
        """Raise: there is one for each member."""
        several(self, "means")

    @property
    def log_std(self) -> NoReturn:
        """Raise: there is one for each member."""
        several(self, "standard deviations")

    @property
    def std(self) -> NoReturn:
        """Raise: there is one for each member."""
        several(self, "standard deviations")

    def _table_shown(self) -> display.Table:
        if isinstance(self.members, Point):
            draws = display.counted(_length(self), "draw")
            return display.Table(f"{draws} of {point.sizes_shown(self.members, 1)}", [])
        title = f"Ensemble of {display.counted(_length(self), 'member')}, each {type(self.members).__name__}"
        if not isinstance(self.members, MeanField):
            return display.Table(title, [])
        return display.Table(f"{title} of {sizes_shown(self.members, 1)}", leaves_shown(self.members, 1))


def _length(ensemble: "Ensemble") -> int:
    return next((leaf.shape[0] for leaf in jax.tree.leaves(ensemble) if getattr(leaf, "shape", ())), 0)


def several(ensemble: Ensemble, what: str) -> NoReturn:
    """Raise the InputError of a question that each member would answer differently."""
    got, do = f"an ensemble of {len(ensemble)}, each with its own", "Take one of them, such as model.member(0)."
    fail(InputError, f"one posterior, to ask for its {what}", got, do)
