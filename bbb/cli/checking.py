"""The command that asks whether a model is right: `bbb check`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from bbb.cli.options import add_machine, add_reading, add_seed, add_unknown, command, mesh_to_draw
from bbb.cli.output import say
from bbb.decide.model_checks import (
    Audit,
    Importance,
    LeaveOneOut,
    PredictiveCheck,
    audit,
    loo,
    posterior_predictive_check,
    psis,
)
from bbb.errors import BBBError
from bbb.storage.json_text import json_text
from bbb.tables.model import TabularModel

CHECK, HELD_OUT, WEIGHTS, ROWS, CHAINS = range(1, 6)
"""What is folded into the key for the parts of the command."""


MEMORY = "2GB"
"""The bound on the working memory: for 100 replications of some million rows."""


def add_check(commands: Any) -> None:
    """Add the command `bbb check`."""
    about = (
        "ask whether a model is right: statistics of the target against what the model gives, importance weights of "
        "its posterior and rows left out (needs arviz-stats), and its band against Markov chains (--audit)"
    )
    example = "bbb check house.safetensors train.csv --held-out test.csv"
    parser = command(commands, "check", _check, about, example)
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` wrote")
    parser.add_argument("data", metavar="TRAIN.csv", help="the rows that it was trained on, with the target")
    parser.add_argument("--held-out", metavar="TEST.csv", help="also check rows that it was not trained on")
    parser.add_argument(
        "--audit", action="store_true", help="also sample the posterior by Markov chains, which may take minutes"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_reading(parser)
    add_unknown(parser)
    add_seed(parser)
    add_machine(parser, "share the draws")


def _check(arguments: argparse.Namespace) -> None:
    mesh = mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    rows = _rows(model, arguments, arguments.data)
    others = None if arguments.held_out is None else _rows(model, arguments, arguments.held_out)
    if model.learned_from not in (None, len(rows[1])):
        print(OTHERS.format(rows=len(rows[1]), learned=model.learned_from), file=sys.stderr)

    def run(function: Callable[..., Any], part: int, x: Any, y: Any, **options: Any) -> Any:
        return function(jax.random.fold_in(jax.random.key(arguments.seed), part), model.model, x, y, **options)

    how: dict[str, Any] = {"memory": MEMORY, "mesh": mesh}
    found = {"trained on": run(posterior_predictive_check, CHECK, *rows, held_out=False, **how)}
    if others is not None:
        found["held out"] = run(posterior_predictive_check, HELD_OUT, *others, held_out=True, **how)
    found["psis"] = _or_reason(partial(run, psis, WEIGHTS, *rows, **how))
    found["loo"] = _or_reason(partial(run, loo, ROWS, *rows, **how))
    if arguments.audit:
        found["audit"] = run(audit, CHAINS, *rows)
    if arguments.json:
        say(json_text({name: _described(part) for name, part in found.items()}))
        return
    say("\n".join(_text(name, part) for name, part in found.items()))


OTHERS = (
    "The model was learned from {learned:,} rows, and these are {rows:,}: others were held out, or are missing. What "
    "follows takes these for the rows that it was learned from, and may call a good posterior bad."
)
"""Said of a table that cannot be that of the training."""


def _rows(model: TabularModel, arguments: argparse.Namespace, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of a table, as the model takes them."""
    table = model.read(path, target=True, delimiter=arguments.delimiter, decimal=arguments.decimal)
    return model.inputs(table, unknown=arguments.unknown), model.observed(table)


def _or_reason(function: Callable[[], Any]) -> Any:
    """Return what a function gives, or the reason why it cannot be done."""
    try:
        return function()
    except BBBError as error:
        return str(error)


def _text(name: str, part: Any) -> str:
    return f"{name} was not looked at: {part}\n" if isinstance(part, str) else f"{part!r}\n"


def _described(part: Any) -> dict[str, Any]:
    """Return a record, or the reason why there is none, as JSON has it."""
    if isinstance(part, str):
        return {"skipped": part}
    of_kind: dict[type, Callable[[Any], dict[str, Any]]] = {
        PredictiveCheck: _of_check,
        Importance: _of_weights,
        LeaveOneOut: _of_rows,
        Audit: _of_audit,
    }
    return of_kind[type(part)](part)


def _of_check(found: PredictiveCheck) -> dict[str, Any]:
    values = zip(found.names, found.observed, found.replicated.T, found.upper, found.p_values, strict=True)
    statistics = {
        name: {
            "observed": float(observed),
            "mean": float(np.mean(made)),
            "std": float(np.std(made)),
            "upper": float(upper),
            "p_value": float(p),
        }
        for name, observed, made, upper, p in values
    }
    return {"statistics": statistics, "problems": list(found.problems)}


def _of_weights(found: Importance) -> dict[str, Any]:
    numbers = {name: _finite(getattr(found, name)) for name in ("k_hat", "ess", "log_evidence")}
    return numbers | {"draws": found.draws, "problems": list(found.problems)}


def _of_rows(found: LeaveOneOut) -> dict[str, Any]:
    numbers: dict[str, Any] = {name: _finite(getattr(found, name)) for name in ("elpd", "se", "p_loo")}
    numbers |= {"draws": found.draws, "k_hat": [_finite(k) for k in found.k_hat]}
    return numbers | {"problems": list(found.problems)}


def _of_audit(found: Audit) -> dict[str, Any]:
    return {
        "close": found.is_close,
        "trusted": found.trusted,
        "off_in_sds": found.off_in_sds,
        "distances": [distance._asdict() | {"verdict": distance.verdict} for distance in found.distances],
        "rhat": _finite(np.max(found.report.f.rhat)),
        "ess": _finite(np.min(found.report.f.ess_bulk)),
        "problems": list(found.problems),
    }


def _finite(value: Any) -> float | None:
    """Return a number as JSON has it: None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None
