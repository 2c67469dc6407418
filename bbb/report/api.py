"""Writing a report."""

import datetime
import os
from pathlib import Path
from typing import Any

from bbb import checks
from bbb.errors import InputError, WriteError, fail
from bbb.report import evidence as evidence_module
from bbb.report import page
from bbb.report.blocks import Section
from bbb.report.evidence import Evidence
from bbb.report.parts import (
    calibration,
    card,
    data,
    diagnosis,
    groups,
    predictions,
    residuals,
    summary,
    training,
    unsure,
)
from bbb.storage import files
from bbb.tables.encoding import REFUSE, UNKNOWN
from bbb.tables.frames import as_table
from bbb.tables.model import TabularModel
from bbb.tables.table import Table

BY_PYTHON = "bbb.report.write"
"""What made a report that no command made."""


def write(
    path: str | os.PathLike[str],
    model: TabularModel,
    table: Any,
    *,
    group: str | None = None,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 10_000,
    unknown: str = REFUSE,
    date: datetime.date | None = None,
) -> Path:
    """Write a report on a model, and rows whose targets are known, to one HTML file.

    It says what the data are, how the training went, what is predicted, whether intervals hold what they promise, on
    the whole and among groups of rows, how large the errors are, which rows are the least sure, what looks wrong, and
    what the model is. Every number is of all rows, as `model.evaluate` has it; figures draw at most 2,000 of them. The
    file loads nothing from anywhere. The same arguments give the same file, byte for byte.

    Args:
        path: the file; an old one is replaced once the new one is safe on the disk, and its folder is made.
        model: what `bbb.tables.fit_table` gave, or `bbb.tables.TabularModel.load`.
        table: the rows: the name of a file, a `bbb.tables.Table`, or a frame of pandas, polars or pyarrow; best of rows
            that were held out of the training.
        group: a column whose values' rows are scored apart, which need not be one that the model knows.
        level: of the intervals, inside (0, 1).
        seed: of the draws.
        draws: of the weights.
        unknown: as of `TabularModel.inputs`.
        date: written in the report; by default that of today.

    Returns:
        The path.

    Raises:
        InputError: if plotly or jinja2 is missing, for what is no model of a table, or as `TabularModel.evaluate`.
        TableError: if the rows cannot be read, or lack a column, the target or the group.
        WriteError: if the file cannot be written: before anything is computed, where that can be known.
    """
    checks.untraced("bbb.report.write", level=level, seed=seed, draws=draws)
    path = checked_path(path)
    page.check_installed()
    evidence_module.check_model(model)
    level = checks.probability("level", level)
    draws = checks.positive_integer("draws", draws)
    checks.word("unknown", unknown, UNKNOWN)
    if group is not None:
        checks.is_a("group", group, str, 'Pass the name of a column, such as "town".')
    if type(seed) is not int or not 0 <= seed < 2**32:
        fail(InputError, "seed to be a whole number from 0", repr(seed), "Pass for example 0.")
    if date is not None:
        checks.is_a("date", date, datetime.date, "Pass for example datetime.date(2026, 1, 31).")
    rows = _read(model, table, group)
    found = evidence_module.gather(model, rows, level=level, group=group, seed=seed, draws=draws, unknown=unknown)
    write_evidence(path, found, BY_PYTHON, date)
    return path


def _read(model: TabularModel, table: Any, group: str | None) -> Table:
    """Return the rows of a file or a frame, with the target and the group."""
    if isinstance(table, str | os.PathLike):
        return model.read(table, target=True, group=group)
    return as_table(table, **model.wanted(True, group))


def checked_path(path: Any) -> Path:
    """Return a path that a file can be written to, whose folder is made.

    Raises:
        InputError: for what is no path.
        WriteError: if there is something other than a file, or the folder cannot be made or written.
    """
    found = Path(checks.file_path(path))
    if found.exists() and not found.is_file():
        kind = "folder" if found.is_dir() else "device or pipe"
        raise WriteError(f"Expected a report to be written to a file, got the {kind} {found}. Pass a file's name.")
    files.folder(found.parent)
    return found


def write_evidence(path: Path, evidence: Evidence, command: str, date: datetime.date | None = None) -> None:
    """Write the report of what was gathered.

    Raises:
        WriteError: if the file cannot be written.
    """
    day = (date or datetime.date.today()).isoformat()
    files.write(path, page.rendered(evidence, sections(evidence, command, day), day).encode())


def sections(evidence: Evidence, command: str, date: str) -> list[Section]:
    """Return the parts of a report, in their order."""
    return [
        summary.section(evidence),
        predictions.section(evidence),
        calibration.section(evidence),
        groups.section(evidence),
        residuals.section(evidence),
        unsure.section(evidence),
        diagnosis.section(evidence),
        training.section(evidence),
        data.section(evidence),
        card.section(evidence, command, date),
    ]
