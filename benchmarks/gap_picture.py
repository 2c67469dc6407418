"""The picture of the bands between two clusters of data: `python -m benchmarks.gap_picture [--seed N] [--out FILE]`.

Three posteriors of one network, those of `benchmarks.gap`, beside one another: independent Gaussians, Laplace's, and
NUTS, which the others are approximations of. It writes `benchmarks/gap.png`, which the README shows.
"""

import argparse
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, DOTS, MEAN, TARGET
from benchmarks import gap

LINE = np.linspace(-2.2, 2.2, 177)[:, None]
LEVEL = 0.95

Panel = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The mean of f on LINE and the ends of its band, (points,) each."""


def panels(run: gap.Run) -> dict[str, Panel]:
    """Return what each panel shows, by its title."""
    return {
        "Independent Gaussians, bbb.fit": of_model(run, gap.mean_field(run)),
        "Laplace, bbb.laplace": of_model(run, gap.laplace(run)),
        "NUTS, the posterior itself": of_draws(run.sampled(LINE)),
    }


def of_model(run: gap.Run, model: bbb.BNN) -> Panel:
    """Return the band of a model."""
    found = bbb.predict(run.key, model, LINE, levels=(LEVEL,)).f
    lower, upper = found.interval(LEVEL)
    return np.asarray(found.mean)[:, 0], np.asarray(lower)[:, 0], np.asarray(upper)[:, 0]


def of_draws(draws: np.ndarray) -> Panel:
    """Return the band of draws of f, (draws, points)."""
    lower, upper = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return draws.mean(axis=0), lower, upper


def picture(run: gap.Run, found: dict[str, Panel]) -> bytes:
    """Return the PNG file of the panels, with axes that they share."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.7), dpi=120, layout="constrained")
    band = f"{100 * LEVEL:g} % band of the function"
    every = figure.subplots(1, len(found), sharex=True, sharey=True)
    for ax, (title, (mean, lower, upper)) in zip(every, found.items(), strict=True):
        x = LINE[:, 0]
        ax.fill_between(x, lower, upper, color=BAND, alpha=0.55, linewidth=0, label=band)
        ax.plot(x, gap.function(x), color=TARGET, linewidth=1.6, linestyle=(0, (4, 2)), label="true function")
        ax.plot(x, mean, color=MEAN, linewidth=1.4, label="mean")
        ax.plot(*run.rows, "o", color=DATA, **DOTS | {"markersize": 3.5}, label="observations")
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("x")
        ax.margins(x=0)
    every[0].set_ylabel("y")
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def main(argv: Sequence[str] | None = None) -> None:
    """Train, sample and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use tiny sizes, to test that everything works")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the rows (default: 0)")
    parser.add_argument("--activation", choices=gap.ACTIVATIONS, default="tanh", help="default: tanh")
    out = Path(__file__).with_name("gap.png")
    parser.add_argument("--out", type=Path, default=out, metavar="FILE", help="default: benchmarks/gap.png")
    arguments = parser.parse_args(argv)
    settings = dataclasses.replace(gap.QUICK, steps=20) if arguments.quick else gap.Settings(members=1)
    run = gap.Run(arguments.activation, 1, arguments.seed, settings)
    arguments.out.write_bytes(picture(run, panels(run)))


if __name__ == "__main__":
    main()
