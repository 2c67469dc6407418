"""The Bayesian neural network: a network, a posterior over its weights, a prior and a likelihood.

A network is a function `apply(params, x) -> outputs`. One that behaves otherwise in training, such as one with batch
normalisation or dropout, is an object that has besides

    train(params, x, key) -> (outputs, updates)    updates: a tree like params, None where nothing changes
    state(params) -> tree of bools                 True for leaves that only these updates change, such as statistics

and `fit` uses them; without `state`, no leaf is one. State may be integers. Everything else calls `apply`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from types import MethodType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from bbb import _check, _display, adapters
from bbb._members import PerMember
from bbb._posterior_protocol import Posterior
from bbb._tree import Tree, broadcast_prefix, is_floating, names, noun, widest_dtype
from bbb.forward import Apply
from bbb.likelihood import Likelihood, check_likelihood
from bbb.posterior import GaussianPosterior, MeanField, check_random
from bbb.prior import AnyPrior, Prior, check_fits, check_prior


@noun(data=("posterior", "prior", "likelihood"), static=("apply",))
class BNN(_display.Displayed):
    """A Bayesian neural network, as `bayesianize` makes it; a pytree.

    Attributes:
        apply: the network, `apply(params, x) -> outputs`.
        posterior: the distribution over its parameters, such as a `MeanField`, or an `Ensemble` of several.
        prior: what the parameters were believed to be before the data.
        likelihood: what an observation looks like, given outputs.
    """

    apply: Apply
    posterior: Posterior
    prior: Prior
    likelihood: Likelihood

    @property
    def members(self) -> int:
        """How many posteriors it holds: those of `fit(..., restarts=K)`, else 1."""
        return self.posterior.components

    def member(self, k: int) -> "BNN":
        """Return the model of one posterior of several, with the noise it learned.

        Raises:
            InputError: if there is no such member.
        """
        if not isinstance(k, int | np.integer) or not 0 <= k < self.members:
            _check.fail(_check.InputError, f"a member from 0 to {self.members - 1}", f"{k!r}", "Pass one of them.")
        if not self.posterior.is_mixture:
            return self
        likelihood: Any = self.likelihood
        if isinstance(likelihood, PerMember):
            likelihood = likelihood.of_member(k)
        return dataclasses.replace(self, posterior=self.posterior.component(k), likelihood=likelihood)

    def _table_shown(self) -> _display.Table:
        parts = (("posterior", self.posterior), ("prior", self.prior), ("likelihood", self.likelihood))
        rows = [("network", _display.network(self.apply)), *((name, _display.part(value)) for name, value in parts)]
        return _display.Table("BNN, a Bayesian neural network", rows)


INITIAL_STD = 0.02
"""The standard deviation a posterior starts with, unless told: small, so that training starts as that of the plain
network does, yet within reach of 1 in a few hundred Adam steps of 0.01 on its logarithm."""


Where = Callable[[str, Any], bool] | str | Iterable[str] | Tree
"""Which leaves become Bayesian: see `bayesianize`."""


def bayesianize(
    apply: Any,
    params: Tree = None,
    *,
    prior: AnyPrior,
    likelihood: Likelihood,
    std: Tree = INITIAL_STD,
    where: Where | None = None,
    posterior: Callable[[Tree, Tree, Tree], GaussianPosterior] = MeanField.around,
) -> BNN:
    """Return a Bayesian network: the parameters of a network as Gaussians, centred on `params`.

    Args:
        apply: the network, `apply(params, x) -> outputs`; x and outputs have one leading row axis. Or another
            library's own object: a flax.linen module, a flax.nnx or equinox model, or what `haiku.transform` gave (see
            `bbb.adapters`, which also has their options).
        params: its parameters, any tree of floating-point arrays; for linen the variables, for haiku the params or
            (params, state), for equinox the state if there is one, for nnx nothing.
        prior: such as `bbb.prior.Normal(0.0, 1.0)`.
        likelihood: such as `bbb.likelihood.Gaussian(std=0.5, learn=True)`.
        std: the posterior's standard deviations at the start: a number, or a tree that is a prefix of `params`.
        where: which leaves become Bayesian, by default all; the others stay point estimates, which are trained, but
            have no Gaussian. One or several glob patterns for the leaf's path or the end of it ("kernel",
            "Dense_1/*"); a function of a path and its leaf; or a tree of bools that is a prefix of `params`. A
            network's state, such as running statistics, is never among them.
        posterior: makes the posterior of the parameters, the std and a tree of bools, such as the default
            `MeanField.around`.

    Raises:
        InputError: if a parameter is not floating point or not finite, is of float16 or was deleted, a std is not
            positive, or `where` picks nothing.
        ShapeError: if `std`, `where` or a tree of the prior is not a prefix of `params`.
    """
    _check.process()
    apply, params = adapters.network(apply, params) or (apply, params)
    _check.network(apply)
    check_prior(prior)
    check_likelihood(likelihood)
    for name, part in (("the prior", prior), ("the likelihood", likelihood)):
        _check.alive(name, part)
    apply = by_value(apply)
    _check.hashable("apply", apply)
    _check.function("posterior", posterior, "Pass for example bbb.MeanField.around.")
    _refuse_hidden_state(apply, params)
    state = state_of(apply, params)
    _check.parameters("params", params, state)
    start = posterior(params, std, _picked(where, params, state))
    check_random(start, "a model")
    check_fits(prior, start)
    dtype = widest_dtype(start.params)
    model = BNN(apply, start, _floats(prior, dtype), _floats(likelihood, dtype))
    check_numbers(model)
    return model


@dataclasses.dataclass(frozen=True, repr=False)
class Method:
    """A bound method that compares by the value of its object.

    Python compares bound methods by the identity of their objects, so that two equal networks would compile twice.
    """

    owner: Any
    function: Callable[..., jax.Array]

    def __call__(self, params: Tree, x: jax.Array) -> jax.Array:
        """Return the network's outputs."""
        return self.function(self.owner, params, x)

    def __repr__(self) -> str:
        return _display.network(self.owner)

    @property
    def train(self) -> Any:
        """The network in training mode, if its object has one: see the head of this module."""
        return self._of_network("train")

    @property
    def state(self) -> Any:
        """What says which leaves are state, likewise."""
        return self._of_network("state")

    def _of_network(self, name: str) -> Any:
        if not (callable(getattr(self.owner, "train", None)) and callable(getattr(self.owner, "state", None))):
            raise AttributeError(f"{type(self.owner).__name__} has no training mode")
        return getattr(self.owner, name)


def by_value(apply: Apply) -> Apply:
    """Return a bound method of an object that compares by value as one that does too; other networks as they are."""
    if not isinstance(apply, MethodType) or type(apply.__self__).__hash__ in (None, object.__hash__):
        return apply
    try:
        hash(apply.__self__)
    except TypeError:  # it holds something that has no hash, such as an array
        return apply
    return Method(apply.__self__, apply.__func__)


def state_of(apply: Any, params: Tree) -> Tree:
    """Return which leaves of `params` are the network's state: a tree of bools like it."""
    nothing = jax.tree.map(lambda _: False, params)
    if not hasattr(apply, "state"):
        return nothing
    state = apply.state(params)
    _check.fits("state(params)", state, "params", nothing)
    return state


def _refuse_hidden_state(apply: Any, params: Tree) -> None:
    """Raise for a wrapped network whose state the wrapper hides: it would be taken for weights."""
    inner: Any = by_value(getattr(apply, "__wrapped__", apply))
    if not hasattr(apply, "state") and hasattr(inner, "state") and any(jax.tree.leaves(state_of(inner, params))):
        _check.fail(
            _check.InputError,
            "a network whose state and training mode can be seen",
            "one inside a wrapper such as jax.jit, which hides them",
            "Pass the network's own apply: `fit` and `predict` compile it themselves.",
        )


def _picked(where: Where | None, params: Tree, state: Tree) -> Tree:
    """Return which leaves become Bayesian: a tree of bools like `params`."""
    leaves, structure = jax.tree.flatten(params)
    paths, fixed = names(params), jax.tree.leaves(state)
    free = [path for path, is_state in zip(paths, fixed, strict=True) if not is_state]
    if where is None:
        picked = [True] * len(leaves)
    elif callable(where):
        picked = [path in free and bool(where(path, leaf)) for path, leaf in zip(paths, leaves, strict=True)]
    elif _is_patterns(where):
        patterns = [where] if isinstance(where, str) else list(where)
        for pattern in patterns:
            if not any(_matches(path, pattern) for path in free):
                _check.picks_nothing(f"the pattern '{pattern}' of where", free)
        picked = [any(_matches(path, pattern) for pattern in patterns) for path in paths]
    else:
        picked = _bools(where, params)
    chosen = [pick and not is_state for pick, is_state in zip(picked, fixed, strict=True)]
    if not any(chosen):
        _check.picks_nothing("where", free)
    return jax.tree.unflatten(structure, chosen)


def _is_patterns(where: Any) -> bool:
    several = isinstance(where, list | tuple | set | frozenset) and len(where) > 0
    return isinstance(where, str) or (several and all(isinstance(pattern, str) for pattern in where))


def _matches(path: str, pattern: str) -> bool:
    """Return whether a glob pattern, whose * stands for any characters, matches a path from a part of it to its end."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")


def _bools(where: Tree, params: Tree) -> list[bool]:
    try:
        full = jax.tree.leaves(broadcast_prefix(where, params))
    except (ValueError, TypeError) as error:
        raise _check.ShapeError(
            "Expected where to be a pattern, a function of a path and a leaf, or a tree of bools that is a prefix of "
            f"the parameters', got {jax.tree.structure(where)} for {jax.tree.structure(params)}. "
            'Pass for example where="*/kernel".'
        ) from error
    for leaf in full:
        if not isinstance(leaf, bool | np.bool_):
            _check.fail(
                _check.InputError,
                "every leaf of where to be a bool",
                f"a {type(leaf).__name__}",
                'Pass True or False for each, or a pattern such as "*/kernel".',
            )
    return [bool(leaf) for leaf in full]


def rows_for(model: BNN, name: str, value: ArrayLike) -> jax.Array:
    """Check a model and rows of data, and bring floating-point ones to the dtype of the model's weights."""
    check_model(model)
    array = _check.rows(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return jax.device_put(_whole(name, array))
    dtype = widest_dtype(model.posterior.params)
    with np.errstate(over="ignore"):  # what overflows is refused below, by name
        cast = array.astype(dtype)  # by NumPy where it can: JAX would compile a program for every number of rows
    _check.rows(f"{name} in {dtype}", cast)  # a number may be finite in float64 and infinite in float32
    return jax.device_put(cast)  # unlike jnp.asarray, compiles nothing


def check_model(model: Any) -> None:
    """Raise for what is not a `BNN`, or one in which nothing is random."""
    _check.process()
    _check.is_a("model", model, BNN, "Pass what bbb.bayesianize or bbb.fit gave.")
    _check.alive("model", model)
    check_random(model.posterior, "a model")


def check_numbers(model: BNN) -> None:
    """Raise for finite numbers that lead to infinities, in the dtype that is used: what no reader may accept either.

    A mean, and a standard deviation, must have a square; a standard deviation must not be 0, and a variance that a
    network keeps not be negative. Tracers pass.

    Raises:
        InputError: naming the leaf.
    """
    for path, leaf in zip(names(model), jax.tree.leaves(model), strict=True):
        if isinstance(leaf, jax.core.Tracer) or not is_floating(leaf) or not leaf.size:
            continue
        part, *inner = path.split("/")
        array = np.asarray(leaf)  # JAX would compile a program for each shape
        lowest, highest = float(np.min(array)), float(np.max(array))
        limits, root = jnp.finfo(leaf.dtype), math.sqrt(float(jnp.finfo(leaf.dtype).max))
        least, most = -math.inf, math.inf
        if part == "posterior" and inner[model.posterior.is_mixture] in model.posterior.logarithms:
            least, most = math.log(float(limits.smallest_subnormal)), math.log(root)
        elif part == "posterior":
            least, most = (0.0 if inner[-1] == "running_var" else -root), root
        elif part == "likelihood" and inner and inner[-1] in _LOGARITHMS:
            least, most = math.log(float(limits.smallest_subnormal)), math.log(root)
        if not (least <= lowest and highest <= most):
            bad = lowest if lowest < least else highest
            do = "It leads to infinities or zeros: train the model again with data and a start of moderate size."
            _check.fail(_check.InputError, f"'{path}' to be from {least:.4g} to {most:.4g}", f"{bad:g}", do)


_LOGARITHMS = ("log_std", "log_scale", "log_df_above_2", "log_dispersion")
"""What likelihoods of the library hold the logarithm of."""


def _whole(name: str, array: Any) -> Any:
    """Raise for whole numbers that the dtype JAX would bring them to cannot hold."""
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    limits = jnp.iinfo(dtype)
    wrong = array[(array < limits.min) | (array > limits.max)]
    if len(wrong):
        do = f"Pass {name}.astype(float), or call jax.config.update('jax_enable_x64', True) first."
        _check.fail(_check.InputError, f"{name} in {dtype} to hold whole numbers from {limits.min}", f"{wrong[0]}", do)
    return array.astype(dtype)


def _floats(tree: Tree, dtype: DTypeLike) -> Tree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
