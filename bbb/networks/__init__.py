"""Layers, adapters for networks of other libraries, and standardised networks."""

from bbb.networks.standardized import Standardized, standardize

__all__ = ["Standardized", "standardize"]
