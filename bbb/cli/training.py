"""The command `bbb fit`."""

import argparse
import dataclasses
import sys
from typing import Any

from bbb.cli.options import (
    add_machine,
    add_reading,
    add_seed,
    command,
    count_type,
    mesh_to_train,
    positive_type,
    share_type,
    widths_type,
)
from bbb.cli.output import output_file
from bbb.errors import InputError, fail
from bbb.inference import METHODS
from bbb.networks import nn
from bbb.tables.encoding import MISSING, REFUSE
from bbb.tables.fit import fit_table
from bbb.tables.formats import read
from bbb.tables.model import TabularModel
from bbb.tables.recipe import AUTO, LIKELIHOODS, PRIORS, Recipe
from bbb.tables.table import ANY, WORDS, Table
from bbb.train.options import Checkpointing

STRUCTURES = {
    "full": "full: all correlations",
    "last_layer": "of the last layer alone: all weights would not fit in memory",
    "low_rank": "of low rank: all weights, or a last layer, would not fit in memory",
}
"""Structures of a Laplace posterior in words."""


def add_fit(commands: Any) -> None:
    """Add the command `bbb fit`."""
    about = "learn to predict one column of a table (CSV, .csv.gz, Parquet or Arrow) from the others"
    parser = command(
        commands,
        "fit",
        _fit,
        about,
        "bbb fit train.csv --target price --posterior laplace --restarts 3 --out house.safetensors",
    )
    parser.add_argument(
        "data", metavar="DATA.csv", help="training rows: a header line, then numbers, words or dates such as 2026-01-31"
    )
    parser.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    _add_columns(parser)
    parser.add_argument(
        "--group",
        metavar="COLUMN",
        help="rows with one value of this column, which is no input, belong together: --validation and --calibrate "
        "hold out all of them or none",
    )
    add_reading(parser)
    parser.add_argument("--out", default="model.safetensors", metavar="MODEL", help="(default: %(default)s)")
    _add_recipe(parser)
    parser.add_argument("--checkpoint", metavar="DIR", help="save checkpoints here, at least every minute")
    parser.add_argument(
        "--every", type=count_type, metavar="STEPS", help="steps between checkpoints (default: by time)"
    )
    parser.add_argument("--resume", action="store_true", help="continue from DIR, or start anew if it is empty")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, and no messages except errors")
    add_seed(parser)
    add_machine(parser, "share the restarts if N divides their number, else the rows of each step")


def _add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to do with the columns."""
    parser.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="leave a column out (repeatable)")
    parser.add_argument(
        "--categorical",
        action="append",
        default=[],
        metavar="COLUMN",
        help="take the numbers of a column for the names of categories, such as postal codes (repeatable)",
    )
    parser.add_argument(
        "--missing",
        choices=MISSING,
        default=REFUSE,
        help="empty cells of the columns to predict from; median: that of the column, of words the most frequent; "
        "indicator: also a column of 0 and 1 that tells them (default: %(default)s)",
    )


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options that are fields of `Recipe`."""
    default = Recipe()
    parser.add_argument(
        "--hidden",
        type=widths_type,
        default=default.widths,
        metavar="UNITS[,UNITS]",
        help=f"hidden units, of each layer (default: {default.hidden})",
    )
    parser.add_argument(
        "--activation",
        choices=(AUTO, *nn.ACTIVATIONS),
        default=default.activation,
        help="auto: gelu, or relu with mean_field",
    )
    parser.add_argument(
        "--learning-rate",
        type=positive_type,
        default=default.learning_rate,
        help="Adam's learning rate at the start; it falls to 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=count_type, default=default.batch_size, help="rows per step (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=count_type, default=default.epochs, help="passes over the rows (default: %(default)s)"
    )
    parser.add_argument(
        "--likelihood",
        choices=(AUTO, *LIKELIHOODS),
        default=default.likelihood,
        help="kind of target; auto: words, or 0 and 1, are classes, whole numbers from 0 counts, others measurements",
    )
    parser.add_argument(
        "--posterior",
        choices=(AUTO, *METHODS),
        default=default.posterior,
        help="mean_field: independent Gaussians; laplace: around their means, a Gaussian of the curvature of the data, "
        "whose spread grows between the rows; hmc: draws of Markov chains from there, for up to some thousand rows and "
        "weights; both with prior and noise by the evidence, unless that would take minutes; auto: laplace for "
        "measurements with Gaussian noise and a Gaussian prior, else mean_field",
    )
    _add_beliefs(parser)


def _add_beliefs(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is believed before, and of the rows that are held out."""
    default = Recipe()
    parser.add_argument("--prior", choices=tuple(PRIORS), default=default.prior, help="(default: %(default)s)")
    parser.add_argument(
        "--restarts",
        type=count_type,
        default=default.restarts,
        help="number of posteriors, which predict as a mixture (default: %(default)s)",
    )
    parser.add_argument(
        "--validation",
        type=share_type,
        default=default.validation,
        metavar="SHARE",
        help="share of rows to hold out, to stop at the best log score on them; the posterior is that of the others "
        "(default: none)",
    )
    parser.add_argument(
        "--calibrate",
        type=share_type,
        default=default.calibrate,
        metavar="SHARE",
        help="share of rows to hold out of everything, so that the intervals of `bbb predict`, or sets of classes, "
        "hold new rows with the probability asked for, also where the model is wrong (default: none)",
    )


def _fit(arguments: argparse.Namespace) -> None:
    out = output_file(arguments.out)
    if arguments.target in arguments.drop:
        got, do = f"--drop {arguments.target}", "Drop another column."
        fail(InputError, "a target that is not dropped", got, do)
    if arguments.resume and arguments.checkpoint is None:
        fail(InputError, "--checkpoint DIR with --resume", "--resume alone", "Name the folder.")
    if arguments.every is not None and arguments.checkpoint is None:
        got, do = f"--every {arguments.every} alone", "Name the folder."
        fail(InputError, "--checkpoint DIR with --every", got, do)
    if arguments.group is not None:
        if not (arguments.validation or arguments.calibrate):
            got, do = f"--group {arguments.group} alone", "Pass for example --validation 0.1."
            fail(InputError, "--validation SHARE or --calibrate SHARE with --group", got, do)
        if arguments.group in (arguments.target, *arguments.drop):
            got, do = f"--group {arguments.group}", "Name another column."
            fail(InputError, "a group that is neither the target nor dropped", got, do)
    data = _read(arguments)
    names = {field.name for field in dataclasses.fields(Recipe)} & vars(arguments).keys()
    recipe = Recipe(**{name: getattr(arguments, name) for name in names})
    mesh = mesh_to_train(arguments.devices, recipe.rows_a_step(data.rows), recipe.restarts)
    checkpoints = None
    if arguments.checkpoint is not None:
        checkpoints = Checkpointing(arguments.checkpoint, every=arguments.every, resume=arguments.resume)
    model, history = fit_table(
        data,
        arguments.target,
        recipe=recipe,
        group=arguments.group,
        seed=arguments.seed,
        checkpoints=checkpoints,
        placement=mesh,
        progress=False if arguments.quiet else None,
    )
    model.save(out)
    if arguments.quiet:
        return
    print(
        f"learned {_kind(model)} {arguments.target} from {len(model.features)} columns of {data.rows} rows: "
        f"negative ELBO {history.negative_elbo[-1].mean():.1f} nats{_noise(model)}{_posterior(model)}"
        f"{_calibration(model)}; wrote {out}",
        file=sys.stderr,
    )
    for finding in model.training or ():
        print(f"{finding.name}: {finding.seen}. {finding.advice}", file=sys.stderr)


def _read(arguments: argparse.Namespace) -> Table:
    """Return the training rows."""
    for name in arguments.categorical:
        if name in arguments.drop:
            got, do = f"--drop {name} --categorical {name}", "Leave one of them out."
            fail(InputError, "no column that is dropped to be categorical", got, do)
    words = [*arguments.categorical, *([arguments.group] if arguments.group else [])]
    return read(
        arguments.data,
        drop=arguments.drop,
        labels=arguments.target,
        kinds={arguments.target: ANY} | dict.fromkeys(words, WORDS),  # a column that is named must be there
        holes=arguments.missing != REFUSE,
        delimiter=arguments.delimiter,
        decimal=arguments.decimal,
    )


def _kind(model: TabularModel) -> str:
    """Return the kind of the target in words."""
    if model.classes is not None:
        return f"the {len(model.classes)} classes of"
    return "counts of" if model.is_count else "measurements of"


def _noise(model: TabularModel) -> str:
    return "" if model.noise_std is None else f", noise sd {model.noise_std:.4g}"


def _posterior(model: TabularModel) -> str:
    """Return what a Laplace posterior keeps of the curvature, or how many draws there are, in words."""
    if model.model.posterior.holds_draws:
        return f"; {model.model.members:,} draws of Markov chains"
    return "" if model.structure is None else f"; Laplace posterior, {STRUCTURES.get(model.structure, model.structure)}"


def _calibration(model: TabularModel) -> str:
    """Return by how many rows a model is calibrated, and for which levels these suffice, in words."""
    if model.calibration is None:
        return ""
    what = "intervals" if model.classes is None else "sets of classes"
    return f"; {what} up to {model.calibration.highest_level():.4g} calibrated by {model.calibration.rows} of the rows"
