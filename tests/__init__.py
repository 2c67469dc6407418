"""The tests, a folder for each package; what several folders share stands here, beside them."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository."""

UCI = ROOT.parent / "shared" / "data" / "uci"
"""The UCI sets, which only their own workplace has."""
