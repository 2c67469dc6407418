"""Numbers of rows that are near each other share their programs: folds that differ by a row compile nothing."""

import jax
import numpy as np
import pytest
from jax._src import test_util

import bbb
from bbb.curvature.api import needs_of
from bbb.curvature.problem import fewest_bytes, problem_of
from bbb.posteriors import FullRank, LowRankPrecision
from tests.curvature.models import KEY, covariance_of, mlp, precision_of

STRUCTURES = ("full", "last_layer", "kron", "low_rank", "diag")
HIDDEN = {"in rows": 40, "of weights": 3}


def fold(rows, hidden):
    """Return a model of weights in float32, and so many rows of data."""
    model, x, y = mlp(rows=83, hidden=hidden, dtype="float32")
    return model, x[:rows], y[:rows]


def done(model, x, y):
    """Ask for all that is computed of the curvature."""
    for structure in STRUCTURES:
        jax.block_until_ready(bbb.laplace(KEY, model, x, y, structure=structure, rank=2).posterior)
        if structure != "low_rank":
            bbb.log_evidence(model, x, y, structure).block_until_ready()
            bbb.tune(KEY, model, x, y, rounds=2, steps=3, updates=2, structure=structure, progress=False)


@pytest.mark.parametrize("space", HIDDEN)
def test_a_fold_of_another_number_of_rows_compiles_nothing(space):
    done(*fold(82, HIDDEN[space]))
    with test_util.count_jit_compilation_cache_miss() as compiled:
        done(*fold(83, HIDDEN[space]))
        done(*fold(81, HIDDEN[space]))
    assert compiled() == 0


@pytest.mark.parametrize("rows", [1, 8, 81, 83])
def test_the_copies_that_fill_up_a_tile_count_for_nothing(rows):
    with jax.enable_x64(True):
        model, x, y = mlp(rows=83, hidden=40)
        problem, size = problem_of("laplace", model, x[:rows], y[:rows], needs_of("full"), None, "2GB")
        assert problem.real.shape == (1, 8 * -(-rows // 8))
        assert float(problem.real.sum()) == rows
        assert size.rows == size.outputs * rows
        assert size.filled_rows == size.outputs * problem.real.size
        made = bbb.laplace(KEY, model, x[:rows], y[:rows]).posterior
        np.testing.assert_allclose(
            covariance_of(made), np.linalg.inv(precision_of(model, x[:rows])), rtol=1e-8, atol=1e-9
        )


@pytest.mark.parametrize(("rows", "kind"), [(19, LowRankPrecision), (20, LowRankPrecision), (21, FullRank)])
def test_the_space_is_that_of_the_smaller_number_without_copies(rows, kind):
    """Of 21 weights, which fewer rows than that are filled up to more than."""
    with jax.enable_x64(True):
        model, x, y = mlp(rows=rows, hidden=5)
        made = bbb.laplace(KEY, model, x, y).posterior
        assert type(made) is kind
        np.testing.assert_allclose(covariance_of(made), np.linalg.inv(precision_of(model, x)), rtol=1e-8, atol=1e-9)


def test_no_more_rows_than_the_memory_allows_are_computed_at_once():
    """A tile is not filled up past what is bounded: rows that fit, and a batch that was asked for."""
    model, x, y = fold(83, 40)
    _, size = problem_of("laplace", model, x, y, needs_of("full"), None, "2GB")
    fixed, each = fewest_bytes(model, x, size, needs_of("full"))
    for fit, tiled in ((5, 5), (50, 48), (83, 83), (86, 86), (90, 88)):
        problem, _ = problem_of("laplace", model, x, y, needs_of("full"), None, fixed + fit * each)
        assert problem.real.shape[1] == tiled
        assert problem.real.sum() == 83
    for batch_size in (1, 5, 80, 200):
        problem, _ = problem_of("laplace", model, x, y, needs_of("full"), batch_size, "2GB")
        assert problem.real.shape[1] == min(batch_size, 88)
        assert problem.real.sum() == 83
