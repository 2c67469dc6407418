"""Active learning against random choice: `python -m benchmarks.active --data DIR [--sets ...] [--json FILE]`.

Of the training rows of each split of a UCI set, 20 at random are labelled, and the rest is the pool. Ten more are
labelled at a time: at random; those with the largest variance of the function (`bbb.decide.acquisition.variance`, which
for constant noise is the order of BALD); or those that tell most together (`choose_batch`). After each round a model is
learned anew, by `bbb.tune` and `bbb.laplace`, and scored on the test rows of the split. The repeats are the splits, and
all methods begin with the same 20 rows.

The columns of x are standardised by the whole pool, whose x is known, and y by the rows that are labelled. The network
has one hidden layer of 50 units (tanh); prior and noise are found by the evidence. Rows that are not labelled yet are
there with a weight of 0, so that one compiled program serves all rounds.

It writes `benchmarks/active.png`. DIR is the folder of `benchmarks.uci`. A set takes about four minutes of one core.

Found with 100 labels, less random choice, mean ± standard error of 20 repeats: on energy RMSE −0.40 ± 0.08 by BatchBALD
and +0.97 ± 0.21 by the largest variances, whose ten rows of a round say much the same; on concrete −0.08 ± 0.28 and
+0.26 ± 0.27, with log scores below those of random choice, −0.09 ± 0.03 and −0.12 ± 0.04 nats.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import bbb
from bbb.decide import acquisition
from bbb.errors import BBBError
from bbb.plots.style import paler, styles
from benchmarks import report, uci

METHODS = {"random": "random rows", "variance": "largest variance", "batchbald": "BatchBALD"}
SETS = ("energy", "concrete")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How much is labelled, and how a model is learned.

    Attributes:
        first: rows labelled at random before the first round.
        each: rows labelled in a round.
        rounds: of labelling.
        hidden: units.
        tuning: rounds of `bbb.tune`, of 50 steps.
        draws: of a batch chosen together.
    """

    first: int = 20
    each: int = 10
    rounds: int = 8
    hidden: int = 50
    tuning: int = 50
    draws: int = 500

    @property
    def labels(self) -> list[int]:
        """The number of labels when a model is learned."""
        return [self.first + i * self.each for i in range(self.rounds + 1)]


QUICK = Recipe(first=5, each=3, rounds=2, hidden=3, tuning=2, draws=20)


class Scores(NamedTuple):
    """Scores of test rows, in units of y and in nats a row."""

    rmse: float
    log_score: float


class Split:
    """The rows of one split, of which some are labelled."""

    def __init__(self, data: uci.Data, index: int, recipe: Recipe, network: Any) -> None:
        rows, test = data.splits[index]
        self.x, to_x = uci._scaled(data.x[rows])
        self.test_x = to_x(data.x[test])
        self.y, self.test_y = data.y[rows], data.y[test]
        self.recipe, self.network, self.key = recipe, network, jax.random.key(index)
        self.random = np.random.default_rng(index)
        self.start = self.random.permutation(len(self.x))[: recipe.first]

    def learn(self, labelled: np.ndarray) -> tuple[Any, float, float]:
        """Return the model of the labelled rows, and the mean and the std that their y was standardised by."""
        most, y = self.recipe.labels[-1], self.y[labelled]
        mean, std = float(y.mean()), float(y.std())
        rows = np.resize(labelled, most)  # those that are too many have a weight of 0
        x, y = self.x[rows], ((self.y[rows] - mean) / std).astype(np.float32)
        weight = (np.arange(most) < len(labelled)).astype(np.float32)
        params = self.network.init(self.key)
        model = bbb.bayesianize(
            self.network.apply, params, prior=bbb.priors.fan_in(params, 0.5),
            likelihood=bbb.likelihoods.Gaussian(1.0, learn=True),
        )  # fmt: skip
        rounds: dict[str, Any] = {"rounds": self.recipe.tuning, "steps": 50, "updates": 1, "per": "column"}
        model, _ = bbb.tune(self.key, model, x, y, **rounds, progress=False, sample_weight=weight)
        return bbb.laplace(self.key, model, x, y, sample_weight=weight), mean, std

    def score(self, model: Any, mean: float, std: float) -> Scores:
        """Return the scores of the test rows."""
        y = bbb.predict(self.key, model, self.test_x).y
        error, spread = mean + std * y.mean - self.test_y, std * y.std
        nats = -0.5 * np.square(error / spread) - np.log(spread) - 0.5 * np.log(2 * np.pi)
        return Scores(float(np.sqrt(np.mean(np.square(error)))), float(np.mean(nats)))

    def choose(self, method: str, model: Any, labelled: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return more rows to label."""
        rest = np.setdiff1d(np.arange(len(self.x)), labelled)
        each, key = self.recipe.each, jax.random.fold_in(self.key, len(labelled))
        if method == "random":
            return random.permutation(rest)[:each]
        if method == "variance":
            return rest[np.argsort(-acquisition.variance(key, model, self.x[rest]), kind="stable")[:each]]
        return rest[acquisition.choose_batch(key, model, self.x[rest], each, draws=self.recipe.draws).rows]

    def run(self, method: str) -> list[Scores]:
        """Return the scores after each round."""
        labelled, random, found = self.start, np.random.default_rng(self.random.integers(2**32)), []
        for count in self.recipe.labels:
            model, *units = self.learn(labelled)
            found.append(self.score(model, *units))
            if count < self.recipe.labels[-1]:
                labelled = np.concatenate([labelled, self.choose(method, model, labelled, random)])
        return found


def measure(data: uci.Data, repeats: int, recipe: Recipe) -> dict[str, np.ndarray]:
    """Return the scores of each method: (repeats, rounds + 1, 2)."""
    network = bbb.nn.sequential(
        bbb.nn.linear(data.x.shape[1], recipe.hidden), bbb.nn.tanh, bbb.nn.linear(recipe.hidden, 1)
    )
    found: dict[str, list[Any]] = {method: [] for method in METHODS}
    for index in range(min(repeats, len(data.splits))):
        split, started = Split(data, index, recipe, network), time.perf_counter()
        for method, scores in found.items():
            scores.append(split.run(method))
        print(f"  {data.name}, repeat {index + 1}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return {method: np.asarray(scores) for method, scores in found.items()}


# The table


def section(name: str, found: dict[str, np.ndarray], recipe: Recipe) -> report.Section:
    """Return the scores of a set, and how far each method is from random choice, at some numbers of labels."""
    records, cells = [], []
    for round_ in sorted({recipe.rounds // 4, recipe.rounds // 2, recipe.rounds}):
        for method, scores in found.items():
            at, beside = scores[:, round_], found["random"][:, round_]
            record = {"labels": recipe.labels[round_], "method": METHODS[method]}
            for i, score in enumerate(Scores._fields):
                record |= {score: float(at[:, i].mean()), f"{score}_se": _error(at[:, i])}
                record |= {
                    f"{score}_gain": float((at - beside)[:, i].mean()),
                    f"{score}_gain_se": _error((at - beside)[:, i]),
                }
            records.append(record)
            cells.append(_cells(record))
    repeats = len(found["random"])
    head = ["method", "labels", "RMSE", "less random's", "log score, nats", "less random's"]
    return report.Section(f"{name}, {repeats} repeats", report.table(head, cells), [*records, _curves(found, recipe)])


def _curves(found: dict[str, np.ndarray], recipe: Recipe) -> dict[str, Any]:
    return {"labels": recipe.labels, **{method: scores.tolist() for method, scores in found.items()}}


def _error(values: np.ndarray) -> float:
    """Return the standard error of a mean over the repeats."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _cells(record: dict[str, Any]) -> list[str]:
    pairs = [
        f"{record[name]:.3f} ± {record[f'{name}_se']:.3f}"
        for name in ("rmse", "rmse_gain", "log_score", "log_score_gain")
    ]
    return [record["method"], str(record["labels"]), *(pair.replace("-", "−") for pair in pairs)]


def picture(found: dict[str, dict[str, np.ndarray]], recipe: Recipe) -> Any:
    """Return the figure of all sets: scores by labels, with a standard error to either side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.2 * len(found)), dpi=120, layout="constrained")
    every = figure.subplots(len(found), 2, squeeze=False)
    for axes, (name, methods) in zip(every, found.items(), strict=True):
        for i, (ax, title) in enumerate(
            zip(axes, ("RMSE, lower is better", "log score, nats a row, higher is better"), strict=True)
        ):
            for (method, scores), (color, dashes) in zip(methods.items(), styles(len(methods)), strict=True):
                mean = scores[..., i].mean(axis=0)
                error = np.array([_error(column) for column in scores[..., i].T])
                ax.fill_between(
                    recipe.labels, mean - error, mean + error, color=paler(color, 0.6), linewidth=0, alpha=0.6
                )
                ax.plot(recipe.labels, mean, color=color, linestyle=dashes, label=METHODS[method])
            ax.set_title(f"{name}: {title}", fontsize=10)
            ax.set_xlabel("labelled rows")
            ax.margins(x=0)
    figure.legend(
        *every[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), frameon=False
    )
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sets: print the tables, draw the picture and write the JSON."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds the sets' folders")
    made.add_argument("--sets", nargs="+", default=SETS, metavar="SET", help=f"default: {' '.join(SETS)}")
    made.add_argument("--repeats", type=int, default=20, metavar="N", help="splits of each set (default: 20)")
    made.add_argument("--quick", action="store_true", help="use tiny sizes, to test that everything works")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    out = Path(__file__).with_name("active.png")
    made.add_argument("--out", type=Path, metavar="FILE", help=f"the picture (default: {out.name}; none if quick)")
    arguments = made.parse_args(argv)
    recipe = QUICK if arguments.quick else Recipe()
    try:
        sets = [uci.read(arguments.data / name) for name in arguments.sets]
    except BBBError as error:
        made.error(str(error))
    described, found, sections = report.machine(), {}, []
    for data in sets:
        found[data.name] = measure(data, arguments.repeats, recipe)
        sections.append(section(data.name, found[data.name], recipe))
        print(f"### {sections[-1].title}\n\n{sections[-1].text}\n", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(report.results_json(described, {"Active learning": sections}))
    if arguments.out is not None or not arguments.quick:
        picture(found, recipe).savefig(arguments.out or out)


if __name__ == "__main__":
    main()
