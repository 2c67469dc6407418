"""Intervals and sets of classes that hold the truth at the level promised."""

__all__: list[str] = []
