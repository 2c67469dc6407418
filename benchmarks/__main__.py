"""Run every program, and write RESULTS.md: `python -m benchmarks [--images DIR]`."""

from pathlib import Path

from bbb.errors import BBBError
from benchmarks import devices, gradients, images, larger, mlp, noise, program, regression, report, scaling

PROGRAMS = (regression, mlp, larger, scaling, devices, noise, gradients)
"""In the order of their parts of RESULTS.md."""


def main(argv: list[str] | None = None) -> None:
    """Run the programs in turn, and write their results."""
    parser = program.parser(__doc__)
    parser.add_argument("--images", type=Path, metavar="DIR", help="add the table of `benchmarks.images`, with its DIR")
    arguments = parser.parse_args(argv)
    options = program.options(arguments)
    described = report.machine()
    programs = {part.TITLE: part.sections for part in PROGRAMS}
    if arguments.images is not None:
        try:
            learned = images.sections(arguments.images)
        except BBBError as error:
            parser.error(str(error))
        programs[images.TITLE] = lambda _: learned
    parts = {title: program.show(title, sections, options) for title, sections in programs.items()}
    described["load_average_at_end"] = report.load()
    if options.folder is not None:
        results = options.folder / "RESULTS.md"
        options.folder.mkdir(parents=True, exist_ok=True)
        results.write_text(report.results_text(described, parts, results.read_text() if results.exists() else ""))
    if arguments.json is not None:
        arguments.json.write_text(report.results_json(described, parts))


if __name__ == "__main__":
    main()
