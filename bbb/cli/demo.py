"""The demo: a regression with error bars, from training to plots, in a few seconds."""

import dataclasses
import json
import math
import os
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from bbb import plots, tasks
from bbb._version import __version__
from bbb.devices import mesh as mesh_module
from bbb.errors import InputError, fail
from bbb.evaluate.diagnosis.convergence import movement
from bbb.io import models
from bbb.likelihoods.gaussian import Gaussian
from bbb.model import BNN, INITIAL_STD, bayesianize
from bbb.networks import nn
from bbb.predictive.api import predict
from bbb.predictive.summary import Predictive
from bbb.priors.normal import Normal
from bbb.storage import files
from bbb.tables.csv import text
from bbb.torchbnn.cost import mse_cost
from bbb.torchbnn.kl_weight import implied_noise_std
from bbb.train.api import fit
from bbb.train.history import History
from bbb.train.options import Objective

OBJECTIVES = ("torchbnn", "elbo")


COLLAPSED = 0.5
"""If the learned noise exceeds this share of the std of the data, the network explains little of their variance."""


@dataclasses.dataclass(frozen=True)
class Demo:
    """The results of a run of the demo.

    Attributes:
        model: the trained model.
        history: the history of its training.
        predictive: the predictive distribution at the test points.
        data: the data.
        summary: the settings, scores and times as JSON values.
    """

    model: BNN
    history: History
    predictive: Predictive
    data: tasks.Regression
    summary: dict[str, Any]


def run(
    settings: tasks.Settings | None = None,
    *,
    seed: int = 0,
    objective: str = "torchbnn",
    mesh: Mesh | None = None,
    progress: bool | None = None,
) -> Demo:
    """Train on the regression of `bbb.tasks`, predict at its test points, and summarise.

    Args:
        settings: sizes and rates; by default the published ones.
        seed: the seed of the data, the initialisation, the training and the prediction.
        objective: "torchbnn" minimises MSE + kl_weight·KL/P; "elbo" minimises the negative ELBO, with learned noise.
        mesh: devices to train on, along an axis "batch", as for `fit`; the same devices share the draws.
        progress: whether to show a bar on stderr; by default if it is a terminal.

    Raises:
        InputError: if the objective is unknown, a setting is not positive, or `fit` does not accept the mesh.
        NonFiniteLossError: if training diverges.
    """
    settings = settings or tasks.Settings()
    if objective not in OBJECTIVES:
        fail(InputError, "objective to be torchbnn or elbo", repr(objective), "Pass one of them.")
    data = tasks.regression(seed)
    init_key, fit_key, predict_key = jax.random.split(jax.random.key(seed), 3)
    torchbnn = objective == "torchbnn"
    model = _model(init_key, settings, len(data.x), torchbnn)
    with _stopwatch() as training:
        model, history = fit(
            fit_key,
            model,
            data.x,
            data.y,
            steps=settings.steps,
            optimizer=optax.adam(settings.learning_rate),
            objective=Objective(mse_cost, kl_weight=settings.kl_weight) if torchbnn else None,
            placement=mesh,
            progress=progress,
        )
    with _stopwatch() as prediction:
        over = None if mesh is None else mesh_module.in_line(mesh, "draws")
        predictive = predict(predict_key, model, data.x_test, draws=settings.draws, mesh=over)
    seconds = {
        "compile": training["compile"] + prediction["compile"],
        "training": training["run"],
        "prediction": prediction["run"],
    }
    described = {
        "objective": objective,
        **dataclasses.asdict(settings),
        "seed": seed,
        "rows": len(data.x),
        "test_rows": len(data.x_test),
    }
    summary = {
        "program": "bbb",
        "version": __version__,
        "settings": described,
        **_quality(settings, data, predictive),
        "noise_std_implied": _implied(settings, data) if torchbnn else None,
        **_training_summary(history, learned=not torchbnn),
        "seconds": seconds,
    }
    return Demo(model, history, predictive, data, summary)


def noise_line(summary: dict[str, Any]) -> str:
    """Return one line that compares the noise that the cost assumes with that of the data."""
    actual = f"that of the data is {summary['noise_std_data']:.3f}"
    if summary["noise_std_implied"] is not None:
        implied = f"This cost assumes noise of sd {summary['noise_std_implied']:.3f}, and {actual}"
        return f"{implied}: its band is the spread of the network, not of new observations."
    learned = f"The bound learned noise of sd {summary['noise_std_learned']:.3f}, and {actual}"
    if summary["noise_std_learned"] < COLLAPSED * float(np.std(tasks.regression(summary["settings"]["seed"]).y)):
        return f"{learned}."
    return (
        f"{learned}: a mean-field network of this width ignores the data "
        "(proved for odd activations: Coker et al. 2022, arXiv 2202.11670); "
        "try --hidden 20 --prior-std 3 --steps 8000."
    )


def training_line(history: History) -> str:
    """Return one line on whether training had converged, by the test of `bbb.diagnose`."""
    moved = movement(history)
    if moved is None:
        return f"Whether training had converged cannot be told from {len(history.loss):,} steps."
    return f"Training {'had not' if moved.goes_on else 'had'} converged: {moved}."


def write(demo: Demo, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the plots, the predictions, the summary and the model; return their paths.

    Raises:
        WriteError: if the folder cannot be made or written.
    """
    out = files.folder(folder)
    sigmas = demo.summary["settings"]["sigmas"]
    contents = {
        "band.png": plots.png(lambda ax: _band(ax, demo)),
        "training.png": plots.png(lambda ax: _training(ax, demo.history)),
        "predictions.csv": text(_columns(demo.data.x_test, demo.predictive, sigmas)).encode(),
        "summary.json": (json.dumps(demo.summary, indent=2) + "\n").encode(),
    }
    for name, content in contents.items():
        files.write(out / name, content)
    models.save(out / "model.safetensors", demo.model)
    return [out / name for name in (*contents, "model.safetensors")]


def _model(key: jax.Array, settings: tasks.Settings, rows: int, torchbnn: bool) -> BNN:
    init = "torchbnn" if torchbnn else "he"
    layers = nn.linear(1, settings.hidden, init=init), nn.relu, nn.linear(settings.hidden, 1, init=init)
    network = nn.sequential(*layers)
    params = network.init(key)
    if torchbnn:  # its posterior starts as wide as the prior, and its noise follows from its cost
        noise = implied_noise_std(settings.kl_weight, rows, 1, 3 * settings.hidden + 1)
        likelihood, std = Gaussian(noise), settings.prior_std
    else:
        likelihood, std = Gaussian(0.5, learn=True), INITIAL_STD
    return bayesianize(network.apply, params, prior=Normal(0.0, settings.prior_std), likelihood=likelihood, std=std)


def _implied(settings: tasks.Settings, data: tasks.Regression) -> float:
    return implied_noise_std(settings.kl_weight, len(data.x), 1, 3 * settings.hidden + 1)


def _quality(settings: tasks.Settings, data: tasks.Regression, predictive: Predictive) -> dict[str, float]:
    lower, upper = predictive.f.sigma_interval(settings.sigmas)
    y_lower, y_upper = predictive.y.sigma_interval(settings.sigmas)
    return {
        "rmse_clean": math.sqrt(float(np.mean(np.square(predictive.f.mean - data.clean_test)))),
        "mean_band_width": float(np.mean(upper - lower)),
        "coverage_f_band": float(np.mean((lower <= data.y_test) & (data.y_test <= upper))),
        "coverage_y_band": float(np.mean((y_lower <= data.y_test) & (data.y_test <= y_upper))),
    }


def _training_summary(history: History, learned: bool) -> dict[str, Any]:
    """Return the noise, the last values and the convergence of a training as JSON values."""
    return {
        "noise_std_learned": float(history.noise_std[-1]) if learned else None,  # type: ignore[index]
        "noise_std_data": tasks.NOISE_STD,
        "final_loss": float(history.loss[-1]),
        "final_data_term": float(history.data_term[-1]),
        "final_kl_nats": float(history.kl[-1]),
        "converged": None if (moved := movement(history)) is None else not moved.goes_on,
    }


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


def _training(ax: Any, history: History) -> None:
    plots.training(history, ax=ax)
    ax.figure.suptitle(textwrap.fill(training_line(history), 100), fontsize="small")


def _band(ax: Any, demo: Demo) -> None:
    data = demo.data
    plots.band(
        data.x_test,
        demo.predictive,
        sigmas=demo.summary["settings"]["sigmas"],
        data=(data.x_test, data.y_test),
        target=data.clean_test,
        observation=demo.summary["settings"]["objective"] == "elbo",
        ax=ax,
    )


@contextmanager
def _stopwatch() -> Iterator[dict[str, float]]:
    """Measure the seconds of JAX's compilation, and of the rest."""
    seconds = {"compile": 0.0, "run": 0.0}

    def on_event(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            seconds["compile"] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(on_event)
    started = time.perf_counter()
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(on_event)
        seconds["run"] = max(time.perf_counter() - started - seconds["compile"], 0.0)
