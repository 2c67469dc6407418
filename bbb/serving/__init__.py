"""A predictive that needs no Python code of the model."""

from bbb.serving.exported import Exported, export, load_exported

__all__ = ["Exported", "export", "load_exported"]
