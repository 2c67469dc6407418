"""The commands that predict: `bbb predict` and `bbb evaluate`."""

import argparse
from typing import Any

import numpy as np
from tqdm import tqdm

from bbb.cli.options import (
    add_prediction,
    add_reading,
    add_unknown,
    command,
    mesh_to_draw,
    positive_type,
    rate_type,
)
from bbb.cli.output import aligned, as_json, output_file, say
from bbb.cli.reporting import pictures, report
from bbb.errors import InputError, fail
from bbb.predictive.summary import Predictive
from bbb.storage import files
from bbb.storage.json_text import json_text
from bbb.tables import csv, formats, streams
from bbb.tables.model import TabularModel
from bbb.tables.table import Table


def add_predict(commands: Any) -> None:
    """Add the command `bbb predict`."""
    about = "predict every row of a table (CSV, .csv.gz, Parquet or Arrow): mean, standard deviation and interval"
    example = "bbb predict house.safetensors new.csv --interval 0.95 > predictions.csv"
    parser = command(commands, "predict", _predict, about, example)
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` wrote")
    parser.add_argument("data", metavar="NEW.csv", help="rows with the columns that the model was trained on")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="write the predictions to FILE instead of stdout, as rows are read; to a name in .parquet, as Parquet",
    )
    parser.add_argument("--json", action="store_true", help="write a JSON list of one object per row, instead of CSV")
    parser.add_argument(
        "--answer-below",
        type=positive_type,
        metavar="ENTROPY",
        help="for classes, leave the class empty where the total entropy, in nats, is not below this; "
        "`bbb evaluate --promise` finds it",
    )
    add_reading(parser)
    add_unknown(parser)
    add_prediction(parser)


def add_evaluate(commands: Any) -> None:
    """Add the command `bbb evaluate`."""
    about = "compare predictions with the target column of a table (CSV, .csv.gz, Parquet or Arrow)"
    parser = command(
        commands, "evaluate", _evaluate, about, "bbb evaluate house.safetensors test.csv --pictures report"
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` wrote")
    parser.add_argument("data", metavar="TEST.csv", help="rows with the same columns and the target")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pictures", metavar="DIR", help="also plot calibration, and predictions against observations")
    parser.add_argument("--html", metavar="FILE", help="also write the page of `bbb report` (needs plotly and jinja2)")
    parser.add_argument(
        "--promise",
        type=rate_type,
        metavar="RATE",
        help="for classes, also find the entropy below which at most this share of answers is wrong, with 95 %% "
        "confidence, by these rows, which training must not have seen",
    )
    parser.add_argument("--group", metavar="COLUMN", help="also score the rows of each value of this column apart")
    add_reading(parser)
    add_unknown(parser)
    add_prediction(parser)


def _predict(arguments: argparse.Namespace) -> None:
    if arguments.out is not None:
        output_file(arguments.out)
        if arguments.json and streams.is_parquet(arguments.out):
            got, do = f"--json --out {arguments.out}", "Leave one of them out."
            fail(InputError, "--json to be written to a file of another name than of Parquet", got, do)
    mesh = mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    if arguments.answer_below is not None and model.classes is None:
        do = "Leave it out: numbers have an interval."
        fail(InputError, "a model of classes with --answer-below", f"one of the numbers '{model.target}'", do)
    if model.calibration is not None:
        model.calibration.check_level(arguments.interval)
    level, marks = arguments.interval, {"delimiter": arguments.delimiter, "decimal": arguments.decimal}
    how = {"seed": arguments.seed, "draws": arguments.draws, "mesh": mesh, "unknown": arguments.unknown}

    def columns(rows: Table) -> dict[str, Any]:
        predictive = model.predict(rows, levels=(level,), **how)
        if not model.classes:
            return _number_columns(model, predictive, level)
        return _class_columns(model, predictive, level, arguments.answer_below)

    if arguments.out is not None and not arguments.json:
        total = formats.count_rows(arguments.data)
        with streams.writing(arguments.out) as append, tqdm(total=total, unit=" rows", delay=1, disable=None) as bar:
            for rows in model.read_pieces(arguments.data, streams.ROWS, **marks):
                append(columns(rows))
                bar.update(rows.rows)
        return
    made = columns(model.read(arguments.data, **marks))
    content = as_json(made) if arguments.json else csv.text(made)
    if arguments.out is None:
        say(content)
    else:
        files.write(arguments.out, content.encode())


def _number_columns(model: TabularModel, predictive: Predictive, level: float) -> dict[str, Any]:
    lower, upper = model.interval(predictive, level)
    columns = {
        "mean": predictive.y.mean,
        "std": predictive.y.std,
        "epistemic_std": predictive.f.std,
        "lower": lower,
        "upper": upper,
    }
    return {name: values[:, 0] for name, values in columns.items()}


def _class_columns(model: TabularModel, predictive: Predictive, level: float, below: float | None) -> dict[str, Any]:
    """Return columns of the most probable class, the probabilities of all classes, and the entropies in nats.

    The class is empty where the total entropy is not below `below`, if there is one. Of a calibrated model, there is
    also whether each class is in the set of the level.
    """
    assert model.classes is not None
    made = predictive.y
    answered = np.full(len(made.classes), True) if below is None else np.asarray(made.entropy.total) < below
    named = zip(made.classes, answered, strict=True)
    columns: dict[str, Any] = {"class": [model.classes[i] if answer else "" for i, answer in named]}
    columns |= {f"p_{name}": made.probabilities[:, i] for i, name in enumerate(model.classes)}
    if model.calibration is not None:
        sets = model.sets(predictive, level)
        columns |= {f"in_set_{name}": sets[:, i] for i, name in enumerate(model.classes)}
    kinds = ("total", "aleatoric", "epistemic")
    return columns | {f"{kind}_entropy": np.asarray(getattr(made.entropy, kind)) for kind in kinds}


def _evaluate(arguments: argparse.Namespace) -> None:
    html = None if arguments.html is None else report.place(arguments.html)
    mesh = mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    out = None if arguments.pictures is None else files.folder(arguments.pictures)
    marks = {"delimiter": arguments.delimiter, "decimal": arguments.decimal}
    rows = model.read(arguments.data, target=True, group=arguments.group, **marks)
    how = {"seed": arguments.seed, "draws": arguments.draws, "level": arguments.interval, "mesh": mesh}
    how["unknown"] = arguments.unknown
    scores = model.evaluate(rows, group=arguments.group, promise=arguments.promise, **how)
    diagnosis = model.diagnose(rows, unknown=arguments.unknown)
    drawn = [] if out is None else pictures.write(model, rows, out, **how)
    if html is not None:
        report.write(html, model, rows, arguments, mesh, scores, diagnosis)
    if arguments.json:
        say(json_text(scores | {"diagnosis": [finding._asdict() for finding in diagnosis]}))
        return
    wrote = [f"wrote {', '.join(path.name for path in drawn)} to {out}"] if drawn else []
    wrote += [f"wrote {html}"] if html is not None else []
    unseen = ["The file holds no findings of its training, which was not checked."] if model.training is None else []
    say(
        "".join(
            f"{line}\n"
            for line in (*aligned(_scores(scores)), *_groups(scores, arguments.group), diagnosis, *unseen, *wrote)
        )
    )


SHOWN_GROUPS = 10
"""The groups that are printed; --json has all of them."""


def _groups(scores: dict[str, Any], column: str | None) -> list[str]:
    """Return lines of the groups with the lowest shares of rows that are inside, or right."""
    if column is None:
        return []
    found = sorted(scores["groups"].items(), key=lambda item: (item[1]["share"], item[0]))
    what = "right" if "accuracy" in scores else f"inside the {_level(scores['level'])} interval"
    which = "by" if len(found) <= SHOWN_GROUPS else f"the lowest {SHOWN_GROUPS} of {len(found):,} by"
    texts = {name: f"{of['share']:.1%} of {of['rows']:,} rows" for name, of in found[:SHOWN_GROUPS]}
    return [f"{what}, {which} '{column}':", *(f"    {line}" for line in aligned(texts))]


def _scores(scores: dict[str, Any]) -> dict[str, str]:
    """Return the names of scores in words, and their values as texts."""
    shown = {"rows": f"{scores['rows']}", "log score, nats per row": f"{scores['log_score']:.4g}"}
    if "calibration_rows" in scores:
        what = "sets" if "accuracy" in scores else "intervals"
        shown[f"{what} calibrated by"] = f"{scores['calibration_rows']} rows held out of the training"
    if "accuracy" in scores:
        if "set_coverage" in scores:
            shown[f"inside the {_level(scores['level'])} set"] = f"{scores['set_coverage']:.1%}"
            shown["mean number of classes in it"] = f"{scores['mean_set_size']:.4g}"
        shown |= {
            "accuracy": f"{scores['accuracy']:.1%}",
            "Brier score": f"{scores['brier']:.4g}",
            "expected calibration error": f"{scores['expected_calibration_error']:.1%}",
            "AURC of errors by entropy": f"{scores['aurc']:.4g}",
        }
        return shown | (_promise(scores["promise"]) if "promise" in scores else {})
    shown |= {"RMSE": f"{scores['rmse']:.4g}", "CRPS": f"{scores['crps']:.4g}"}
    shown |= {"AURC of squared errors by std": f"{scores['aurc']:.4g}"}
    level = scores["level"]
    inside = {float(p): share for p, share in scores["coverages"].items()} | {level: scores["coverage"]}
    shown |= {f"inside the {_level(p)} interval": f"{inside[p]:.1%}" for p in sorted(inside)}
    return shown | {f"mean width of the {_level(level)} interval": f"{scores['mean_width']:.4g}"}


def _level(level: float) -> str:
    """Return a level with all its digits, such as 99.7%."""
    return f"{100 * level:.10g}%"


def _promise(rule: dict[str, Any]) -> dict[str, str]:
    """Return the threshold of a promise in words: all its digits, as `bbb predict --answer-below` takes it."""
    what = f"for at most {rule['rate']:.4g} wrong, answer below"
    of = f"{rule['wrong']:,} of {rule['answered']:,} wrong"
    return {what: f"{rule['threshold']!r} nats of entropy, {rule['coverage']:.1%} of the rows, {of}"}
