"""The command line that all programs share."""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import race, report


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes:
        quick: whether to use tiny sizes, to test that everything works.
        contenders: the names of the contenders to run; None for all.
        repeats: the number of rounds, in each of which every contender runs once.
        limit: the seconds after which a contender is stopped and left out.
        folder: the folder for plots and RESULTS.md; None to write neither.
    """

    quick: bool = False
    contenders: tuple[str, ...] | None = None
    repeats: int = 5
    limit: float = race.LIMIT
    folder: Path | None = None

    @property
    def race(self) -> dict[str, Any]:
        """The keyword arguments of `race.race`."""
        return {"only": self.contenders, "repeats": self.repeats, "limit": self.limit}


Sections = Callable[[Options], Iterator[report.Section]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every program has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="use tiny sizes, to test that everything works")
    made.add_argument("--contenders", metavar="A,B", help="run only these")
    made.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds of one run of each (default: 5)")
    made.add_argument("--limit", type=float, default=race.LIMIT, metavar="SECONDS", help="stop a contender after this")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    made.add_argument(
        "--folder", type=Path, help="for plots and RESULTS.md (default: benchmarks/, or not written if quick)"
    )
    return made


def options(arguments: argparse.Namespace) -> Options:
    """Return the options of parsed arguments."""
    only = None if arguments.contenders is None else tuple(arguments.contenders.split(","))
    folder = arguments.folder or (None if arguments.quick else Path(__file__).parent)
    return Options(arguments.quick, only, arguments.repeats, arguments.limit, folder)


def check_contenders(parser: argparse.ArgumentParser, arguments: argparse.Namespace, names: Iterable[str]) -> None:
    """Leave with an error for a contender that the program does not have: it would be left out in silence."""
    names = dict.fromkeys(names)
    unknown = set(options(arguments).contenders or ()) - set(names)
    if unknown:
        parser.error(f"argument --contenders: {', '.join(sorted(unknown))}: pass some of {', '.join(names)}")


def main(
    title: str,
    sections: Sections,
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    works: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Run one program: print its tables, and write its numbers as JSON.

    `works` has the names of the contenders of each of its works, which `--contenders` may take; None is for any.
    """
    made = parser(description)
    arguments = made.parse_args(argv)
    if works is not None:
        check_contenders(made, arguments, (name for names in works.values() for name in names))
    run(title, sections, arguments)


def run(title: str, sections: Sections, arguments: argparse.Namespace) -> None:
    """Run one program by parsed arguments."""
    described = report.machine()
    print(f"{report.machine_text(described)}\n", flush=True)
    made = show(title, sections, options(arguments))
    described["load_average_at_end"] = report.load()
    print(f"Load average at the end: {described['load_average_at_end']}")
    if arguments.json is not None:
        arguments.json.write_text(report.results_json(described, {title: made}))


def show(title: str, sections: Sections, chosen: Options) -> list[report.Section]:
    """Run the sections, print each as soon as it is finished, and return them."""
    print(f"### {title}\n", flush=True)
    made = []
    for section in sections(chosen):
        print(f"#### {section.title}\n\n{section.text}\n", flush=True)
        made.append(section)
    return made
