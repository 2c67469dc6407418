"""What the scores take of `bbb.predict`, and the checks of it."""

from typing import Any, NoReturn, TypedDict

import jax
from jax.sharding import Mesh

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, ShapeError, fail
from bbb.model import BNN, check_model
from bbb.predictive.api import checked_options


class Options(TypedDict, total=False):
    """Options of `bbb.predict`, with the same meaning and defaults; all may be left out.

    Attributes:
        method: "draws"; or "moments", the closed form, which is exact for a linearised model of one Gaussian posterior
            and the default there, as in `predict`.
        draws: how many draws of the weights, 10,000 unless given.
        sampling: "independent" or "antithetic".
        rows: "apart" or "together".
        memory: bound on the working memory, in bytes or such as "512MB".
        mesh: devices to spread draws and rows over.
        partition: of parameters too large for one device.
    """

    method: str | None
    draws: int
    sampling: str
    rows: str
    memory: int | str
    mesh: Mesh | None
    partition: Tree


DEFAULTS: Options = {
    "method": None,
    "draws": 10_000,
    "sampling": "independent",
    "rows": "apart",
    "memory": "512MB",
    "mesh": None,
    "partition": None,
}


def checked(verb: str, key: jax.Array, model: BNN, x: Any, options: Any) -> Options:
    """Check what every score takes, before any draw, and return all the options.

    Raises:
        KeyTypeError, InputError: for a key, a model or an option that does not fit.
    """
    checks.outside(verb, "model.forward", key=key, model=model, x=x)
    checks.key(key)
    one_output(verb, model)
    for name in options:
        if name not in DEFAULTS:
            fail(InputError, f"options of {verb}", repr(name), f"Pass some of {', '.join(DEFAULTS)}.")
    given: Any = DEFAULTS | options
    given["draws"] = checks.positive_integer("draws", given["draws"])
    checks.memory(given["memory"])
    about_draws = {name: value for name, value in given.items() if name != "memory"}
    _, given["method"] = checked_options(model, tolerance=None, levels=(), quantiles=(), **about_draws)
    if given["method"] == "last_layer" or (given["method"] == "moments" and model.members > 1):
        several = f" of {model.members} members" if given["method"] == "moments" else ""
        do = 'Pass method="draws", or one member, model.member(k).' if several else 'Pass method="draws".'
        fail(InputError, f"draws, or moments of one posterior, for {verb}", f"{given['method']!r}{several}", do)
    return given


def one_output(verb: str, model: BNN) -> None:
    """Raise for what is no model, or a model of a network that returns a tree.

    Raises:
        InputError: saying which model to pass.
    """
    check_model(model)
    if model.joint is not None:
        do = f"Pass one of them, such as model.head({model.joint.paths[0]!r})."
        fail(InputError, f"a model of one output for {verb}", f"one of {len(model.joint.paths)}", do)


def refuse_columns(verb: str, columns: int) -> NoReturn:
    """Raise the ShapeError of a score that is about one number a row."""
    do = "Pass a model of one of them, or draws of your own: bbb.draws has those of all."
    fail(ShapeError, f"a model of one number a row for {verb}", f"{columns} a row", do)
