"""Rows in tiles of one size, so that one compiled program serves any number of rows."""

from collections.abc import Callable

import jax
import numpy as np

from bbb.core.tree import Tree


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
