"""The command that says what to ask next: `bbb suggest`."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from bbb.cli.options import (
    add_machine,
    add_reading,
    add_seed,
    add_unknown,
    command,
    count_type,
    finite_type,
    mesh_to_draw,
)
from bbb.cli.output import as_json, output_file, say
from bbb.decide import acquisition
from bbb.decide.acquisition.information import has_information
from bbb.errors import InputError, fail
from bbb.storage import files
from bbb.tables import csv
from bbb.tables.model import TabularModel
from bbb.tables.table import DATE, WORDS, Table

SCORES: dict[str, Callable[..., np.ndarray]] = {
    "bald": acquisition.bald,
    "variance": acquisition.variance,
    "ei": acquisition.expected_improvement,
    "ucb": acquisition.upper_confidence_bound,
}
"""Scores of single rows by their words; the others choose rows together."""


INFORMATION = ("batchbald", "bald")
"""The methods that need the likelihood of classes or of Gaussian noise."""


LARGEST = ("ei", "ucb")
"""The methods that look for the largest target."""


BETA = 2.0
"""The standard deviations that `--method ucb` adds unless told."""


def add_suggest(commands: Any) -> None:
    """Add the command `bbb suggest`."""
    about = "choose the rows of a table (CSV, .csv.gz, Parquet or Arrow) whose target it is best to measure next"
    example = "bbb suggest house.safetensors unmeasured.csv --count 10 > next.csv"
    parser = command(commands, "suggest", _suggest, about, example)
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` wrote")
    parser.add_argument(
        "data", metavar="POOL.csv", help="rows that could be measured, with the columns of the training"
    )
    parser.add_argument("--count", type=count_type, default=10, help="how many rows (default: %(default)s)")
    parser.add_argument(
        "--method",
        choices=("batchbald", "k-center", *SCORES),
        default="batchbald",
        help="what is best. To learn the most: batchbald, the information of all of them together, in nats; bald, that "
        "of each alone (both for classes and Gaussian noise only); k-center, rows that cover the pool; variance, the "
        "spread of the model. To find the largest target: ei, the expected improvement on --best; ucb, the mean and "
        "--beta times the spread. What it gives a row is its score (default: %(default)s)",
    )
    parser.add_argument("--best", type=finite_type, metavar="Y", help="the best target so far, for --method ei")
    about = f"standard deviations that --method ucb adds (default: {BETA})"
    parser.add_argument("--beta", type=finite_type, help=about)
    parser.add_argument("--minimize", action="store_true", help="find the smallest target, by --method ei or ucb")
    parser.add_argument("--draws", type=count_type, default=1_000, help="draws of the weights (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="write the rows to FILE instead of stdout")
    parser.add_argument("--json", action="store_true", help="write a JSON list of one object per row, instead of CSV")
    add_reading(parser)
    add_unknown(parser)
    add_seed(parser)
    add_machine(parser, "share the draws")


def _suggest(arguments: argparse.Namespace) -> None:
    if arguments.out is not None:
        output_file(arguments.out)
    _check(arguments)
    mesh = mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    _check_method(arguments.method, model)
    table = model.read(arguments.data, delimiter=arguments.delimiter, decimal=arguments.decimal)
    x = model.inputs(table, unknown=arguments.unknown)
    if arguments.count > len(x):
        do = "Pass fewer, or more rows."
        fail(InputError, f"--count of at most the {len(x)} rows of {arguments.data}", f"{arguments.count}", do)
    rows, scores = _chosen(arguments, model, x, mesh)
    columns = _columns(table, model.features, rows, scores)
    content = as_json(columns) if arguments.json else csv.text(columns)
    if arguments.out is None:
        say(content)
    else:
        files.write(arguments.out, content.encode())


def _check(arguments: argparse.Namespace) -> None:
    """Raise for options that another method has.

    Raises:
        InputError: naming the option.
    """
    method = arguments.method
    if (arguments.best is None) == (method == "ei"):
        got, do = f"--method {method} {'without' if method == 'ei' else 'with'} it", "Pass both or neither."
        fail(InputError, "--best with --method ei, and only then", got, do)
    if arguments.minimize and method not in LARGEST:
        fail(InputError, "--minimize with --method ei or ucb", f"--method {method}", "Leave it out.")
    if arguments.beta is not None and method != "ucb":
        fail(InputError, "--beta with --method ucb", f"--method {method}", "Leave it out.")


def _check_method(method: str, model: TabularModel) -> None:
    """Raise for a method that there is not for the target of a model.

    Raises:
        InputError: naming the target or its likelihood, and methods that there are for it.
    """
    if method in INFORMATION and not has_information(model.model):
        got, do = type(model.model.likelihood).__name__, "Pass --method k-center or --method variance."
        fail(InputError, f"a model of classes or of Gaussian noise with --method {method}", got, do)
    if method in LARGEST and model.classes is not None:
        do = "Pass a method that learns the most, such as --method batchbald."
        fail(InputError, f"a model of numbers with --method {method}", f"one of the classes '{model.target}'", do)


def _chosen(arguments: argparse.Namespace, model: TabularModel, x: np.ndarray, mesh: Any) -> Sequence[np.ndarray]:
    """Return the indices of the rows that are best, the best first, and their scores."""
    key, method = jax.random.key(arguments.seed), arguments.method
    how: dict[str, Any] = {"draws": arguments.draws, "mesh": mesh}
    if method not in SCORES:
        return acquisition.choose_batch(key, model.model, x, arguments.count, method=method, **how)
    if method in LARGEST:
        how["maximize"] = not arguments.minimize
        beta = BETA if arguments.beta is None else arguments.beta
        how |= {"best": arguments.best} if method == "ei" else {"beta": beta}
    scores = SCORES[method](key, model.model, x, **how)
    rows = np.argsort(-scores, kind="stable")[: arguments.count]
    return rows, scores[rows]


def _columns(table: Table, features: Sequence[str], rows: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Return the numbers of rows, counted from 1, the columns of the model as they were read, and the scores."""

    def values(name: str) -> np.ndarray:
        held = {WORDS: table.texts, DATE: table.dates}.get(table.kind(name))
        return (table.select([name])[:, 0] if held is None else held[name])[rows]

    return {
        _unlike("row", features): rows + 1,
        **{name: values(name) for name in features},
        _unlike("score", features): scores,
    }


def _unlike(name: str, features: Sequence[str]) -> str:
    """Return a name that no column has."""
    return _unlike(f"{name}_", features) if name in features else name
