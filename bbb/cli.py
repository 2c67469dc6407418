"""The command `bbb`: data on stdout, messages on stderr; exit status 0, 1 (error), 2 (wrong usage) or 130 (Ctrl-C)."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jax.sharding import Mesh

from bbb import _check, _file, _mesh, _signals, demo, nn, pictures, table, tasks
from bbb.options import Checkpointing
from bbb.summary import Predictive
from bbb.tabular import LIKELIHOODS, PRIORS, Recipe, TabularModel, fit_table


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
    except BrokenPipeError:  # the reader of the output has closed the pipe
        return 1
    except KeyboardInterrupt:
        folder = getattr(arguments, "checkpoint", None)
        saved = f"; continue with --checkpoint {folder} --resume" if folder else ""
        print(f"{_signals.SAID}{saved}.", file=sys.stderr)
        return _signals.INTERRUPTED
    return 0


def run() -> NoReturn:
    """Run the command, and end the process with the exit status of `main`."""
    status = main()
    if status == _signals.INTERRUPTED:  # XLA's threads may still be running, and crash if Python shuts down
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def say(text: str) -> None:
    """Write data to stdout, and flush it.

    Raises:
        BrokenPipeError: if the reader has closed the pipe.
        WriteError: if it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python flushes again when it ends
        if isinstance(error, BrokenPipeError):
            raise
        do = "Check its permissions, and the space that is left."
        raise _check.WriteError(f"Expected to be able to write to stdout, got: {error.strerror}. {do}") from error


def _parser() -> argparse.ArgumentParser:
    from bbb import __version__  # noqa: PLC0415 - the package is complete only once this module is loaded

    parser = argparse.ArgumentParser(prog="bbb", description="Error bars for networks: Bayes by backprop in JAX.")
    parser.add_argument("--version", action="version", version=f"bbb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_demo(commands)
    add_fit(commands)
    add_predict(commands)
    add_evaluate(commands)
    return parser


def add_demo(commands: Any) -> None:
    """Add the command `bbb demo`."""
    default = tasks.Settings()
    about = "train on y = x⁵ − 10x + noise, and plot the prediction with its band"
    parser = command(commands, "demo", _demo, about, "bbb demo --objective elbo --hidden 20 --prior-std 3 --steps 8000")
    parser.add_argument("--out", default="bbb-demo", metavar="DIR", help="folder to write to (default: %(default)s)")
    parser.add_argument("--steps", type=count_type, default=default.steps, help="Adam steps (default: %(default)s)")
    parser.add_argument("--draws", type=count_type, default=default.draws, help="draws (default: %(default)s)")
    parser.add_argument("--hidden", type=count_type, default=default.hidden, help="hidden units (default: %(default)s)")
    parser.add_argument(
        "--prior-std", type=positive_type, default=default.prior_std, help="std of the prior (default: %(default)s)"
    )
    parser.add_argument(
        "--objective",
        choices=demo.OBJECTIVES,
        default="torchbnn",
        help="torchbnn: MSE + 0.01·KL/P, as published; elbo: the evidence lower bound, with learned noise",
    )
    add_seed(parser)
    add_devices(parser, "share the rows of each step, and the draws")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def add_fit(commands: Any) -> None:
    """Add the command `bbb fit`."""
    about = "learn to predict one column of a CSV file from the others"
    parser = command(commands, "fit", _fit, about, "bbb fit train.csv --target price --out house.safetensors")
    parser.add_argument("data", metavar="DATA.csv", help="training rows: a header line, then numbers (or classes)")
    parser.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    parser.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="leave a column out (repeatable)")
    parser.add_argument("--out", default="model.safetensors", metavar="MODEL", help="(default: %(default)s)")
    _add_recipe(parser)
    parser.add_argument("--checkpoint", metavar="DIR", help="save checkpoints here, at least every minute")
    parser.add_argument(
        "--every", type=count_type, metavar="STEPS", help="steps between checkpoints (default: by time)"
    )
    parser.add_argument("--resume", action="store_true", help="continue from DIR, or start anew if it is empty")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, and no messages except errors")
    add_seed(parser)
    add_devices(parser, "share the restarts if N divides their number, else the rows of each step")


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
        "--activation", choices=tuple(nn.ACTIVATIONS), default=default.activation, help="(default: %(default)s)"
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
        choices=("auto", *LIKELIHOODS),
        default=default.likelihood,
        help="kind of target; auto: words, or 0 and 1, are classes, whole numbers from 0 counts, others measurements",
    )
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
        help="share of rows to hold out, to stop at the best log score on them (default: none)",
    )


def add_predict(commands: Any) -> None:
    """Add the command `bbb predict`."""
    about = "predict every row of a CSV file: mean, standard deviation and interval"
    example = "bbb predict house.safetensors new.csv --interval 0.95 > predictions.csv"
    parser = command(commands, "predict", _predict, about, example)
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` wrote")
    parser.add_argument("data", metavar="NEW.csv", help="rows with the columns that the model was trained on")
    parser.add_argument("--out", metavar="FILE", help="write the predictions to FILE instead of stdout")
    parser.add_argument("--json", action="store_true", help="write a JSON list of one object per row, instead of CSV")
    add_prediction(parser)


def add_evaluate(commands: Any) -> None:
    """Add the command `bbb evaluate`."""
    about = "compare predictions with the target column of a CSV file"
    parser = command(
        commands, "evaluate", _evaluate, about, "bbb evaluate house.safetensors test.csv --pictures report"
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `bbb fit` wrote")
    parser.add_argument("data", metavar="TEST.csv", help="rows with the same columns and the target")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pictures", metavar="DIR", help="also plot calibration, and predictions against observations")
    add_prediction(parser)


def command(
    commands: Any, name: str, function: Callable[[Any], None], about: str, example: str
) -> argparse.ArgumentParser:
    """Add a command, which calls `function(arguments)`, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, epilog=f"example: {example}"
    )
    parser.set_defaults(run=function)
    return parser


def add_prediction(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that predict."""
    parser.add_argument(
        "--interval", type=level_type, default=0.95, metavar="LEVEL", help="its probability (default: %(default)s)"
    )
    parser.add_argument("--draws", type=count_type, default=10_000, help="draws of the weights (default: %(default)s)")
    add_seed(parser)
    add_devices(parser, "share the draws")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add the option --seed."""
    parser.add_argument("--seed", type=seed_type, default=0, help="seed of all random numbers (default: %(default)s)")


def add_devices(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option --devices; `purpose` says what the devices do."""
    about = f"number of CPU devices that {purpose} (default: JAX's devices)"
    parser.add_argument("--devices", type=devices_type, metavar="N", help=about)


def _demo(arguments: argparse.Namespace) -> None:
    mesh = _mesh_to_train(arguments.devices, len(tasks.regression().x))
    out = _file.folder(arguments.out)  # before training, so that a failure costs no time
    names = ("hidden", "prior_std", "steps", "draws")
    settings = dataclasses.replace(tasks.Settings(), **{name: getattr(arguments, name) for name in names})
    made = demo.run(settings, seed=arguments.seed, objective=arguments.objective, mesh=mesh)
    paths = demo.write(made, out)
    if arguments.json:
        say(json.dumps(made.summary, indent=2) + "\n")
        return
    summary, seconds = made.summary, made.summary["seconds"]
    parts = ", ".join(f"{name} {seconds[name]:.2f}" for name in ("compile", "training", "prediction"))
    lines = (
        f"{settings.steps:,} steps and {settings.draws:,} draws at {summary['settings']['test_rows']} points",
        *aligned(
            {
                "RMSE against the clean target": f"{summary['rmse_clean']:.3f}",
                f"mean width of the ±{settings.sigmas:g} sd band": f"{summary['mean_band_width']:.3f}",
                "new y inside the band of f": f"{summary['coverage_f_band']:.1%}",
                "new y inside the band of y": f"{summary['coverage_y_band']:.1%}",
                "seconds": parts,
            }
        ),
        demo.noise_line(summary),
        demo.training_line(made.history),
        f"wrote {', '.join(path.name for path in paths)} to {out}",
    )
    say("".join(f"{line}\n" for line in lines))


def _fit(arguments: argparse.Namespace) -> None:
    out = output_file(arguments.out)
    if arguments.target in arguments.drop:
        got, do = f"--drop {arguments.target}", "Drop another column."
        _check.fail(_check.InputError, "a target that is not dropped", got, do)
    if arguments.resume and arguments.checkpoint is None:
        _check.fail(_check.InputError, "--checkpoint DIR with --resume", "--resume alone", "Name the folder.")
    if arguments.every is not None and arguments.checkpoint is None:
        got, do = f"--every {arguments.every} alone", "Name the folder."
        _check.fail(_check.InputError, "--checkpoint DIR with --every", got, do)
    data = table.read(arguments.data, drop=arguments.drop, labels=arguments.target)
    names = {field.name for field in dataclasses.fields(Recipe)} & vars(arguments).keys()
    recipe = Recipe(**{name: getattr(arguments, name) for name in names})
    mesh = _mesh_to_train(arguments.devices, recipe.rows_a_step(len(data.values)), recipe.restarts)
    checkpoints = None
    if arguments.checkpoint is not None:
        checkpoints = Checkpointing(arguments.checkpoint, every=arguments.every, resume=arguments.resume)
    model, history = fit_table(
        data,
        arguments.target,
        recipe=recipe,
        seed=arguments.seed,
        checkpoints=checkpoints,
        placement=mesh,
        progress=False if arguments.quiet else None,
    )
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
    """Return a mesh of devices that share the restarts, which are independent, or else the rows of each step.

    Args:
        devices: the number N of devices; None for no mesh.
        rows: the number of rows per step.
        restarts: the number of restarts; None if the command has no such option.

    Raises:
        InputError: if N divides neither number.
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
    """Return a mesh of CPU devices that share the draws, or None; to be called before a model is read onto a device."""
    return None if devices is None else _mesh.cpus(devices, "draws")


def output_file(name: str) -> Path:
    """Return the path of a file to write, and make its folder, so that errors come before the computation.

    Raises:
        WriteError: if there is something other than a file, or the folder cannot be made.
    """
    out = Path(name)
    if out.exists() and not out.is_file():
        kind = "folder" if out.is_dir() else "device or pipe"
        raise _check.WriteError(f"Expected --out to be a file, got the {kind} {out}. Pass a file's name.")
    _file.folder(out.parent)
    return out


def _kind(model: TabularModel) -> str:
    """Return the kind of the target in words."""
    if model.classes is not None:
        return f"the {len(model.classes)} classes of"
    return "counts of" if model.is_count else "measurements of"


def _noise(model: TabularModel) -> str:
    return "" if model.noise_std is None else f", noise sd {model.noise_std:.4g}"


def _predict(arguments: argparse.Namespace) -> None:
    if arguments.out is not None:
        output_file(arguments.out)
    mesh = _mesh_to_draw(arguments.devices)
    model = TabularModel.load(arguments.model)
    rows = table.read(arguments.data, only=model.features)
    level = arguments.interval
    predictive = model.predict(rows, seed=arguments.seed, draws=arguments.draws, levels=(level,), mesh=mesh)
    columns = _class_columns(model, predictive) if model.classes else _number_columns(predictive, level)
    content = as_json(columns) if arguments.json else table.text(columns)
    if arguments.out is None:
        say(content)
    else:
        _file.write(arguments.out, content.encode())


def as_json(columns: dict[str, Any]) -> str:
    """Return columns as a JSON list of one object per row."""
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
    """Return columns of the most probable class, the probabilities of all classes, and the entropies in nats."""
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
        say(json.dumps(scores | {"diagnosis": [finding._asdict() for finding in diagnosis]}, indent=2) + "\n")
        return
    wrote = [f"wrote {', '.join(path.name for path in drawn)} to {out}"] if drawn else []
    unseen = ["The file holds no findings of its training, which was not checked."] if model.training is None else []
    say("".join(f"{line}\n" for line in (*aligned(_scores(scores)), diagnosis, *unseen, *wrote)))


def _labels(model: TabularModel) -> str:
    """Return the name of the column that may hold words."""
    return "" if model.classes is None else model.target


def _scores(scores: dict[str, Any]) -> dict[str, str]:
    """Return the names of scores in words, and their values as texts."""
    shown = {"rows": f"{scores['rows']}", "log score, nats per row": f"{scores['log_score']:.4g}"}
    if "accuracy" in scores:
        return shown | {
            "accuracy": f"{scores['accuracy']:.1%}",
            "Brier score": f"{scores['brier']:.4g}",
            "expected calibration error": f"{scores['expected_calibration_error']:.1%}",
        }
    shown |= {"RMSE": f"{scores['rmse']:.4g}", "CRPS": f"{scores['crps']:.4g}"}
    shown |= {f"inside the {float(p):.1%} interval": f"{inside:.1%}" for p, inside in scores["coverages"].items()}
    return shown | {
        f"inside the {scores['level']:.4g} interval": f"{scores['coverage']:.1%}",
        "mean width of that interval": f"{scores['mean_width']:.4g}",
    }


def aligned(texts: Mapping[str, str]) -> list[str]:
    """Return one line for each name and its text, with all texts in one column."""
    width = max(map(len, texts))
    return [f"{name:<{width}}  {text}" for name, text in texts.items()]


def _typed(read: Callable[[str], Any], good: Callable[[Any], bool], expected: str) -> Callable[[str], Any]:
    """Return an argparse type, whose errors say what was expected and what came."""

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


widths_type = _typed(
    _read_widths,
    lambda value: all(width >= 1 for width in value),
    "a whole number of at least 1 for each hidden layer, such as 64,64",
)
count_type = _typed(int, lambda value: value >= 1, "a whole number of at least 1")
devices_type = _typed(
    int, lambda value: 1 <= value <= _mesh.max_cpus(), f"a whole number of devices from 1 to {_mesh.max_cpus()}"
)
seed_type = _typed(int, lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647")
share_type = _typed(float, lambda value: 0 <= value < 1, "a share of the rows from 0 to below 1, such as 0.1")
level_type = _typed(float, lambda value: 0 < value < 1, "a number inside (0, 1), such as 0.95")
positive_type = _typed(float, lambda value: 0 < value < float("inf"), "a finite number above 0")
