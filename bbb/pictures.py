"""The plots of `bbb evaluate`: the calibration of predictions of a table, written to files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from bbb import _file, metrics, plot
from bbb.table import Table
from bbb.tabular import TabularModel


def write(
    model: TabularModel, rows: Table, folder: Path, *, seed: int, draws: int, level: float, mesh: Mesh | None = None
) -> list[Path]:
    """Write the plots that suit the target to `folder`; return the paths. For `mesh`, see `bbb.predict`.

    Raises:
        WriteError: if a file cannot be written.
    """
    y, made = model.observed(rows), model.predict(rows, seed=seed, draws=draws, levels=(level,), mesh=mesh).y
    if model.classes is not None:
        found = metrics.reliability(y, made.probabilities)
        pages: dict[str, Callable[[Any], Any]] = {"reliability.png": lambda ax: plot.reliability(found, ax=ax)}
    else:
        pit = model.pit(rows, seed=seed, draws=draws, mesh=mesh)
        pages = {
            "predicted.png": lambda ax: plot.predicted_against_observed(y, made, level=level, ax=ax),
            "calibration.png": lambda ax: plot.calibration(pit, ax=ax),
            "pit.png": lambda ax: plot.pit_histogram(pit, ax=ax),
        }
    for name, page in pages.items():
        _file.write(folder / name, plot.png(page))
    return [folder / name for name in pages]
