"""The command that writes a report: `bbb report`; `bbb evaluate --html` writes the same."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from bbb.cli.options import add_prediction, add_reading, add_unknown, command, mesh_to_draw
from bbb.cli.output import output_file, say
from bbb.evaluate.diagnosis import Diagnosis
from bbb.report import page
from bbb.report.api import write_evidence
from bbb.report.evidence import gather
from bbb.tables.model import TabularModel
from bbb.tables.table import Table

OUT = "report.html"
"""Where a report is written unless told."""


def add_report(commands: Any) -> None:
    """Add the command `bbb report`."""
    about = (
        "write a page on a model and rows whose target is known, one HTML file that needs no network: coverage, "
        "calibration, errors, groups of rows, the rows it is least sure of, what looks wrong (needs plotly and jinja2)"
    )
    parser = command(
        commands, "report", _report, about, "bbb report house.safetensors test.csv --group town --out house.html"
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` wrote")
    parser.add_argument(
        "data", metavar="TEST.csv", help="rows with the same columns and the target, best held out of the training"
    )
    parser.add_argument("--out", default=OUT, metavar="FILE", help="the page (default: %(default)s)")
    parser.add_argument("--group", metavar="COLUMN", help="also score the rows of each value of this column apart")
    add_reading(parser)
    add_unknown(parser)
    add_prediction(parser)


def _report(arguments: argparse.Namespace) -> None:
    out = place(arguments.out)
    mesh = mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    marks = {"delimiter": arguments.delimiter, "decimal": arguments.decimal}
    rows = model.read(arguments.data, target=True, group=arguments.group, **marks)
    write(out, model, rows, arguments, mesh)
    say(f"wrote {out}\n")


def place(name: str) -> Path:
    """Return where a report is written; raise before anything is computed.

    Raises:
        InputError: if plotly or jinja2 is missing.
        WriteError: if no file can be written there.
    """
    page.check_installed()
    return output_file(name)


def write(
    out: Path,
    model: TabularModel,
    rows: Table,
    arguments: argparse.Namespace,
    mesh: Mesh | None,
    scores: dict[str, Any] | None = None,
    diagnosis: Diagnosis | None = None,
) -> None:
    """Write the report that a command was asked for, with what it has computed already.

    Raises:
        WriteError: if it cannot be written.
    """
    how = {"seed": arguments.seed, "draws": arguments.draws, "mesh": mesh, "unknown": arguments.unknown}
    known: dict[str, Any] = {"scores": scores, "diagnosis": diagnosis}
    found = gather(model, rows, level=arguments.interval, group=arguments.group, **how, **known)
    write_evidence(out, found, shlex.join(["bbb", *arguments.words]))
