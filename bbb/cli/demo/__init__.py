"""The demo: a regression with error bars, from training to plots, in a few seconds; torchbnn's objective beside it."""

from bbb.cli.demo.files import write
from bbb.cli.demo.recipes import RECIPES
from bbb.cli.demo.running import Demo, run

__all__ = ["RECIPES", "Demo", "run", "write"]
