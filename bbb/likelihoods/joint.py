"""The likelihood of several outputs, each with a likelihood of its own."""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax

from bbb.core.ability import implements
from bbb.core.tree import Tree, pytree_dataclass
from bbb.errors import InputError, ShapeError, fail
from bbb.likelihoods.protocol import Likelihood, SupportsTrainingCheck, check_likelihood, observed


@pytree_dataclass(data=("parts",))
class Joint:
    """The likelihood of a network that returns a tree of arrays, such as a price and the logits of a kind.

    Outputs are independent given the weights: log p(y | outputs) is the sum of the parts'. y is a tree like the
    outputs. `bayesianize` makes one of a dict or a tuple of likelihoods::

        model = bbb.bayesianize(
            apply, params, prior=bbb.priors.Normal(),
            likelihood={"price": bbb.likelihoods.Gaussian(learn=True), "kind": bbb.likelihoods.Categorical()},
        )
        model, history = bbb.fit(key, model, x, {"price": price, "kind": kind})
        bbb.predict(key, model, x)["kind"].y.probabilities

    What is not about all of them is asked of one: `model.head("price")` is a model of that output.

    Attributes:
        parts: a tree of likelihoods, like the tree of the outputs.

    Raises:
        InputError: if there is no part, or one is not a likelihood.

    Example:
        >>> import bbb
        >>> parts = {
        ...     "price": bbb.likelihoods.Gaussian(0.5, learn=True),
        ...     "kind": bbb.likelihoods.Categorical(),
        ... }
        >>> sorted(bbb.likelihoods.Joint(parts).parts)
        ['kind', 'price']
    """

    parts: Tree

    def __init__(self, parts: Tree) -> None:
        object.__setattr__(self, "parts", parts)
        each = self._split(parts)
        if not each:
            do = 'Pass for example {"price": bbb.likelihoods.Gaussian(), "kind": bbb.likelihoods.Categorical()}.'
            fail(InputError, "at least one likelihood", "none", do)
        for part in each:
            check_likelihood(part)

    @property
    def learn(self) -> bool:
        """Whether `fit` trains parameters of any part."""
        return any(part.learn for part in self._split(self.parts))

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of each part, such as "price"."""
        found, _ = jax.tree_util.tree_flatten_with_path(self.parts, is_leaf=_is_likelihood)
        return tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found)

    @property
    def structure(self) -> Any:
        """The structure of the tree of parts."""
        return jax.tree.structure(self.parts, is_leaf=_is_likelihood)

    def as_target(self, y: Tree, outputs: Tree) -> Tree:
        """Return y as the parts' `log_prob` takes it.

        Raises:
            ShapeError: if y or the outputs are not a tree like the parts.
            InputError, ShapeError: as `as_target` of a part.
        """
        ys, outs = self.like("y", y), self.like("the network's outputs", outputs)
        found = [observed(part, *pair) for part, *pair in zip(self._split(self.parts), ys, outs, strict=True)]
        return jax.tree.unflatten(self.structure, found)

    def log_prob(self, y: Tree, outputs: Tree) -> jax.Array:
        """Return log p(y | outputs) in nats, summed over the parts: (rows,)."""

        def of_part(part: Likelihood, y: jax.Array, outputs: jax.Array) -> jax.Array:
            held = part if part.learn else lax.stop_gradient(part)
            return held.log_prob(y, outputs)

        every = map(of_part, self._split(self.parts), self._split(y), self._split(outputs))
        return functools.reduce(operator.add, every)

    def check_training(self, y: Tree) -> None:
        """Raise if nothing can be learned from a part's y.

        Raises:
            InputError: as `check_training` of a part.
        """
        for part, own in zip(self._split(self.parts), self._split(y), strict=True):
            if implements(part, SupportsTrainingCheck):
                part.check_training(own)

    def _split(self, tree: Tree) -> list[Any]:
        """Return what is in the places of the parts."""
        return self.structure.flatten_up_to(tree)

    def like(self, name: str, tree: Tree) -> list[Any]:
        """Return what is in the places of the parts of a tree like theirs.

        Raises:
            ShapeError: for another tree.
        """
        try:
            return self._split(tree)
        except (TypeError, ValueError, KeyError) as error:
            listed = ", ".join(self.paths)
            raise ShapeError(
                f"Expected {name} to be a tree like that of the likelihoods, of {listed}, "
                f"got {jax.tree.structure(tree)}. Pass and return the same tree."
            ) from error


def as_likelihood(given: Any) -> Any:
    """Return a dict or a tuple of likelihoods as one `Joint`; anything else as it is."""
    is_plain = isinstance(given, Mapping) or type(given) is tuple
    return Joint(dict(given) if isinstance(given, Mapping) else given) if is_plain else given


def head_of(apply: Callable[..., Tree], joint: Joint, path: str) -> tuple["Head", Any]:
    """Return the network of one output, and its likelihood.

    Raises:
        InputError: for a path that is none.
    """
    if path not in joint.paths:
        do = "Pass one of them."
        fail(InputError, f"an output among {', '.join(joint.paths)}", repr(path), do)
    at = joint.paths.index(path)
    return Head(apply, joint.structure, at), joint.structure.flatten_up_to(joint.parts)[at]


class Head:
    """A network of several outputs as one of a single output; equal to another of the same network and output."""

    def __init__(self, apply: Callable[..., Tree], structure: Any, at: int) -> None:
        self._apply, self._structure, self._at = apply, structure, at

    def __call__(self, params: Tree, x: Tree) -> jax.Array:
        """Return the output, (rows, ...)."""
        return self._structure.flatten_up_to(self._apply(params, x))[self._at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Head) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self._apply, self._structure, self._at))


def _is_likelihood(value: Any) -> bool:
    return hasattr(value, "log_prob")
