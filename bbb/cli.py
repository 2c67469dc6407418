"""The command `bbb`: data on stdout, messages on stderr; exit 0, 1 (refused), 2 (wrong usage) or 130 (Ctrl-C)."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jax.sharding import Mesh

from bbb import _check, _file, _mesh, _signals, demo, pictures, table, tasks
from bbb.summary import Predictive
from bbb.tabular import ACTIVATIONS, LIKELIHOODS, PRIORS, Recipe, TabularModel, fit_table


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = None
    try:
        _signals.raise_on_interrupt()
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
    except _check.BBBError as error:
        print(f"bbb: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has left, which is its right
        return 1
    except KeyboardInterrupt:
        folder = getattr(arguments, "checkpoint", None)
        saved = f"; go on with --checkpoint {folder} --resume" if folder else ""
        print(f"{_signals.SAID}{saved}.", file=sys.stderr)
        return _signals.INTERRUPTED
    return 0


def run() -> NoReturn:
    """Be the command: end the process with the exit status of `main`."""
    status = main()
    if status == _signals.INTERRUPTED:  # XLA's threads may be at work still, and crash if Python goes down under them
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _say(text: str) -> None:
    """Put data on stdout, at once.

    Raises:
        BrokenPipeError: if nobody reads it any more.
        WriteError: if it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again when it ends
        if isinstance(error, BrokenPipeError):
            raise
        do = "Check that it may be written, and has room."
        raise _check.WriteError(f"Expected to be able to write to stdout, got: {error.strerror}. {do}") from error


def _parser() -> argparse.ArgumentParser:
    from bbb import __version__  # noqa: PLC0415 - the package is whole only once this module is loaded

    parser = argparse.ArgumentParser(prog="bbb", description="Error bars for networks: Bayes by backprop in JAX.")
    parser.add_argument("--version", action="version", version=f"bbb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_fit(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    return parser


def _add_demo(commands: Any) -> None:
    default = tasks.Settings()
    about = "train on y = x⁵ − 10x + noise, and draw the answer with its band"
    parser = _command(
        commands, "demo", _demo, about, "bbb demo --objective elbo --hidden 20 --prior-std 3 --steps 8000"
    )
    parser.add_argument("--out", default="bbb-demo", metavar="DIR", help="folder to write to (default: %(default)s)")
    parser.add_argument("--steps", type=_whole, default=default.steps, help="Adam steps (default: %(default)s)")
    parser.add_argument("--draws", type=_whole, default=default.draws, help="draws (default: %(default)s)")
    parser.add_argument("--hidden", type=_whole, default=default.hidden, help="hidden units (default: %(default)s)")
    parser.add_argument(
        "--prior-std", type=_positive, default=default.prior_std, help="the prior's sd (default: %(default)s)"
    )
    parser.add_argument(
        "--objective",
        choices=demo.OBJECTIVES,
        default="torchbnn",
        help="torchbnn: MSE + 0.01·KL/P, as published; elbo: the evidence lower bound, with learned noise",
    )
    _add_seed(parser)
    _add_devices(parser, "share the rows of each step, and the draws")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def _add_fit(commands: Any) -> None:
    default = Recipe()
    about = "learn to predict one column of a CSV file from the others"
    parser = _command(commands, "fit", _fit, about, "bbb fit train.csv --target price --out house.safetensors")
    parser.add_argument("data", metavar="DATA.csv", help="training rows: a header line, then numbers (or classes)")
    parser.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    parser.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="leave a column out (repeatable)")
    parser.add_argument("--out", default="model.safetensors", metavar="MODEL", help="(default: %(default)s)")
    parser.add_argument(
        "--hidden",
        type=_widths,
        default=default.widths,
        metavar="UNITS[,UNITS]",
        help=f"hidden units, of each layer (default: {default.hidden})",
    )
    parser.add_argument(
        "--activation", choices=tuple(ACTIVATIONS), default=default.activation, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--learning-rate",
        type=_positive,
        default=default.learning_rate,
        help="Adam's at the start; it falls to 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=_whole, default=default.batch_size, help="rows a step (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=_whole, default=default.epochs, help="passes over the rows (default: %(default)s)"
    )
    parser.add_argument(
        "--likelihood",
        choices=("auto", *LIKELIHOODS),
        default=default.likelihood,
        help="what the target is; auto: words, or 0 and 1, are classes, whole numbers from 0 counts, others numbers",
    )
    parser.add_argument("--prior", choices=tuple(PRIORS), default=default.prior, help="(default: %(default)s)")
    parser.add_argument(
        "--restarts",
        type=_whole,
        default=default.restarts,
        help="starts, predicted as a mixture (default: %(default)s)",
    )
    parser.add_argument(
        "--validation",
        type=_share,
        default=default.validation,
        metavar="SHARE",
        help="rows to hold out, to stop at the best log score on them (default: none)",
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="save the training here every minute or sooner")
    parser.add_argument("--every", type=_whole, metavar="STEPS", help="steps between two saves (default: by time)")
    parser.add_argument("--resume", action="store_true", help="go on from DIR, or start afresh where it holds nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, and no message but errors")
    _add_seed(parser)
    _add_devices(parser, "share the restarts if N divides their number, else the rows of each step")


def _add_predict(commands: Any) -> None:
    about = "predict every row of a CSV file: mean, sd and interval"
    example = "bbb predict house.safetensors new.csv --interval 0.95 > predictions.csv"
    parser = _command(commands, "predict", _predict, about, example)
    parser.add_argument("model", metavar="MODEL", help="what `bbb fit` wrote")
    parser.add_argument("data", metavar="NEW.csv", help="rows with the columns the model was trained on")
    parser.add_argument("--out", metavar="FILE", help="write them here instead of to stdout")
    parser.add_argument("--json", action="store_true", help="write a JSON list of one object a row, instead of CSV")
    _add_prediction(parser)


def _add_evaluate(commands: Any) -> None:
    about = "compare predictions with the target column of a CSV file"
    parser = _command(
        commands, "evaluate", _evaluate, about, "bbb evaluate house.safetensors test.csv --pictures report"
    )
    parser.add_argument("model", metavar="MODEL", help="what `bbb fit` wrote")
    parser.add_argument("data", metavar="TEST.csv", help="rows with those columns and the target")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pictures", metavar="DIR", help="also draw calibration, and predictions beside observations")
    _add_prediction(parser)


def _command(commands: Any, name: str, run: Callable[[Any], None], about: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


def _add_prediction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval", type=_level, default=0.95, metavar="LEVEL", help="share inside (default: %(default)s)"
    )
    parser.add_argument("--draws", type=_whole, default=10_000, help="draws (default: %(default)s)")
    _add_seed(parser)
    _add_devices(parser, "share the draws")


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=_seed, default=0, help="same seed, same numbers (default: %(default)s)")


def _add_devices(parser: argparse.ArgumentParser, share: str) -> None:
    about = f"CPU devices that {share} (default: leave it to JAX; more than there are cores take turns)"
    parser.add_argument("--devices", type=_devices, metavar="N", help=about)


def _demo(arguments: argparse.Namespace) -> None:
    mesh = _mesh_to_train(arguments.devices, len(tasks.regression().x))
    out = _file.folder(arguments.out)  # before the work, not after it
    names = ("hidden", "prior_std", "steps", "draws")
    settings = dataclasses.replace(tasks.Settings(), **{name: getattr(arguments, name) for name in names})
    made = demo.run(settings, seed=arguments.seed, objective=arguments.objective, mesh=mesh)
    paths = demo.write(made, out)
    if arguments.json:
        _say(json.dumps(made.summary, indent=2) + "\n")
        return
    summary, seconds = made.summary, made.summary["seconds"]
    parts = ", ".join(f"{name} {seconds[name]:.2f}" for name in ("compile", "training", "prediction"))
    lines = (
        f"{settings.steps:,} steps and {settings.draws:,} draws at {summary['settings']['test_rows']} points",
        f"RMSE against the clean target   {summary['rmse_clean']:.3f}",
        f"mean width of the ±3 sd band    {summary['mean_band_width']:.3f}",
        f"fresh y inside the band of f    {summary['coverage_f_band']:.1%}",
        f"fresh y inside the band of y    {summary['coverage_y_band']:.1%}",
        f"seconds                         {parts}",
        demo.noise_line(summary),
        demo.training_line(made.history),
        f"wrote {', '.join(path.name for path in paths)} to {out}",
    )
    _say("".join(f"{line}\n" for line in lines))


def _fit(arguments: argparse.Namespace) -> None:
    out = _out(arguments.out)
    if arguments.target in arguments.drop:
        _check.fail(_check.InputError, "a target that is kept", f"--drop {arguments.target}", "Drop another column.")
    if arguments.resume and arguments.checkpoint is None:
        _check.fail(_check.InputError, "--checkpoint DIR with --resume", "--resume alone", "Name the folder.")
    if arguments.every is not None and arguments.checkpoint is None:
        got, do = f"--every {arguments.every} alone", "Name the folder."
        _check.fail(_check.InputError, "--checkpoint DIR with --every", got, do)
    data = table.read(arguments.data, drop=arguments.drop, labels=arguments.target)
    names = {field.name for field in dataclasses.fields(Recipe)} & vars(arguments).keys()
    recipe = Recipe(**{name: getattr(arguments, name) for name in names})
    mesh = _mesh_to_train(arguments.devices, recipe.rows_a_step(len(data.values)), recipe.restarts)
    how: dict[str, Any] = {name: getattr(arguments, name) for name in ("seed", "checkpoint", "every", "resume")}
    how["progress"] = False if arguments.quiet else None
    model, history = fit_table(data, arguments.target, recipe=recipe, mesh=mesh, **how)
    model.save(out)
    if arguments.quiet:
        return
    print(
        f"learned {_kind(model)} {arguments.target} from {len(model.features)} columns of {len(data.values)} rows: "
        f"negative ELBO {history.negative_elbo[-1].mean():.1f} nats{_noise(model)}; wrote {out}",
        file=sys.stderr,
    )
    for finding in model.training or ():
        print(f"{finding.name}: {finding.seen}. {finding.advice}", file=sys.stderr)


def _mesh_to_train(devices: int | None, rows: int, restarts: int | None = None) -> Mesh | None:
    """Spread the restarts over devices, as they share nothing, or the rows of a step; refuse what N does not divide.

    Args:
        devices: N, if it was asked for.
        rows: how many a step trains on.
        restarts: how many; None where there is no such option.
    """
    if devices is None:
        return None
    shared = {"batch": rows} if restarts is None else {"restarts": restarts, "batch": rows}

    def fitting(devices: int) -> list[str]:
        return [axis for axis, count in shared.items() if count % devices == 0]

    axes = fitting(devices)
    if not axes:
        expected, do = f"--devices to divide the {rows} rows of a training step", "Pass --devices "
        do += f"{max(filter(fitting, range(1, devices)))}"
        if restarts is not None:
            expected += f", or the number of restarts, {restarts}"
            do += f", or --restarts {devices}"
        _check.fail(_check.InputError, expected, f"{devices}", f"{do}.")
    return _mesh.cpus(devices, axes[0])


def _mesh_to_draw(devices: int | None) -> Mesh | None:
    """Spread draws over so many CPU devices, if they were asked for: before a model is read, which wants a device."""
    return None if devices is None else _mesh.cpus(devices, "draws")


def _out(name: str) -> Path:
    """Make the folder of a file to write ready, before the work."""
    out = Path(name)
    if out.exists() and not out.is_file():
        kind = "folder" if out.is_dir() else "device or pipe"
        raise _check.WriteError(f"Expected --out to be a file, got the {kind} {out}. Pass a file's name.")
    _file.folder(out.parent)
    return out


def _kind(model: TabularModel) -> str:
    """Say what the target was taken for."""
    if model.classes is not None:
        return f"the {len(model.classes)} classes of"
    return "counts of" if model.is_count else "measurements of"


def _noise(model: TabularModel) -> str:
    return "" if model.noise_std is None else f", noise sd {model.noise_std:.4g}"


def _predict(arguments: argparse.Namespace) -> None:
    if arguments.out is not None:
        _out(arguments.out)
    mesh = _mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    rows = table.read(arguments.data, only=model.features)
    level = arguments.interval
    predictive = model.predict(rows, seed=arguments.seed, draws=arguments.draws, levels=(level,), mesh=mesh)
    columns = _class_columns(model, predictive) if model.classes else _number_columns(predictive, level)
    content = _json(columns) if arguments.json else table.text(columns)
    if arguments.out is None:
        _say(content)
    else:
        _file.write(arguments.out, content.encode())


def _json(columns: dict[str, Any]) -> str:
    """Write columns as a JSON list of one object a row."""
    lists = [np.asarray(values).tolist() for values in columns.values()]
    return json.dumps([dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)], indent=1) + "\n"


def _number_columns(predictive: Predictive, level: float) -> dict[str, Any]:
    lower, upper = predictive.y.interval(level)
    columns = {
        "mean": predictive.y.mean,
        "std": predictive.y.std,
        "epistemic_std": predictive.f.std,
        "lower": lower,
        "upper": upper,
    }
    return {name: values[:, 0] for name, values in columns.items()}


def _class_columns(model: TabularModel, predictive: Predictive) -> dict[str, Any]:
    """Return the most probable class, the probability of each, and how unsure that is: in nats, and of which kind."""
    assert model.classes is not None
    made = predictive.y
    columns: dict[str, Any] = {"class": [model.classes[i] for i in made.classes]}
    columns |= {f"p_{name}": made.probabilities[:, i] for i, name in enumerate(model.classes)}
    kinds = ("total", "aleatoric", "epistemic")
    return columns | {f"{kind}_entropy": np.asarray(getattr(made.entropy, kind)) for kind in kinds}


def _evaluate(arguments: argparse.Namespace) -> None:
    mesh = _mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    out = None if arguments.pictures is None else _file.folder(arguments.pictures)
    rows = table.read(arguments.data, only=(*model.features, model.target), labels=_labels(model))
    how = {"seed": arguments.seed, "draws": arguments.draws, "level": arguments.interval, "mesh": mesh}
    scores = model.evaluate(rows, **how)
    diagnosis = model.diagnose(rows)
    drawn = [] if out is None else pictures.write(model, rows, out, **how)
    if arguments.json:
        _say(json.dumps(scores | {"diagnosis": [finding._asdict() for finding in diagnosis]}, indent=2) + "\n")
        return
    wrote = [f"wrote {', '.join(path.name for path in drawn)} to {out}"] if drawn else []
    unseen = ["The file says nothing of its training, which was not looked at."] if model.training is None else []
    _say("".join(f"{line}\n" for line in (*_report(scores), diagnosis, *unseen, *wrote)))


def _labels(model: TabularModel) -> str:
    """Name the column that may hold words."""
    return "" if model.classes is None else model.target


def _report(scores: dict[str, Any]) -> list[str]:
    lines = [f"rows                       {scores['rows']}", f"log score, nats a row      {scores['log_score']:.4g}"]
    if "accuracy" in scores:
        return [
            *lines,
            f"accuracy                   {scores['accuracy']:.1%}",
            f"Brier score                {scores['brier']:.4g}",
            f"expected calibration error {scores['expected_calibration_error']:.1%}",
        ]
    inside = (f"inside the {float(p):.1%} interval  {share:.1%}" for p, share in scores["coverages"].items())
    return [
        *lines,
        f"RMSE                       {scores['rmse']:.4g}",
        f"CRPS                       {scores['crps']:.4g}",
        *inside,
        f"inside the {scores['level']:.4g} interval   {scores['coverage']:.1%}",
        f"mean width of the interval {scores['mean_width']:.4g}",
    ]


def _typed(read: Callable[[str], Any], good: Callable[[Any], bool], expected: str) -> Callable[[str], Any]:
    """Make an argparse type that says what was expected and what came."""

    def convert(text: str) -> Any:
        try:
            value = read(text)
        except ValueError:
            value = None
        if value is None or not good(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return convert


def _read_widths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


_widths = _typed(
    _read_widths,
    lambda value: all(width >= 1 for width in value),
    "a whole number of at least 1 for each hidden layer, such as 64,64",
)
_whole = _typed(int, lambda value: value >= 1, "a whole number of at least 1")
_devices = _typed(
    int, lambda value: 1 <= value <= _mesh.most_cpus(), f"a whole number of devices from 1 to {_mesh.most_cpus()}"
)
_seed = _typed(int, lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647")
_share = _typed(float, lambda value: 0 <= value < 1, "a share of the rows from 0 to below 1, such as 0.1")
_level = _typed(float, lambda value: 0 < value < 1, "a number inside (0, 1), such as 0.95")
_positive = _typed(float, lambda value: 0 < value < float("inf"), "a finite number above 0")
