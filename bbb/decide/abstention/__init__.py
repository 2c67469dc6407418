"""When not to answer: selective prediction, scores of strange rows, promised error rates."""

__all__: list[str] = []
