"""Weights of rows in summaries: as rows written out as often, and as scikit-learn has it."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from bbb import metrics

RNG = np.random.default_rng(0)
WEIGHTS = np.array([2, 1, 0, 3, 1, 1, 4, 1])
Y, MEAN = RNG.normal(size=(8, 2)), RNG.normal(size=(8, 2))
LOWER, UPPER = MEAN - 0.7, MEAN + RNG.uniform(0.1, 1, size=(8, 2))
LABELS = RNG.integers(0, 3, 8)
PROBABILITIES = RNG.dirichlet(np.ones(3), size=8)
PIT = RNG.uniform(size=(8, 2))

SUMMARIES = {
    "rmse": (metrics.rmse, (Y, MEAN)),
    "coverage": (metrics.coverage, (Y, LOWER, UPPER)),
    "interval_width": (metrics.interval_width, (LOWER, UPPER)),
    "observed_coverage": (lambda pit, **w: metrics.observed_coverage(pit, (0.5, 0.9), **w), (PIT,)),
    "accuracy": (metrics.accuracy, (LABELS, PROBABILITIES)),
    "expected_calibration_error": (metrics.expected_calibration_error, (LABELS, PROBABILITIES)),
    "reliability": (metrics.reliability, (LABELS, PROBABILITIES)),
}


def flat(found):
    """Return a number, an array, or a tuple of arrays, as one vector."""
    return np.concatenate([np.ravel(part) for part in (found if isinstance(found, tuple) else (found,))])


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_weight_of_two_is_the_row_twice(name):
    summary, data = SUMMARIES[name]
    written_out = (np.repeat(array, WEIGHTS, axis=0) for array in data)
    weighted, unweighted = summary(*data, sample_weight=WEIGHTS), summary(*data)
    np.testing.assert_allclose(flat(weighted), flat(summary(*written_out)), rtol=1e-12)
    assert not np.allclose(flat(weighted), flat(unweighted), rtol=1e-3, equal_nan=True)
    ones = summary(*data, sample_weight=np.ones(8))
    np.testing.assert_allclose(flat(ones), flat(unweighted), rtol=1e-12)


def test_they_are_those_of_scikit_learn():
    weights = RNG.uniform(size=8)
    square = sklearn.mean_squared_error(Y, MEAN, sample_weight=weights)
    np.testing.assert_allclose(metrics.rmse(Y, MEAN, sample_weight=weights) ** 2, square, rtol=1e-12)
    share = sklearn.accuracy_score(LABELS, PROBABILITIES.argmax(1), sample_weight=weights)
    np.testing.assert_allclose(metrics.accuracy(LABELS, PROBABILITIES, sample_weight=weights), share, rtol=1e-12)
