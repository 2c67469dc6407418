"""What two trainings have to agree on, bit for bit."""

import jax
import numpy as np


def assert_same(a, b):
    """Hold two trees against each other, leaf by leaf."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def assert_same_history(a, b):
    """Hold all arrays of two histories against each other."""
    for name, value in vars(a).items():
        np.testing.assert_array_equal(value, vars(b)[name], err_msg=name)
