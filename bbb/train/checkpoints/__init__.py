"""Checkpoints of a training, and how one is resumed."""
