"""`python -m bbb`."""

from bbb.cli import run

run()
