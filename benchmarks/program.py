"""The command line that every program shares."""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import race, report


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user asked for.

    Attributes:
        quick: tiny sizes, to see that all works.
        contenders: only these; None for all.
        repeats: warm runs of each.
        limit: seconds after which one is stopped and left out.
        folder: where pictures and RESULTS.md go; None for nowhere.
    """

    quick: bool = False
    contenders: tuple[str, ...] | None = None
    repeats: int = 5
    limit: float = race.LIMIT
    folder: Path | None = None

    @property
    def race(self) -> dict[str, Any]:
        """The arguments of `race.race`."""
        return {"only": self.contenders, "repeats": self.repeats, "limit": self.limit}


Sections = Callable[[Options], Iterator[report.Section]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make the parser of the options that every program has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="tiny sizes, to see that all works")
    made.add_argument("--contenders", metavar="A,B", help="only these")
    made.add_argument("--repeats", type=int, default=5, metavar="N", help="warm runs of each (default: 5)")
    made.add_argument("--limit", type=float, default=race.LIMIT, metavar="SECONDS", help="stop one after so long")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    made.add_argument(
        "--folder", type=Path, help="where pictures and RESULTS.md go (default: benchmarks/, or nowhere if quick)"
    )
    return made


def options(arguments: argparse.Namespace) -> Options:
    """Take the options out of parsed arguments."""
    only = None if arguments.contenders is None else tuple(arguments.contenders.split(","))
    folder = arguments.folder or (None if arguments.quick else Path(__file__).parent)
    return Options(arguments.quick, only, arguments.repeats, arguments.limit, folder)


def main(title: str, sections: Sections, description: str | None, argv: Sequence[str] | None = None) -> None:
    """Run one program: print its tables, and write its JSON."""
    arguments = parser(description).parse_args(argv)
    described = report.machine()
    made = show(title, sections, options(arguments))
    if arguments.json is not None:
        arguments.json.write_text(report.results_json(described, {title: made}))


def show(title: str, sections: Sections, chosen: Options) -> list[report.Section]:
    """Run the sections, and print each as soon as it is there."""
    print(f"## {title}\n", flush=True)
    made = []
    for section in sections(chosen):
        print(f"### {section.title}\n\n{section.text}\n", flush=True)
        made.append(section)
    return made
