"""Optax's optimisers: what they ask for besides the gradient, and which cannot train a Bayesian network."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from bbb import checks
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree, names
from bbb.errors import BBBError, InputError, fail

CURVATURE = (optax.ScaleByLBFGSState,)
"""States of optimisers that learn the curvature from the gradients of several steps: of one function, or of none."""


class Slope(NamedTuple):
    """What a step knows of its cost: the value, the gradient, and the cost itself, of the step's own rows and noise."""

    value: jax.Array
    gradient: Tree
    function: Callable[[Tree], jax.Array]


def init(optimizer: optax.GradientTransformation, params: Tree) -> Tree:
    """Return the state to begin with."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # whatever the user asked for
        return optimizer.init(params)


def update(optimizer: optax.GradientTransformation, slope: Slope, state: Tree, params: Tree) -> tuple[Tree, Tree]:
    """Return the parameters after a step, and the optimiser's state.

    An optimiser gets what its `update` has a name for, or all if it takes any, as `GradientTransformationExtraArgs`
    do: `value`, `grad` and `value_fn`, which are optax's own names; `grad_fn`, which `contrib.sam` calls; `obj_fn`,
    which `contrib.sophia` calls.
    """

    def value_fn(params: Tree, *, grad_fn: Any = None, obj_fn: Any = None) -> jax.Array:
        del grad_fn, obj_fn  # a line search asks its function to take all extra arguments that are left
        return slope.function(params)

    def grad_fn(params: Tree, step: Any) -> Tree:
        del step  # of the adversary: all steps are of the same rows and noise
        return jax.grad(slope.function)(params)

    extra = {"value": slope.value, "grad": slope.gradient, "value_fn": value_fn, "grad_fn": grad_fn, "obj_fn": value_fn}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # optax mixes dtypes and ranks
        updates, state = optimizer.update(slope.gradient, state, params, **_asked(optimizer, extra))
        return optax.apply_updates(params, updates), state


def _asked(optimizer: optax.GradientTransformation, extra: dict[str, Any]) -> dict[str, Any]:
    """Return those extra arguments that an optimiser's `update` takes."""
    try:
        parameters = inspect.signature(optimizer.update).parameters
    except (TypeError, ValueError):  # it has none that Python knows
        return {}
    kinds = {parameter.kind for parameter in parameters.values()}
    # A plain wrapper, update(*args, **kwargs), hands on what it gets to an update that may take none of these.
    is_wrapper = inspect.Parameter.VAR_POSITIONAL in kinds
    if inspect.Parameter.VAR_KEYWORD in kinds and (
        not is_wrapper or isinstance(optimizer, optax.GradientTransformationExtraArgs)
    ):
        return extra
    return {name: value for name, value in extra.items() if name in parameters}


def learns_curvature(optimizer: optax.GradientTransformation, params: Tree) -> bool:
    """Return whether an optimiser, such as L-BFGS, compares gradients of several steps, so that noise has to stay."""
    return bool(from_shapes(_learns_curvature, optimizer, params))


def _learns_curvature(optimizer: Any, params: Tree) -> bool:
    return bool(_states(jax.eval_shape(lambda params: init(optimizer, params), params), CURVATURE))


def _states(state: Tree, kinds: tuple[type, ...]) -> list[Any]:
    """Return the parts of an optimiser's state, however it is wrapped, that are of some kinds."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    return [leaf for leaf in leaves if isinstance(leaf, kinds)]


MIN_DRAWS = 30
"""Draws that noise must have to stay the same over all steps: of fewer, the posterior fits the noise. The number is
that of the experiments of Giordano et al. 2024, arXiv 2304.05527."""


def check_fixed(batch_size: int | None, draws: int, random: bool) -> None:
    """Check that every step is of one function: all rows, and enough draws of a `random` forward.

    Raises:
        InputError: naming the option.
    """
    why = "with an optimizer that learns the curvature from several steps, such as lbfgs"
    if batch_size is not None:
        do = "Leave batch_size out, or pass another optimizer, such as optax.adam(1e-2)."
        fail(InputError, f"all rows at every step {why}", f"batch_size={batch_size}", do)
    if random and draws < MIN_DRAWS:
        do = (
            f"Pass bbb.train.Objective(draws={MIN_DRAWS}) or more, whose noise is then the same at every step; a "
            "forward and an objective without noise; or another optimizer, such as optax.adam(1e-2)."
        )
        fail(InputError, f"at least {MIN_DRAWS} draws {why}", f"draws={draws}", do)


def check(optimizer: Any, params: Tree) -> None:
    """Check, before the first step, that an optimiser can train these parameters: both its functions are traced.

    Raises:
        InputError: if one of them fails, or the update changes the structure, a shape or a dtype of the state.
    """
    checks.has("an optimizer", optimizer, ("init", "update"), "optax.adam(1e-2)")
    checks.hashable("optimizer", optimizer)
    problem = from_shapes(_problem, optimizer, params)
    if problem is not None:
        _refuse(*problem)


def _problem(optimizer: Any, params: Tree) -> tuple[str, str, Exception | None] | None:
    """Return what is wrong with an optimiser, what to do, and the error that says so; None if nothing is."""
    try:
        state = jax.eval_shape(lambda params: init(optimizer, params), params)
    except BBBError:  # of an optimizer of this library, which says itself what it needs
        raise
    except Exception as error:  # of the user's own making
        return f"an error of its init: {_first_line(error)}", _ANOTHER, error
    if _states(state, (optax.LookaheadState,)):
        do = "Pass its fast optimizer alone."
        return "a lookahead, which trains a pair of fast and slow parameters", do, None
    if any(part.cache is not None for part in _states(state, (contrib.SAMState,))):
        do = "Pass opaque_mode=True to optax.contrib.sam."
        return "sam in transparent mode, whose parameters are the adversary's at every other step", do, None
    try:
        after = jax.eval_shape(lambda *args: _tried(optimizer, *args), params, state)
    except Exception as error:
        return f"an error of its update: {_first_line(error)}", _ANOTHER, error
    return _unstable("parameters", params, after[0]) or _unstable("state", state, after[1])


_ANOTHER = (
    "fit passes update(gradient, state, parameters) and, by name, value, grad, value_fn, grad_fn and obj_fn to an "
    "optimizer that takes them. Pass another, such as optax.adam(1e-2)."
)


def _tried(optimizer: Any, params: Tree, state: Tree) -> tuple[Tree, Tree]:
    """Do an update of a cost that depends on every parameter."""

    def cost(params: Tree) -> jax.Array:
        dtype = jnp.result_type(float)
        return sum((jnp.sum(jnp.square(leaf)).astype(dtype) for leaf in jax.tree.leaves(params)), jnp.zeros((), dtype))

    value, gradient = jax.value_and_grad(cost)(params)
    return update(optimizer, Slope(value, gradient, cost), state, params)


def _unstable(what: str, before: Tree, after: Tree) -> tuple[str, str, None] | None:
    """Return what is wrong with an update that does not return what it was given."""
    do = "Make update return a state of the structure, the shapes and the dtypes of what init returns."
    structures: list[Any] = [jax.tree.structure(tree) for tree in (before, after)]
    if structures[0] != structures[1]:
        return f"one whose update changes the structure of the {what}", do, None
    for path, old, new in zip(names(before), jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            was, now = (f"{leaf.dtype}{list(leaf.shape)}" for leaf in (old, new))
            return f"one whose update turns the {what} '{path}' from {was} into {now}", do, None
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _refuse(got: str, do: str, error: Exception | None) -> NoReturn:
    raise InputError(
        f"Expected an optimizer that trains one tree of parameters by its gradient, got {got}. {do}"
    ) from error
