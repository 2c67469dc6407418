"""An export of a network of several inputs: its file needs neither the network's code nor the classes of the tree."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from bbb.networks import Shared
from tests import ROOT
from tests.serving.models import DRAWS, KEY, exported

pytest.importorskip("flatbuffers")

ROWS = 11
NETWORK = bbb.nn.sequential(bbb.nn.linear(4, 6), bbb.nn.tanh, bbb.nn.linear(6, 1))
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(ROWS, 2)).astype(np.float32)
WORDS = RNG.integers(0, 5, size=(ROWS, 3)).astype(np.int32)
TABLE = RNG.normal(size=(5, 2)).astype(np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """Numbers, words, a mask that may be absent, and a table that all rows share."""

    numbers: jax.Array
    words: tuple[jax.Array, None]
    table: Shared


def apply(params, x):
    means = x.table.value[x.words[0]].mean(axis=1)
    return NETWORK.apply(params, jnp.concatenate([x.numbers, means], axis=1))


def inputs(rows=slice(None), numbers=NUMBERS, words=WORDS, table=TABLE):
    return Inputs(numbers[rows], (words[rows], None), Shared(table))


def as_dict(x):
    return {"numbers": x.numbers, "words": x.words, "table": x.table}


def model_of(network=apply):
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    return bbb.bayesianize(network, NETWORK.init(jax.random.key(0)), std=0.2, **beliefs)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("trees"), model_of(), inputs())


def test_it_says_what_predict_says_of_a_tree(served):
    band, expected = served.predict(KEY, inputs()), bbb.predict(KEY, model_of(), inputs(), draws=DRAWS)
    np.testing.assert_allclose(band.f.mean, expected.f.mean, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(band.f.std, expected.f.std, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(band.y.interval(0.95), expected.y.interval(0.95), rtol=2e-5, atol=1e-4)
    assert band.x is None


def test_rows_are_cut_and_what_they_share_is_not(served):
    whole = served.predict(KEY, inputs())
    many = np.resize(np.arange(ROWS), 150)
    for rows in (slice(3, 4), slice(0, 9), many):
        part = served.predict(KEY, inputs(rows)).f.mean
        np.testing.assert_allclose(part, np.asarray(whole.f.mean)[rows], rtol=1e-5, atol=1e-6)
    other = served.predict(KEY, inputs(table=TABLE + 1))
    expected = bbb.predict(KEY, model_of(), inputs(table=TABLE + 1), draws=DRAWS)
    np.testing.assert_allclose(other.f.mean, expected.f.mean, rtol=2e-5, atol=1e-5)


def test_it_tells_what_rows_it_takes(served):
    assert served.row == {"numbers": (2,), "words/0": (3,), "table": (5, 2)}
    assert served.dtype == {"numbers": np.float32, "words/0": np.int32, "table": np.float32}


SERVE = """
    import sys
    import bbb, jax, numpy as np
    given = np.load(sys.argv[2])
    x = {"numbers": given["numbers"], "words": (given["words"], None), "table": bbb.networks.Shared(given["table"])}
    band = bbb.serving.load_exported(sys.argv[1]).predict(jax.random.key(3), x)
    np.save(sys.argv[3], band.f.mean)
"""


def test_it_runs_where_the_class_of_its_tree_is_not(tmp_path):
    """Paths of a dict are sorted, and those of the dataclass are not: the leaves are found by their paths."""
    bbb.serving.export(tmp_path / "m.bbb", model_of(), inputs(), draws=DRAWS, platforms=["cpu"])
    np.savez(tmp_path / "x.npz", numbers=NUMBERS, words=WORDS, table=TABLE)
    files = [tmp_path / name for name in ("m.bbb", "x.npz", "out.npy")]
    command = [sys.executable, "-c", textwrap.dedent(SERVE), *map(str, files)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert run.returncode == 0, run.stderr
    expected = bbb.predict(KEY, model_of(), inputs(), draws=DRAWS).f.mean
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=2e-5, atol=1e-5)


def test_a_tree_of_one_array_is_asked_for_by_its_path(tmp_path):
    def network(params, x):
        return NETWORK.apply(params, x["all"])

    x = np.concatenate([NUMBERS, NUMBERS], axis=1)
    one = exported(tmp_path, model_of(network), {"all": x})
    expected = bbb.predict(KEY, model_of(network), {"all": x}, draws=DRAWS).f.mean
    np.testing.assert_allclose(one.predict(KEY, {"all": x}).f.mean, expected, rtol=2e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"Expected x to be a tree of the arrays 'all', got a ndarray\. Pass x like"):
        one.predict(KEY, x)


def test_each_head_of_several_is_exported_with_the_draws_of_all(tmp_path):
    def both(params, x):
        out = NETWORK.apply(params, x)
        return {"mean": out, "twice": 2 * out}

    likelihood = {"mean": bbb.likelihoods.Gaussian(0.3), "twice": bbb.likelihoods.Gaussian(0.3)}
    start = NETWORK.init(jax.random.key(0))
    model = bbb.bayesianize(both, start, prior=bbb.priors.Normal(), likelihood=likelihood, std=0.2)
    x = np.concatenate([NUMBERS, NUMBERS], axis=1)
    message = r"Expected a model of one output, for export, got one of 2\. Export model\.head\('mean'\) and each other"
    with pytest.raises(InputError, match=message):
        exported(tmp_path, model, x)
    one, other = (exported(tmp_path, model.head(name), x).predict(KEY, x) for name in ("mean", "twice"))
    np.testing.assert_allclose(2 * one.f.mean, other.f.mean, rtol=1e-5)


def test_arrays_of_one_path_are_refused(tmp_path):
    def network(params, x):
        return NETWORK.apply(params, jnp.concatenate([x["a"]["b"], x["a/b"]], axis=1))

    with pytest.raises(InputError, match=r"paths of their own, got several at 'a/b'\. Name them without '/'\."):
        exported(tmp_path, model_of(network), {"a": {"b": NUMBERS}, "a/b": NUMBERS})


def test_a_network_in_which_rows_meet_is_refused(tmp_path):
    def network(params, x):
        return NETWORK.apply(params, x["all"] - x["all"].mean(axis=0, keepdims=True))

    with pytest.raises(InputError, match=r"processes each row of x by itself, for an export.* Use bbb\.predict\("):
        exported(tmp_path, model_of(network), {"all": np.concatenate([NUMBERS, NUMBERS], axis=1)})
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "an array": (NUMBERS, InputError, "a tree of the arrays 'numbers', 'words/0', 'table', got a ndarray"),
    "a leaf too few": (
        {"numbers": NUMBERS, "table": Shared(TABLE)},
        InputError,
        "the arrays 'numbers', 'words/0', 'table', got 'numbers', 'table'",
    ),
    "a leaf too many": (
        {**as_dict(inputs()), "mask": WORDS},
        InputError,
        "got 'mask', 'numbers', 'table', 'words/0'",
    ),
    "rows in the place of what is shared": (
        {**as_dict(inputs()), "table": TABLE},
        InputError,
        "x leaf 'table' to be bbb.networks.Shared, as all rows share it, got an array with rows",
    ),
    "shared in the place of rows": (
        {**as_dict(inputs()), "numbers": Shared(NUMBERS)},
        InputError,
        "x leaf 'numbers' to be an array with rows, got bbb.networks.Shared",
    ),
    "other rows": (
        inputs(numbers=NUMBERS[:4]),
        ShapeError,
        "x leaf 'words/0' to have the 4 rows of 'numbers', got 11 rows",
    ),
    "another shape": (inputs(numbers=NUMBERS[:, :1]), ShapeError, r"x leaf 'numbers' of shape (rows, 2), got shape"),
    "another shape of what is shared": (
        inputs(table=TABLE[:3]),
        ShapeError,
        "x leaf 'table' of shape (5, 2), got shape (3, 2)",
    ),
    "NaN": (inputs(numbers=NUMBERS * np.nan), NonFiniteInputError, "x leaf 'numbers' to hold finite numbers"),
    "NaN that is shared": (inputs(table=TABLE * np.nan), NonFiniteInputError, "x leaf 'table' to hold finite"),
    "half a word": (inputs(words=WORDS + 0.5), InputError, "x leaf 'words/0' of int32, got float64, with other"),
    "words": ({**as_dict(inputs()), "numbers": ["a"]}, InputError, "x leaf 'numbers' to be real numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tree_that_does_not_fit_is_refused_by_the_name_of_its_leaf(served, case):
    x, error, message = REFUSED[case]
    with pytest.raises(error) as caught:
        served.predict(KEY, x)
    assert message in str(caught.value)
