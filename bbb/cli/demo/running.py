"""One run of the demo: training by one objective, prediction, and a summary."""

import dataclasses
import functools
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from bbb import tasks
from bbb._version import __version__
from bbb.cli.demo.recipes import RECIPES
from bbb.devices import mesh as mesh_module
from bbb.errors import InputError, fail
from bbb.evaluate.diagnosis.convergence import movement
from bbb.model import BNN
from bbb.predictive.api import predict
from bbb.predictive.summary import Predictive
from bbb.train.api import fit
from bbb.train.history import History


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
    objective: str = "elbo",
    mesh: Mesh | None = None,
    progress: bool | None = None,
) -> Demo:
    """Train on the regression of `bbb.tasks`, predict at its test points, and summarise.

    Args:
        settings: sizes and rates; by default those of the objective, from `RECIPES`.
        seed: the seed of the data, the initialisation, the training and the prediction.
        objective: "elbo" minimises the negative ELBO by local reparameterisation, with learned noise and a learning
            rate that falls to 0; "torchbnn" minimises MSE + kl_weight·KL/P.
        mesh: devices to train on, along an axis "batch", as for `fit`; the same devices share the draws.
        progress: whether to show a bar on stderr; by default if it is a terminal.

    Raises:
        InputError: if the objective is unknown, a setting is not positive, or `fit` does not accept the mesh.
        NonFiniteLossError: if training diverges.
    """
    if objective not in RECIPES:
        fail(InputError, "objective to be elbo or torchbnn", repr(objective), "Pass one of them.")
    recipe = RECIPES[objective]
    settings = settings or recipe.settings
    data = tasks.regression(seed)
    init_key, fit_key, predict_key = jax.random.split(jax.random.key(seed), 3)
    model, implied = recipe.model(init_key, settings, len(data.x)), recipe.implied_noise(settings, len(data.x))
    with _stopwatch() as training:
        model, history = fit(
            fit_key,
            model,
            data.x,
            data.y,
            steps=settings.steps,
            optimizer=optax.adam(recipe.learning_rate(settings)),
            objective=recipe.objective(model, settings),
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
        "noise_std_implied": implied,
        **_training_summary(history, learned=implied is None),
        "seconds": seconds,
    }
    return Demo(model, history, predictive, data, summary)


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


_compiling: dict[int, float] = defaultdict(float)
"""Seconds of JAX's compilation in each thread."""


@functools.cache
def _listen() -> None:
    def on_event(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            _compiling[threading.get_ident()] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(on_event)


@contextmanager
def _stopwatch() -> Iterator[dict[str, float]]:
    """Measure the seconds of JAX's compilation in this thread, and of the rest."""
    _listen()
    thread, seconds = threading.get_ident(), {"compile": 0.0, "run": 0.0}
    compiled, started = _compiling[thread], time.perf_counter()
    try:
        yield seconds
    finally:
        seconds["compile"] = _compiling[thread] - compiled
        seconds["run"] = max(time.perf_counter() - started - seconds["compile"], 0.0)
