"""Rows in tiles of one size, and counts of rows that are one of a few, so that compiled programs serve many."""

from collections.abc import Callable

import jax
import numpy as np

from bbb.core.tree import Tree


def rounded_up(count: int, least: int = 8, parts: int = 8) -> int:
    """Return a count, above 0, or the next one of a few: the multiples of a step.

    The step is `least`, or the largest power of two that is not above the count over `parts`, so that what is added to
    more than `parts` times `least` is at most a share of 1/`parts`.
    """
    step = max(least, (1 << count.bit_length() - 1) // parts)
    return -(-count // step) * step


def by_tile(function: Callable[..., Tree], *arrays: np.ndarray, size: int, axis: int = 0) -> Tree:
    """Apply a function to tiles of exactly `size` rows of the arrays, and return its results joined along `axis`.

    The last tile is padded by repeating its last row, and the results of the padding are dropped. Results are NumPy
    arrays.
    """
    rows, found = len(arrays[0]), []
    for start in range(0, rows, size):
        index = np.minimum(np.arange(start, start + size), rows - 1)
        kept = range(min(size, rows - start))
        tile = function(*(array[index] for array in arrays))
        found.append(jax.tree.map(lambda leaf, kept=kept: np.asarray(leaf).take(kept, axis), tile))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *found)
