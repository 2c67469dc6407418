"""The parts of a report: one file each, with a function that returns its section, or None where there is none."""
