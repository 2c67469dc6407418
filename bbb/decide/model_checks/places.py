"""Where bands are compared: among the rows of a data set, in stretches between them, and beyond them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.rows import count_rows, some_rows
from bbb.core.tree import Tree
from bbb.evaluate.diagnosis.stretches import empty_stretches

AMONG, BETWEEN, BEYOND, GIVEN = "among the rows", "between the rows", "beyond the rows", "at the rows given"

MOST_AMONG, MOST_BEYOND = 100, 20
"""How many rows of the data are looked at, and how many beyond them."""


FURTHER = 1.5
"""How many times as far from the centre of the data the rows beyond them lie."""


class Places(NamedTuple):
    """Rows, and where each lies.

    Attributes:
        x: (rows, ...).
        where: (rows,), words such as `AMONG`.
    """

    x: Tree
    where: np.ndarray


def places_of(x: Tree, rows: str) -> Places:
    """Return rows of a data set and, of columns of floating-point numbers, rows between and beyond them too.

    Those between are in the middle of stretches without rows, between a row on one side and one on the other. Those
    beyond are the rows furthest from the centre in standard deviations, moved away from it. Of a network whose rows
    meet, they are the data and no others.
    """
    n = count_rows(x)
    most = n if rows == "together" else min(n, MOST_AMONG)
    among = some_rows(x, np.unique(np.linspace(0, n - 1, most).round().astype(int)))
    if rows == "together" or not _is_matrix(x):
        return Places(among, np.full(count_rows(among), AMONG))
    columns = np.asarray(x, np.float64)
    parts = {AMONG: np.asarray(among), BETWEEN: _between(columns), BEYOND: _beyond(columns)}
    where = np.concatenate([np.full(len(part), name) for name, part in parts.items()])
    return Places(jax.device_put(np.concatenate(list(parts.values())).astype(x.dtype)), where)


def _is_matrix(x: Any) -> bool:
    return isinstance(x, jax.Array) and x.ndim == 2 and bool(jnp.issubdtype(x.dtype, jnp.floating))


def _between(columns: np.ndarray) -> np.ndarray:
    found = [stretch.points for stretch in empty_stretches(columns)]
    return np.concatenate(found) if found else columns[:0]


def _beyond(columns: np.ndarray) -> np.ndarray:
    centre, std = columns.mean(axis=0), columns.std(axis=0)
    distance = np.sum(np.square((columns - centre) / np.where(std > 0, std, 1)), axis=1)
    furthest = np.argsort(-distance, kind="stable")[:MOST_BEYOND]
    return centre + FURTHER * (columns[furthest] - centre)
