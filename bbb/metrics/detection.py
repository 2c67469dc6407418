"""How well scores tell strange rows from usual ones."""

import numpy as np
from numpy.typing import ArrayLike

from bbb.metrics.inputs import as_columns


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """Return the area under the ROC curve of scores: P(outside > inside) + ½·P(outside = inside), over all pairs.

    It is 1 where every row outside scores above every row inside, 1/2 for scores that tell nothing, and depends on the
    order of the scores alone.

    Args:
        inside: (rows,), the scores of rows like those that were learned from.
        outside: (other rows,), the scores of rows that should be found, which ought to be higher.

    Raises:
        ShapeError, InputError: for arrays that are not columns of finite numbers, or have no rows.

    Source: Mann & Whitney 1947, Ann. Math. Statist. 18, 50; Hanley & McNeil 1982, Radiology 143, 29, for the area.

    Example:
        >>> import bbb
        >>> round(float(bbb.metrics.auroc([0.1, 0.2, 0.3], [0.25, 0.5])), 2)
        0.83
    """
    (inside,), (outside,) = as_columns(inside=inside), as_columns(outside=outside)
    order = np.sort(inside)
    below, upto = (np.searchsorted(order, outside, side) for side in ("left", "right"))
    return float(np.sum(below + upto)) / (2 * len(inside) * len(outside))
