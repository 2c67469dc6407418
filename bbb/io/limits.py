"""What a description of a model may ask for."""

from typing import Any

MAX_NODES = 100_000
"""Layers, containers and arrays that a file may describe: more would take minutes to make, of a few megabytes."""


DEEPEST = 200
"""How many brackets of the description may lie in each other."""


MAX_LAYERS = 1_000
"""Layers that a network of a file may have: of 2,000, compiling never ends."""


MAX_PADDING = 4_096
"""Places that a layer of a file may add at an end of an axis: each costs memory, and none of the file."""


def refuse_giants(description: Any) -> None:
    """Raise for a description so large, or so deep, that making or running it would hang; without recursion."""
    level: list[Any] = [description]
    nodes = layers = 0
    for _ in range(DEEPEST):
        nodes += sum(isinstance(node, dict) for node in level)
        if nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} layers, containers and arrays")
        layers += sum(isinstance(node, dict) and "kind" in node for node in level)
        if layers > MAX_LAYERS:
            raise ValueError(f"more than {MAX_LAYERS:,} layers")
        if any(_most(node.get("padding")) > MAX_PADDING for node in level if isinstance(node, dict)):
            raise ValueError(f"a padding of more than {MAX_PADDING:,}")
        parts = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for inner in parts for part in inner if isinstance(part, dict | list)]
        if not level:
            return
    raise ValueError(f"layers or containers of more than {DEEPEST} brackets in each other")


def _most(padding: Any) -> float:
    """Return the largest number of a padding; 0 for what is not a number, which the layer raises for by name."""
    flat = (
        [part for pair in padding for part in (pair if isinstance(pair, list) else [pair])]
        if isinstance(padding, list)
        else [padding]
    )
    return max((part for part in flat if isinstance(part, int | float)), default=0)
