"""Learning on: the posterior of today is the prior of tomorrow."""

__all__: list[str] = []
