"""Models, and compiled programs, in files."""

from bbb.io.models import load, read_metadata, save
from bbb.io.programs import cache_programs

__all__ = ["cache_programs", "load", "read_metadata", "save"]
