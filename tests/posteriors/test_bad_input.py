"""Bad input to posteriors, `sample` and `log_prob`: refused by name, and nothing is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, ShapeError
from tests.bad_input import (
    KEY,
    POINT,
    POSTERIOR,
    assert_refused,
    ensemble,
    not_above_0,
    wrong_counts,
    wrong_keys,
    wrong_posteriors,
)

KEYED = {"posteriors.sample: key": lambda key: bbb.posteriors.sample(key, POSTERIOR)}

ABOVE_0 = {
    "MeanField.around: std": lambda std: bbb.MeanField.around(POINT, std),
    "posteriors.FullRank.around: std": lambda std: bbb.posteriors.FullRank.around(POINT, std),
    "posteriors.LowRank.around: std": lambda std: bbb.posteriors.LowRank.around(POINT, std),
    "posteriors.relative_std: delta": lambda delta: bbb.posteriors.relative_std(POINT, delta),
    "posteriors.relative_std: least": lambda least: bbb.posteriors.relative_std(POINT, 0.1, least),
}

COUNTS = {
    "posteriors.LowRank.around: rank": lambda rank: bbb.posteriors.LowRank.around(POINT, 0.1, rank=rank),
    "posteriors.as_low_rank: rank": lambda rank: bbb.posteriors.as_low_rank(POSTERIOR, rank),
}

LARGE = {"w": np.zeros(10_001, np.float32)}

POSTERIORS = {
    "posteriors.as_full_rank: posterior": bbb.posteriors.as_full_rank,
    "posteriors.as_low_rank: posterior": bbb.posteriors.as_low_rank,
    "posteriors.sample: posterior": lambda q: bbb.posteriors.sample(KEY, q),
    "posteriors.log_prob: posterior": lambda q: bbb.posteriors.log_prob(q, POINT),
}

CASES = {
    **wrong_keys(KEYED),
    **not_above_0(ABOVE_0),
    **wrong_posteriors(POSTERIORS),
    **wrong_counts(COUNTS),
    "MeanField: of another structure": (
        lambda: bbb.MeanField({"w": jnp.ones(2)}, {"v": jnp.ones(2)}),
        ShapeError,
        "log_std to have the structure of mean",
    ),
    "MeanField: of another shape": (
        lambda: bbb.MeanField({"w": jnp.ones(2)}, {"w": jnp.ones(3)}),
        ShapeError,
        r"leaf 'w' to have the shape \(2,\) of mean's",
    ),
    "MeanField: words": (lambda: bbb.MeanField("a", "b"), InputError, "floating-point"),
    "MeanField: whole numbers": (
        lambda: bbb.MeanField({"w": np.ones(2, int)}, {"w": np.ones(2, int)}),
        InputError,
        "log_std leaf 'w' to be a floating-point array",
    ),
    "MeanField.around: words": (lambda: bbb.MeanField.around({"w": "a"}, 0.1), InputError, "floating-point array"),
    "MeanField.around: where is no bool": (
        lambda: bbb.MeanField.around(POINT, 0.1, "weight"),
        InputError,
        "every leaf of where to be a bool",
    ),
    "MeanField.around: where of another structure": (
        lambda: bbb.MeanField.around(POINT, 0.1, (True,)),
        ShapeError,
        "where to be a bool or a tree",
    ),
    "posteriors.FullRank: lower of other weights": (
        lambda: bbb.posteriors.FullRank(POINT, POSTERIOR.log_std, np.zeros((1, 1))),
        ShapeError,
        r"lower to be \(\d+, \d+\), of the weights with a Gaussian, got shape \(1, 1\)",
    ),
    "posteriors.FullRank: another structure": (
        lambda: bbb.posteriors.FullRank(POINT, {"w": 0.0}, np.zeros((1, 1))),
        ShapeError,
        "to have the structure of mean",
    ),
    "posteriors.FullRank: words": (
        lambda: bbb.posteriors.FullRank(POINT, POSTERIOR.log_std, "a"),
        InputError,
        "floating-point",
    ),
    "posteriors.FullRank.around: where picks nothing": (
        lambda: bbb.posteriors.FullRank.around(POINT, 0.1, where=False),
        InputError,
        "params to hold at least one array",
    ),
    "posteriors.Kronecker: bases of other weights": (
        lambda: bbb.posteriors.Kronecker(POINT, POSTERIOR.log_std, *(jax.tree.map(lambda _: np.eye(2), POINT),) * 2),
        ShapeError,
        "left and right to be bases of the axes of each leaf of log_std",
    ),
    "posteriors.Kronecker: words": (
        lambda: bbb.posteriors.Kronecker(POINT, POSTERIOR.log_std, "a", "b"),
        InputError,
        "floating-point",
    ),
    "posteriors.Kronecker: another structure": (
        lambda: bbb.posteriors.Kronecker(POINT, {"w": 0.0}, None, None),
        ShapeError,
        "log_std to have the structure of mean",
    ),
    "posteriors.Kronecker: bases of another structure": (
        lambda: bbb.posteriors.Kronecker(POINT, POSTERIOR.log_std, None, None),
        ShapeError,
        "left and right to be bases of the axes of each leaf of log_std",
    ),
    "posteriors.LowRankPrecision: factor of other weights": (
        lambda: bbb.posteriors.LowRankPrecision(POINT, POSTERIOR.log_std, np.zeros((2, 1)), np.eye(2)),
        ShapeError,
        r"factor to be \(r, \d+\), of the weights with a Gaussian, and cholesky \(r, r\), got shapes \(2, 1\) and",
    ),
    "posteriors.LowRankPrecision: words": (
        lambda: bbb.posteriors.LowRankPrecision(POINT, POSTERIOR.log_std, "a", np.eye(2)),
        InputError,
        "floating-point",
    ),
    "posteriors.LowRankPrecision: another structure": (
        lambda: bbb.posteriors.LowRankPrecision(POINT, {"w": 0.0}, np.zeros((1, 1)), np.eye(1)),
        ShapeError,
        "to have the structure of mean",
    ),
    "posteriors.LowRankPrecision.of: factor of one axis": (
        lambda: bbb.posteriors.LowRankPrecision.of(POINT, POSTERIOR.log_std, np.zeros(3)),
        ShapeError,
        r"factor to be \(r, d\), got shape \(3,\)",
    ),
    "posteriors.LowRankPrecision.of: factor of other weights": (
        lambda: bbb.posteriors.LowRankPrecision.of(POINT, POSTERIOR.log_std, np.zeros((1, 2))),
        ShapeError,
        r"factor to be \(r, \d+\), of the weights",
    ),
    "posteriors.LowRankPrecision.of: words": (
        lambda: bbb.posteriors.LowRankPrecision.of(POINT, POSTERIOR.log_std, "a"),
        InputError,
        "floating-point",
    ),
    "posteriors.LowRank: factor of other weights": (
        lambda: bbb.posteriors.LowRank(POINT, POSTERIOR.log_std, np.zeros((1, 2))),
        ShapeError,
        r"factor to be \(\d+, rank\), of the weights with a Gaussian, got shape \(1, 2\)",
    ),
    "posteriors.LowRank: words": (
        lambda: bbb.posteriors.LowRank(POINT, POSTERIOR.log_std, "a"),
        InputError,
        "floating-point",
    ),
    "posteriors.LowRank: another structure": (
        lambda: bbb.posteriors.LowRank(POINT, {"w": 0.0}, np.zeros((1, 1))),
        ShapeError,
        "to have the structure of mean",
    ),
    "posteriors.LowRank.around: where picks nothing": (
        lambda: bbb.posteriors.LowRank.around(POINT, 0.1, where=False),
        InputError,
        "params to hold at least one array",
    ),
    **{
        f"posteriors.{verb}: {what}": (lambda verb=verb, q=q: getattr(bbb.posteriors, verb)(q()), InputError, text)
        for verb in ("as_full_rank", "as_low_rank")
        for what, q, text in (
            ("an ensemble", lambda: ensemble().posterior, f"one Gaussian posterior, for {verb}, got an ensemble of 2"),
            (
                "too many weights",
                lambda: bbb.MeanField.around(LARGE, 0.1),
                f"at most 10,000 Gaussian weights, for {verb}, got 10,001",
            ),
        )
    },
    "posteriors.Ensemble: its mean": (lambda: ensemble().posterior.mean, InputError, "one posterior, to ask for its m"),
    "posteriors.Ensemble: its std": (lambda: ensemble().posterior.std, InputError, "one posterior, to ask for its s"),
    "posteriors.log_prob: another structure": (
        lambda: bbb.posteriors.log_prob(POSTERIOR, {"w": 1.0}),
        ShapeError,
        "params to have the str",
    ),
    "posteriors.log_prob: another shape": (
        lambda: bbb.posteriors.log_prob(POSTERIOR, jax.tree.map(lambda leaf: leaf[:1], POINT)),
        ShapeError,
        "to have the shape",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
