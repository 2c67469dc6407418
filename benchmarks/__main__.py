"""Run every program, and write RESULTS.md: `python -m benchmarks`."""

from benchmarks import devices, gradients, mlp, noise, program, regression, report, scaling


def main(argv: list[str] | None = None) -> None:
    """Run the programs in turn, and write their results."""
    arguments = program.parser(__doc__).parse_args(argv)
    options = program.options(arguments)
    described = report.machine()
    programs = (regression, mlp, scaling, gradients, noise, devices)
    parts = {part.TITLE: program.show(part.TITLE, part.sections, options) for part in programs}
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        (options.folder / "RESULTS.md").write_text(report.results_text(described, parts))
    if arguments.json is not None:
        arguments.json.write_text(report.results_json(described, parts))


if __name__ == "__main__":
    main()
