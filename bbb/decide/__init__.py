"""What is done with an error bar: coverage guaranteed, learning on, what to ask next, when not to answer, checks."""

__all__: list[str] = []
