"""The files that the demo writes."""

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from bbb import plots
from bbb.cli.demo.recipes import RECIPES
from bbb.cli.demo.running import Demo
from bbb.cli.demo.words import training_line
from bbb.io import models
from bbb.predictive.summary import Predictive
from bbb.storage import files
from bbb.storage.json_text import json_text
from bbb.tables.csv import text
from bbb.train.history import History


def write(demo: Demo, folder: str | os.PathLike[str], beside: Demo | None = None) -> list[Path]:
    """Write the plots, the predictions, the summary and the model of a run; return their paths.

    With another run `beside` it, the summary holds that of the other under the name of its objective, and
    "compared.png" shows both bands.

    Raises:
        WriteError: if the folder cannot be made or written.
    """
    out = files.folder(folder)
    sigmas = demo.summary["settings"]["sigmas"]
    contents = {
        "band.png": plots.png(lambda ax: _band(ax, demo)),
        "training.png": plots.png(lambda ax: _training(ax, demo.history)),
        "predictions.csv": text(_columns(demo.data.x_test, demo.predictive, sigmas)).encode(),
        "summary.json": json_text(summary_of(demo, beside)).encode(),
    }
    if beside is not None:
        contents["compared.png"] = plots.png(lambda axes: _compared(axes, (demo, beside)), panels=2)
    for name, content in contents.items():
        files.write(out / name, content)
    models.save(out / "model.safetensors", demo.model)
    return [out / name for name in (*contents, "model.safetensors")]


def summary_of(demo: Demo, beside: Demo | None = None) -> dict[str, Any]:
    """Return the summary of a run, with that of the other under the name of its objective."""
    return demo.summary | ({} if beside is None else {beside.summary["settings"]["objective"]: beside.summary})


def _band(ax: Any, demo: Demo) -> None:
    data = demo.data
    plots.band(
        data.x_test,
        demo.predictive,
        sigmas=demo.summary["settings"]["sigmas"],
        data=(data.x_test, data.y_test),
        target=data.clean_test,
        observation=True,
        ax=ax,
    )


def _compared(axes: Any, demos: tuple[Demo, Demo]) -> None:
    """Plot two runs beside each other, with the share of new observations that the band of y of each holds."""
    for ax, demo in zip(axes, demos, strict=True):
        _band(ax, demo)
        share = demo.summary["coverage_y_band"]
        words = RECIPES[demo.summary["settings"]["objective"]].words
        ax.set_title(f"{words}:\n{share:.1%} of new y inside its band of y")
    axes[1].get_legend().remove()
    axes[1].sharey(axes[0])
    axes[1].label_outer()


def _training(ax: Any, history: History) -> None:
    plots.training(history, ax=ax)
    ax.figure.suptitle(textwrap.fill(training_line(history), 100), fontsize="small")


def _columns(x: np.ndarray, predictive: Predictive, sigmas: float) -> dict[str, np.ndarray]:
    f, ends, errors = predictive.f, predictive.f.sigma_interval(sigmas), predictive.f.mcse_sigma_interval(sigmas)
    columns = {
        "x": x,
        "mean": f.mean,
        "std": f.std,
        "lower": ends.lower,
        "upper": ends.upper,
        "mcse_mean": f.mcse_mean,
        "mcse_std": f.mcse_std,
        "mcse_lower": errors.lower,
        "mcse_upper": errors.upper,
    }
    return {name: values[:, 0] for name, values in columns.items()}
