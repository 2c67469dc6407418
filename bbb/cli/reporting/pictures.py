"""The plots of `bbb evaluate`: the calibration of predictions of a table, written to files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from bbb import metrics, plots
from bbb.decide.abstention import risk_coverage
from bbb.storage import files
from bbb.tables.encoding import REFUSE
from bbb.tables.model import TabularModel
from bbb.tables.table import Table


def write(
    model: TabularModel,
    rows: Table,
    folder: Path,
    *,
    seed: int,
    draws: int,
    level: float,
    mesh: Mesh | None = None,
    unknown: str = REFUSE,
) -> list[Path]:
    """Write the plots that suit the target to `folder`; return the paths.

    For `mesh`, see `bbb.predict`, and for `unknown`, `TabularModel.inputs`.

    Raises:
        WriteError: if a file cannot be written.
    """
    how: dict[str, Any] = {"seed": seed, "draws": draws, "mesh": mesh, "unknown": unknown}
    y, predictive = model.observed(rows), model.predict(rows, levels=(level,), **how)
    made = predictive.y
    if model.classes is not None:
        found = metrics.reliability(y, made.probabilities)
        curve = risk_coverage(made.classes != y, made.entropy.total)
        pages: dict[str, Callable[[Any], Any]] = {
            "reliability.png": lambda ax: plots.reliability(found, ax=ax),
            "risk_coverage.png": lambda ax: plots.risk_coverage(curve, ax=ax),
        }
    else:
        pit, interval = model.pit(rows, **how), model.interval(predictive, level)
        pages = {
            "predicted.png": lambda ax: plots.predicted_against_observed(
                y, made, level=level, interval=interval, ax=ax
            ),
            "calibration.png": lambda ax: plots.calibration(pit, ax=ax),
            "pit.png": lambda ax: plots.pit_histogram(pit, ax=ax),
        }
    for name, page in pages.items():
        files.write(folder / name, plots.png(page))
    return [folder / name for name in pages]
