"""The command `bbb demo`."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from jax.sharding import Mesh

from bbb import plots, tasks
from bbb.cli.demo.files import summary_of, write
from bbb.cli.demo.recipes import RECIPES
from bbb.cli.demo.running import Demo, run
from bbb.cli.demo.words import lines
from bbb.cli.options import add_machine, add_seed, command, count_type, mesh_to_train, positive_type
from bbb.cli.output import say
from bbb.core import process
from bbb.storage import files
from bbb.storage.json_text import json_text

SETTINGS = ("steps", "draws", "hidden", "prior_std")
"""The settings that are options."""


BOTH = "both"
"""The bound, and torchbnn's objective beside it."""


def add_demo(commands: Any) -> None:
    """Add the command `bbb demo`."""
    about = "train on y = x⁵ − 10x + noise, plot the prediction with its band, and torchbnn's beside it"
    parser = command(commands, "demo", _demo, about, "bbb demo --objective torchbnn --draws 1000 --out published")
    parser.add_argument("--out", default="bbb-demo", metavar="DIR", help="folder to write to (default: %(default)s)")
    for name, kind, what in (
        ("steps", count_type, "Adam steps"),
        ("draws", count_type, "draws of the weights"),
        ("hidden", count_type, "hidden units"),
        ("prior-std", positive_type, "standard deviation of the prior"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=f"{what} ({_defaults(name.replace('-', '_'))})")
    parser.add_argument(
        "--objective",
        choices=(BOTH, *RECIPES),
        default=BOTH,
        help="elbo: the evidence lower bound, with learned noise; torchbnn: MSE + 0.01·KL/P, as published; "
        "both, for a comparison (default: %(default)s)",
    )
    add_seed(parser)
    add_machine(parser, "share the rows of each step, and the draws")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def _defaults(name: str) -> str:
    """Return the default of a setting, for each objective where they differ, in words."""
    values = {objective: getattr(recipe.settings, name) for objective, recipe in RECIPES.items()}
    if len(set(values.values())) == 1:
        return f"default: {values['elbo']}"
    return f"default: {', '.join(f'{value} for {objective}' for objective, value in values.items())}"


def _demo(arguments: argparse.Namespace) -> None:
    mesh = mesh_to_train(arguments.devices, len(tasks.regression().x))
    out = files.folder(arguments.out)  # before training, so that a failure costs no time
    objectives = RECIPES if arguments.objective == BOTH else (arguments.objective,)
    made, *others = _at_once([partial(_run, objective, arguments, mesh) for objective in objectives], mesh)
    beside = others[0] if others else None
    paths = write(made, out, beside)
    if arguments.json:
        say(json_text(summary_of(made, beside)))
        return
    said = [line for demo in (made, *others) for line in (*lines(demo), "")]
    wrote = f"wrote {', '.join(path.name for path in paths)} to {out}"
    say("".join(f"{line}\n" for line in (*said[:-1], wrote)))


def _at_once(runs: Sequence[Callable[[], Demo]], mesh: Mesh | None) -> list[Demo]:
    """Return what each run returns, in order. On several cores each has a thread, as compiling takes only one.

    While they compile, an empty picture is drawn, which imports what the pictures need. Not on a mesh, whose devices
    would wait for each other's programs in two orders.
    """
    if len(runs) == 1 or mesh is not None or process.cores() == 1:
        return [run() for run in runs]
    pool = ThreadPoolExecutor(len(runs))
    try:
        futures = [pool.submit(run) for run in runs]
        plots.png(lambda axes: axes.plot([]))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for what was begun


def _run(objective: str, arguments: argparse.Namespace, mesh: Mesh | None) -> Demo:
    """Run the demo with the settings of an objective, but for those that the command names."""
    named = {name: value for name in SETTINGS if (value := getattr(arguments, name)) is not None}
    settings = dataclasses.replace(RECIPES[objective].settings, **named)
    return run(settings, seed=arguments.seed, objective=objective, mesh=mesh)
