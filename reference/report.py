"""The files of a run: the summary, two plots, the predictions and the model, each written completely or not at all."""

import csv
import dataclasses
import io
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from matplotlib.figure import Figure

from bbb.tasks import NOISE_STD, Regression, Settings
from reference.regression import Band, History, count_weights, implied_noise_std


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of one run; seconds are of wall-clock time."""

    settings: Settings
    seed: int
    data: Regression
    model: torch.nn.Module
    history: History
    band: Band
    training_seconds: float
    prediction_seconds: float


def summary(run: Run) -> dict[str, Any]:
    """Return the numbers of a run as JSON values; widths, errors and noises in units of y, the KL in nats."""
    settings, data, band, history = run.settings, run.data, run.band, run.history
    y_test, clean = data.y_test[:, 0], data.clean_test[:, 0]
    rows, outputs = data.y.shape
    noise = implied_noise_std(settings.kl_weight, rows, outputs, count_weights(run.model))
    return {
        "program": "reference",
        "version": version("torchbnn"),
        "settings": {
            "objective": "torchbnn",
            "hidden": settings.hidden,
            "prior_std": settings.prior_std,
            "kl_weight": settings.kl_weight,
            "learning_rate": settings.learning_rate,
            "steps": settings.steps,
            "draws": settings.draws,
            "sigmas": settings.sigmas,
            "seed": run.seed,
            "rows": rows,
            "test_rows": len(data.x_test),
        },
        "rmse_clean": float(np.sqrt(np.mean((band.mean - clean) ** 2))),
        "mean_band_width": float(np.mean(band.upper - band.lower)),
        "coverage_f_band": coverage(y_test, band.mean, settings.sigmas * band.std),
        "coverage_y_band": coverage(y_test, band.mean, settings.sigmas * np.hypot(band.std, noise)),
        "noise_std_implied": noise,
        "noise_std_learned": None,
        "noise_std_data": NOISE_STD,
        "final_loss": float(history.loss[-1]),
        "final_data_term": float(history.data_term[-1]),
        "final_kl_nats": float(history.kl[-1]),
        "seconds": {"compile": 0.0, "training": run.training_seconds, "prediction": run.prediction_seconds},
    }


def coverage(y: np.ndarray, centre: np.ndarray, half_width: np.ndarray) -> float:
    """Compute the share of y, (M,), that lies within centre ± half_width."""
    return float(np.mean(np.abs(y - centre) <= half_width))


def save(folder: Path, run: Run) -> None:
    """Write every file of a run into an existing folder.

    Raises:
        OSError: if a file cannot be written. An existing file of that name stays as it is.
    """
    x = run.data.x_test[:, 0]
    write(folder / "band.png", png(band_figure(run.data, run.band, run.settings.sigmas)))
    write(folder / "training.png", png(training_figure(run.history)))
    write(folder / "predictions.csv", table(x, run.band).encode())
    write(folder / "summary.json", (json.dumps(summary(run), indent=2) + "\n").encode())
    write(folder / "model.safetensors", safetensors.torch.save(run.model.state_dict()))


def write(path: Path, content: bytes) -> None:
    """Write content to path atomically, by renaming a complete temporary file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def table(x: np.ndarray, band: Band) -> str:
    """Return the band as CSV with a header, one line for each test row of x, (M,)."""
    columns = {"x": x, **vars(band)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(np.stack(list(columns.values()), axis=1).tolist())
    return text.getvalue()


def band_figure(data: Regression, band: Band, sigmas: float) -> Figure:
    """Plot the mean and its band, the test set, and the target without noise."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="x", ylabel="y", xmargin=0.02)
    x = data.x_test[:, 0]
    axes.plot(x, data.y_test[:, 0], "o", color="darkorange", markersize=3, label="test set", zorder=2)
    axes.fill_between(
        x, band.lower, band.upper, color="navy", alpha=0.2, linewidth=0, label=f"mean ± {sigmas:g} σ of f", zorder=1
    )
    axes.plot(x, data.clean_test[:, 0], color="green", linewidth=2, label="target without noise", zorder=3)
    axes.plot(x, band.mean, color="navy", linewidth=2, label="mean of f", zorder=4)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.6, 1.0))
    return figure


def training_figure(history: History) -> Figure:
    """Plot the two parts of the cost at each step, each on its own logarithmic axis."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    steps = np.arange(1, len(history.loss) + 1)
    for axes, values, colour, label in (
        (upper, history.data_term, "darkorange", "mean squared error\n(units of y²)"),
        (lower, history.kl, "navy", "KL(posterior ‖ prior)\n(nats)"),
    ):
        axes.plot(steps, values, color=colour, linewidth=1)
        axes.set(yscale="log", ylabel=label)
        axes.grid(alpha=0.25, which="both")
    lower.set(xlabel="step", xlim=(1, max(2, len(steps))))
    return figure


def png(figure: Figure) -> bytes:
    """Return the content of a PNG file of a figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()
