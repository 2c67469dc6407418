"""The gaps hold what they should, and the scores are those of the mixture of the members."""

import json
import math

import jax
import numpy as np
import pytest
from scipy import stats

import bbb
from benchmarks import uci, uci_evidence
from tests.benchmarks.test_benchmarks_uci import write_set


def test_each_gap_is_the_middle_third_of_a_column(tmp_path):
    data = uci_evidence.with_gaps(uci.read(write_set(tmp_path / "made")))
    assert len(data.splits) == data.x.shape[1] == 3
    for column, (train, test) in enumerate(data.splits):
        assert (len(train), len(test)) == (26, 14)
        assert sorted(np.concatenate([train, test])) == list(range(40))
        inside, below, above = data.x[test, column], data.x[train[:13], column], data.x[train[13:], column]
        assert below.max() <= inside.min()
        assert inside.max() <= above.min()


def test_the_score_is_that_of_the_members_in_equal_parts(tmp_path):
    data = uci.read(write_set(tmp_path / "made"))
    split = uci.standardised(data, data.splits[0])
    keys = jax.random.split(jax.random.key(0))
    network = bbb.nn.linear(3, 1)
    prior, noise = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Gaussian(0.5)
    starts = [bbb.bayesianize(network.apply, network.init(k), prior=prior, likelihood=noise) for k in keys]
    models = [bbb.laplace(keys[0], model, split.x, split.y) for model in starts]
    found = uci_evidence.score(keys[0], models, split)
    of = [bbb.predict(keys[0], model, split.x_test).y for model in models]
    each = [stats.norm(one.mean * split.y_std, one.std * split.y_std) for one in of]
    y = split.y_test * split.y_std
    nats = np.log(np.mean([one.pdf(y) for one in each], axis=0)).mean()
    np.testing.assert_allclose(found.log_likelihood, nats, rtol=1e-4)
    p = np.mean([one.cdf(y) for one in each], axis=0)
    assert found.coverage_95 == np.mean((p >= 0.025) & (p <= 0.975))
    error = np.mean([one.mean() for one in each], axis=0) - y
    np.testing.assert_allclose(found.rmse, math.sqrt(np.mean(error**2)), rtol=1e-4)


@pytest.mark.slow
def test_the_program_prints_its_table_and_writes_its_numbers(tmp_path, capsys):
    write_set(tmp_path / "made")
    quick = ["--rounds", "1", "--steps", "10", "--restarts", "2", "--methods", "laplace", "--first-splits", "2"]
    written = tmp_path / "found.json"
    uci_evidence.main(["--data", str(tmp_path), "--splits", "gap", "--json", str(written), *quick])
    printed = capsys.readouterr().out
    assert "worst split" in printed
    of = json.loads(written.read_text())["sets"]["made"]["laplace"]
    assert of["worst"] == min(one["log_likelihood"] for one in of["splits"])
    assert len(of["splits"]) == 2
