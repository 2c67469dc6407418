"""The command `bbb`: data on stdout, messages on stderr; exit status 0, 1 (error), 2 (wrong usage) or 130 (Ctrl-C)."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from bbb._version import __version__
from bbb.cli.asking import add_suggest
from bbb.cli.checking import add_check
from bbb.cli.demo.command import add_demo
from bbb.cli.prediction import add_evaluate, add_predict
from bbb.cli.reporting.report import add_report
from bbb.cli.training import add_fit
from bbb.cli.updating import add_update
from bbb.errors import BBBError
from bbb.io.programs import cache_by_default
from bbb.storage import signals


def main(argv: Sequence[str] | None = None, cache: bool = False) -> int:
    """Run one command and return its exit status.

    Args:
        argv: its words; by default those of the process.
        cache: whether compiled programs are kept for the next process, unless `--no-cache` is among the words.
    """
    arguments = None
    try:
        signals.raise_on_interrupt()
        arguments = _parser().parse_args(argv)
        arguments.words = list(sys.argv[1:] if argv is None else argv)
        if cache and arguments.cache:
            cache_by_default()
        arguments.run(arguments)
    except BBBError as error:
        print(f"bbb: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the output has closed the pipe
        return 1
    except KeyboardInterrupt:
        folder = getattr(arguments, "checkpoint", None)
        saved = f"; continue with --checkpoint {folder} --resume" if folder else ""
        print(f"{signals.SAID}{saved}.", file=sys.stderr)
        return signals.INTERRUPTED
    return 0


def run() -> NoReturn:
    """Run the command, and end the process with the exit status of `main`."""
    status = main(cache=True)
    if status == signals.INTERRUPTED:  # XLA's threads may still be running, and crash if Python shuts down
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bbb", description="Error bars for networks: Bayes by backprop in JAX.")
    parser.add_argument("--version", action="version", version=f"bbb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_demo(commands)
    add_fit(commands)
    add_update(commands)
    add_predict(commands)
    add_evaluate(commands)
    add_suggest(commands)
    add_check(commands)
    add_report(commands)
    return parser
