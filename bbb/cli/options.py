"""The options that several commands share, and their types."""

import argparse
import math
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from bbb.devices import mesh as mesh_module
from bbb.errors import InputError, fail
from bbb.tables.cells.dialect import DECIMALS, DELIMITERS
from bbb.tables.encoding import UNKNOWN


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
        "--interval",
        type=level_type,
        default=0.95,
        metavar="LEVEL",
        help="probability of the central interval of each observation, such as 0.9 for 90 %%; of calibrated classes, "
        "of their set (default: %(default)s)",
    )
    parser.add_argument("--draws", type=count_type, default=10_000, help="draws of the weights (default: %(default)s)")
    add_seed(parser)
    add_machine(parser, "share the draws")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add the option --seed."""
    parser.add_argument("--seed", type=seed_type, default=0, help="seed of all random numbers (default: %(default)s)")


def add_machine(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the options --devices, whose `purpose` says what the devices do, and --no-cache."""
    about = f"number of CPU devices that {purpose} (default: JAX's devices)"
    parser.add_argument("--devices", type=devices_type, metavar="N", help=about)
    add_cache(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the option --no-cache."""
    cached = "compile all programs anew, and keep none in the user's cache folder for the next command"
    parser.add_argument("--no-cache", dest="cache", action="store_false", help=cached)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that read a table."""
    parser.add_argument(
        "--delimiter",
        type=delimiter_type,
        metavar="MARK",
        help="between the cells of a CSV file: comma, semicolon or tab (default: recognised)",
    )
    parser.add_argument(
        "--decimal",
        choices=DECIMALS,
        metavar="MARK",
        help="the decimal mark of a CSV file's numbers, point or comma: . or , (default: recognised)",
    )


def add_unknown(parser: argparse.ArgumentParser) -> None:
    """Add the option --unknown."""
    parser.add_argument(
        "--unknown",
        choices=UNKNOWN,
        default=UNKNOWN[0],
        help="what to do about a category that was not in the training rows; ignore: take it for none of those "
        "(default: %(default)s)",
    )


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


def _read_delimiter(text: str) -> str | None:
    return text if text in DELIMITERS else {name: mark for mark, name in DELIMITERS.items()}.get(text)


delimiter_type = _typed(_read_delimiter, lambda value: value is not None, "comma, semicolon or tab")


count_type = _typed(int, lambda value: value >= 1, "a whole number of at least 1")


MOST_DEVICES = mesh_module.max_cpus()
devices_type = _typed(
    int, lambda value: 1 <= value <= MOST_DEVICES, f"a whole number of devices from 1 to {MOST_DEVICES}"
)


seed_type = _typed(int, lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647")


share_type = _typed(float, lambda value: 0 <= value < 1, "a share of the rows from 0 to below 1, such as 0.1")


discount_type = _typed(float, lambda value: 0 < value <= 1, "a number above 0, at most 1, such as 0.9")


rate_type = _typed(float, lambda value: 0 < value < 1, "an error rate inside (0, 1), such as 0.05")


level_type = _typed(float, lambda value: 0 < value < 1, "a number inside (0, 1), such as 0.95")


finite_type = _typed(float, math.isfinite, "a finite number")


positive_type = _typed(float, lambda value: 0 < value < float("inf"), "a finite number above 0")


def mesh_to_train(devices: int | None, rows: int, restarts: int | None = None) -> Mesh | None:
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
        fail(InputError, expected, f"{devices}", f"{do}.")
    return mesh_module.cpus(devices, axes[0])


def mesh_to_draw(devices: int | None) -> Mesh | None:
    """Return a mesh of CPU devices that share the draws, or None; to be called before a model is read onto a device."""
    return None if devices is None else mesh_module.cpus(devices, "draws")
