"""What to ask next: acquisition scores, Thompson samples and batches."""

__all__: list[str] = []
