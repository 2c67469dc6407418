"""What is said of a state dict that does not fit a network: the names under which it would, if there are any."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from bbb.errors import InputError, fail
from bbb.torch_states.formats import Format
from bbb.torch_states.slots import Slot, prefix_of

_ALIKE = "Build the network of one layer for each module, of the same kind and options."


def misfit(expected: str, got: str, places: Sequence[Slot], arrays: Mapping[str, Any], form: Format) -> NoReturn:
    """Raise an InputError that names the modules under which the state dict would fit, if there are any."""
    layers, modules = [slot for slot in places if slot.shapes], _modules(arrays, form)
    fitting = _fitting(layers, modules)
    if fitting is not None and [prefix_of(name) for name in fitting] != [slot.prefix for slot in layers]:
        pairs = ", ".join(f"{slot} = '{name}'" for slot, name in zip(layers, fitting, strict=True))
        do = f"Its modules fit the layers as {pairs}. If they are used in this order, pass names={tuple(fitting)}."
    elif not modules or any(prefix_of(name) == slot.prefix for slot in layers for name in modules):
        do = _ALIKE
    else:
        theirs = "; ".join(f"'{name}': {_of_shapes(shapes)}" for name, shapes in modules.items())
        ours = "; ".join(f"{slot}: {_of_shapes(slot.shapes)}" for slot in layers)
        do = f"Its modules are {theirs}. The network's layers with arrays are {ours}. {_ALIKE}"
    fail(InputError, expected, got, do)


def listed(names: Sequence[str]) -> str:
    """Return the first six names in quotes, and how many more there are."""
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(f"'{name}'" for name in names[:6]) + more


def _modules(arrays: Mapping[str, Any], form: Format) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the modules of a state dict in order, each with the shapes of its arrays."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, value in arrays.items():
        module, name = form.parsed(key)
        found.setdefault(module, {})[name] = tuple(getattr(value, "shape", ()))
    return found


def _fitting(layers: list[Slot], modules: Mapping[str, dict[str, tuple[int, ...]]]) -> list[str] | None:
    """Pair each layer with the first unused module of its shapes; return None unless all modules are used."""
    left = dict(modules)
    found = []
    for slot in layers:
        name = next((name for name, shapes in left.items() if shapes == slot.shapes), None)
        if name is None:
            return None
        found.append(name)
        del left[name]
    return None if left else found


def _of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
