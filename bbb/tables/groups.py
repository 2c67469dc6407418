"""Rows that belong together, such as those of one patient: held out together, and scored apart.

Rows of one group resemble each other more than those of others do. If some of a group are trained on, the others say
too little of how a model predicts a group that it has not seen: groups are held out whole (Roberts et al. 2017,
Ecography 40, "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure").

    table = bbb.tables.read("houses.parquet", kinds="any", holes=True)
    recipe = bbb.tables.Recipe(validation=0.2, missing="median")
    model, history = bbb.tables.fit_table(table, "price", recipe=recipe, group="town")
    for town, found in model.evaluate(table, group="town")["groups"].items():
        print(town, found["rows"], found["share"])
"""

from typing import Any

import jax
import numpy as np

from bbb.tables.table import NUMBER, Table
from bbb.train.data.rows import count_held


def names_of(table: Table, column: str) -> np.ndarray:
    """Return the group of each row, (rows,), as words.

    Raises:
        TableError: if the column is missing, is one of dates, or has an empty cell.
    """
    names = table.observed(column)
    return np.array([f"{value:g}" for value in names]) if table.kind(column) == NUMBER else names


def held_out(key: jax.Array, table: Table, column: str, share: float) -> np.ndarray:
    """Return which rows to hold out, (rows,), bool: groups in an order by the key, until their rows are the share.

    Raises:
        TableError: if there is one group alone, or the column is missing or has an empty cell.
    """
    groups, of_row, counts = np.unique(names_of(table, column), return_inverse=True, return_counts=True)
    if len(groups) < 2:
        do = "Name another column, or leave --group out."
        table.fail(f"two groups or more in column '{column}'", f"'{groups[0]}' alone", do)
    order = np.asarray(jax.random.permutation(key, len(groups)))
    before = np.cumsum(counts[order]) - counts[order]
    held = order[(before < count_held(share, table.rows)) & (np.arange(len(groups)) < len(groups) - 1)]
    return np.isin(of_row, held)


def shares(names: np.ndarray, inside: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return, for each group, its number of rows and the share of them that are inside.

    Args:
        names: the group of each row, (rows,).
        inside: whether each row is inside its interval, or its class is right, (rows,), bool.
    """
    groups, of_row, counts = np.unique(names, return_inverse=True, return_counts=True)
    hits = np.bincount(of_row, inside.astype(float))
    return {
        str(group): {"rows": int(count), "share": float(hit / count)}
        for group, count, hit in zip(groups, counts, hits, strict=True)
    }


def largest(rows: np.ndarray, most: int) -> np.ndarray:
    """Return the places of the groups of the most rows, at most so many, rising; of equal groups, the first.

    Args:
        rows: the number of rows of each group, (groups,).
        most: how many groups at most.
    """
    return np.sort(np.argsort(-np.asarray(rows), kind="stable")[:most])
