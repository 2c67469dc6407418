"""Networks of other libraries, used as they are: flax.linen, flax.nnx, equinox and haiku.

Each adapter takes the user's own object, and returns a pair for `bayesianize(*pair, ...)`:

    apply     a function of (params, x) that is hashable and compared by value, so that equal networks compile once;
              with the training mode and the state that `bbb.model` describes
    params    all arrays of the network: parameters, and state such as running statistics

`bayesianize` selects the adapter by itself; call an adapter directly to pass options. `restore` puts parameters, such
as `posterior.params` or `sample(key, posterior)`, back into the user's own kind of object.

In training mode the network gets a key for its dropout, and its state is updated; otherwise neither happens. A network
that takes its mode as an argument gets it, if the argument has one of the usual names: `train`, `training`,
`is_training`, `deterministic`, `inference`, `use_running_average`. Other arguments are passed by the options `training`
and `evaluation`, dictionaries of keyword arguments for each mode.

Each library is imported only by its own adapter.
"""

from typing import Any

from bbb import checks
from bbb.core.tree import Tree
from bbb.networks.adapters.common import Network
from bbb.networks.adapters.equinox_model import equinox, is_equinox_state
from bbb.networks.adapters.flax_linen import linen
from bbb.networks.adapters.flax_nnx import nnx
from bbb.networks.adapters.haiku_transform import haiku


def network(model: Any, params: Tree = None) -> Network | None:
    """Return the adapted network of another library's object, or None for any other object."""
    library = library_of(model)
    if library == "linen":
        return linen(model, params)
    if library == "nnx" and params is None:
        return nnx(model)
    if library == "equinox" and is_equinox_state(params):
        return equinox(model, params)
    if library == "haiku" and params is not None:
        return haiku(model, *(params if isinstance(params, tuple) else (params,)))
    return None


def library_of(model: Any) -> str | None:
    """Return the library of an object, "linen", "nnx", "equinox" or "haiku", by the module of its type; else None."""
    modules = {cls.__module__.partition("._")[0] for cls in type(model).__mro__}
    for library, package in (("linen", "flax.linen"), ("nnx", "flax.nnx"), ("equinox", "equinox")):
        if any(name.startswith(package) for name in modules):
            return library
    return "haiku" if "haiku" in modules else None


def restore(model: Any, params: Tree) -> Any:
    """Return parameters in the user's own kind of object; nothing is changed in place.

    Args:
        model: a model that `bayesianize` returned.
        params: a tree like `model.posterior.params`: these themselves, or one draw, `sample(key, model.posterior)`.

    Returns:
        For linen the variables; for nnx a new model; for equinox a new model, or (model, state) if it has a state; for
        haiku params, or (params, state); for a plain function the tree itself.

    Raises:
        ShapeError: if `params` differs from the model's parameters in structure or in a shape.
    """
    checks.has("a model", getattr(model, "posterior", model), ("random_leaves",), "bbb.bayesianize(...)")
    checks.fits("params", params, "the model", model.posterior.params)
    put_back = getattr(model.apply, "restore", None)
    return params if put_back is None else put_back(params)
