"""`python -m bbb`."""

from bbb.cli.main import run

run()
