"""What the demo says about its runs."""

from typing import Any

import numpy as np

from bbb import tasks
from bbb.cli.demo.recipes import RECIPES
from bbb.cli.demo.running import Demo
from bbb.cli.output import aligned
from bbb.evaluate.diagnosis.convergence import movement
from bbb.train.history import History

COLLAPSED = 0.5
"""If the learned noise exceeds this share of the std of the data, the network explains little of their variance."""


def lines(demo: Demo) -> list[str]:
    """Return what the demo says about one run: sizes, scores, times, the noise, and whether training had converged."""
    summary, settings = demo.summary, demo.summary["settings"]
    times = ", ".join(f"{name} {seconds:.2f}" for name, seconds in summary["seconds"].items())
    scores = {
        "RMSE against the clean target": f"{summary['rmse_clean']:.3f}",
        f"mean width of the ±{settings['sigmas']:g} sd band": f"{summary['mean_band_width']:.3f}",
        "new y inside the band of f": f"{summary['coverage_f_band']:.1%}",
        "new y inside the band of y": f"{summary['coverage_y_band']:.1%}",
        "seconds": times,
    }
    return [
        f"{RECIPES[settings['objective']].words}, 1-{settings['hidden']}-1: {settings['steps']:,} steps and "
        f"{settings['draws']:,} draws at {settings['test_rows']} points",
        *aligned(scores),
        noise_line(summary),
        training_line(demo.history),
    ]


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
        "try --hidden 20 --prior-std 3."
    )


def training_line(history: History) -> str:
    """Return one line on whether training had converged, by the test of `bbb.diagnose`."""
    moved = movement(history)
    if moved is None:
        return f"Whether training had converged cannot be told from {len(history.loss):,} steps."
    return f"Training {'had not' if moved.goes_on else 'had'} converged: {moved}."
