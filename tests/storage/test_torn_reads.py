"""A reader sees one snapshot of a file, though another process puts a new one in its place while it reads."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.io import models
from bbb.tables import model as model_module

KEY = jax.random.key(0)
X = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
NETWORK = bbb.nn.linear(1, 1)


def model_of(value):
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), NETWORK.init(KEY))
    return bbb.bayesianize(NETWORK.apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5))


@pytest.fixture
def replaced(monkeypatch):
    """Return a function that replaces a file as soon as it is opened; it counts the openings."""
    real, wanted, opened = os.open, {}, []

    def opening(path, *args, **kwargs):
        handle = real(path, *args, **kwargs)
        if str(path) in wanted:
            opened.append(str(path))
            beside = f"{path}.new"
            shutil.copyfile(wanted[str(path)], beside)
            os.replace(beside, path)
        return handle

    monkeypatch.setattr(os, "open", opening)

    def put(path, other):
        wanted[str(path)] = str(other)
        return opened

    return put


def two_of(tmp_path, write):
    """Write a file of ones, and one of twos to be put in its place."""
    paths = tmp_path / "one", tmp_path / "two"
    for path, value in zip(paths, (1.0, 2.0), strict=True):
        write(path, value)
    return paths


def test_a_model_and_its_metadata_are_of_one_file(tmp_path, replaced):
    path, other = two_of(tmp_path, lambda path, value: models.save(path, model_of(value), {"value": value}))
    opened = replaced(path, other)
    model, metadata = models.load_with_metadata(path)
    assert (float(model.posterior.mean["bias"][0]), metadata) == (1.0, {"value": 1.0})
    assert len(opened) == 1
    assert float(bbb.load(path).posterior.mean["bias"][0]) == 2.0  # the next reader sees the new one
    assert len(opened) == 2


def test_a_tables_weights_and_the_names_of_its_columns_are_of_one_file(tmp_path, replaced):
    def write(path, value):
        model_module.TabularModel(model_of(value), (f"column {value:g}",), "y").save(path)

    path, other = two_of(tmp_path, write)
    opened = replaced(path, other)
    for value in (1.0, 2.0):
        model = model_module.TabularModel.load(path)
        assert (float(model.model.posterior.mean["bias"][0]), model.features) == (value, (f"column {value:g}",))
    assert len(opened) == 2


def test_an_exports_program_and_weights_are_of_one_file(tmp_path, replaced):
    pytest.importorskip("flatbuffers")

    def write(path, value):
        bbb.serving.export(path, model_of(value), X, draws=int(2 * value), levels=(), platforms=("cpu",))

    path, other = two_of(tmp_path, write)
    whole = [bbb.serving.load_exported(path), bbb.serving.load_exported(other)]
    opened = replaced(path, other)
    for expected in whole:
        served = bbb.serving.load_exported(path)
        assert served.draws == expected.draws
        np.testing.assert_array_equal(served.predict(KEY, X).f.mean, expected.predict(KEY, X).f.mean)
    assert len(opened) == 2


def test_a_checkpoint_is_read_as_one_file(tmp_path, replaced):
    ask = {"optimizer": optax.sgd(1e-3), "progress": False}

    def run(folder, steps, resume=False):
        return bbb.fit(
            KEY,
            model_of(1.0),
            X,
            X,
            steps=steps,
            checkpoints=bbb.train.Checkpointing(folder, every=5, resume=resume),
            **ask,
        )

    expected, _ = run(tmp_path / "whole", 15)
    run(tmp_path / "cut", 10)
    first, second = sorted((tmp_path / "cut").iterdir())
    shutil.copyfile(second, tmp_path / "later")
    second.unlink()
    opened = replaced(first, tmp_path / "later")  # step 5 is read while step 10 is put in its place
    model, history = run(tmp_path / "cut", 15, resume=True)
    assert len(opened) >= 1
    assert len(history.loss) == 15
    for one, other in zip(jax.tree.leaves(model.posterior), jax.tree.leaves(expected.posterior), strict=True):
        np.testing.assert_array_equal(one, other)
