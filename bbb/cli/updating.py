"""The command that learns on: `bbb update`."""

import argparse
import math
from typing import Any

from bbb.cli.options import add_cache, add_reading, add_seed, add_unknown, command, count_type, discount_type
from bbb.cli.output import aligned, output_file, say
from bbb.decide.continual import Drift
from bbb.storage.json_text import json_text
from bbb.tables.model import TabularModel
from bbb.tables.recipe import Recipe


def add_update(commands: Any) -> None:
    """Add the command `bbb update`."""
    about = "learn on from new rows of a table, with what was learned before as the prior; say how well they fit it"
    example = "bbb update house.safetensors may.csv --out house-may.safetensors"
    parser = command(commands, "update", _update, about, example)
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` or `bbb update` wrote")
    parser.add_argument("data", metavar="NEW.csv", help="new rows with the same columns and the target; no old ones")
    parser.add_argument("--out", required=True, metavar="MODEL", help="where to write the updated model")
    default = Recipe()
    parser.add_argument(
        "--epochs",
        type=count_type,
        default=default.epochs,
        help="passes over the new rows, of independent Gaussians (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=count_type,
        default=default.batch_size,
        help="rows per step, likewise (default: %(default)s)",
    )
    parser.add_argument(
        "--discount",
        type=discount_type,
        default=1.0,
        help="divide the covariance of what was learned by it: old rows count for less (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the drift as JSON")
    add_reading(parser)
    add_unknown(parser)
    add_seed(parser)
    add_cache(parser)


def _update(arguments: argparse.Namespace) -> None:
    out = output_file(arguments.out)
    model = TabularModel.load(arguments.model)
    rows = model.read(arguments.data, target=True, delimiter=arguments.delimiter, decimal=arguments.decimal)
    how = {name: getattr(arguments, name) for name in ("seed", "epochs", "batch_size", "discount", "unknown")}
    updated, found = model.update(rows, **how)
    updated.save(out)
    seen: Any = found.drift  # of one output, whose likelihood can draw
    if arguments.json:
        say(json_text(_as_json(seen)))
        return
    dropped = [] if model.calibration is None else [DROPPED]
    say("".join(f"{line}\n" for line in (*aligned(_as_text(seen)), seen, *dropped, f"wrote {out}")))


DROPPED = "The calibration was of the model before, and is dropped: intervals and classes are the model's own again."


def _as_json(drift: Drift) -> dict[str, Any]:
    names = ("rows", "log_score", "std_error", "expected", "expected_std", "deviations", "share_below", "noticed")
    found = {name: getattr(drift, name) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _as_text(drift: Drift) -> dict[str, str]:
    return {
        "new rows": f"{drift.rows:,}",
        "log score of them before, nats per row": f"{drift.log_score:.4g} ± {drift.std_error:.2g}",
        "expected of rows of its own": f"{drift.expected:.4g} ± {drift.expected_std:.2g}",
    }
