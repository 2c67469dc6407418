"""Layers, adapters for networks of other libraries, standardised networks, and what all rows of an x share."""

from bbb.core.rows import Shared
from bbb.networks.standardized import Standardized, standardize

__all__ = ["Shared", "Standardized", "standardize"]
