"""Models in files."""

from bbb.io.models import load, read_metadata, save

__all__ = ["load", "read_metadata", "save"]
