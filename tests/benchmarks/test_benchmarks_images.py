"""Images: idx files are read right or refused, held-out rows are what they should be, and scores are what they say."""

import gzip
import json
import math
import pathlib
import struct

import jax
import numpy as np
import pytest

import bbb
from bbb.errors import TableError
from benchmarks import __main__ as everything
from benchmarks import images

QUICK = ["--steps", "30", "--hidden", "8", "--batch-size", "16", "--draws", "10", "--pruning-draws", "2"]
SIDE, TRAIN, TEST = 5, 120, 30
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def idx(array):
    """Write the idx format by its definition."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def made_set(seed=0):
    """Make images whose class is where they are bright: the bytes of the four files."""
    rng, contents = np.random.default_rng(seed), []
    for rows in (TRAIN, TEST):
        labels = np.arange(rows) % images.CLASSES
        pictures = rng.integers(0, 60, (rows, SIDE, SIDE))
        pictures.reshape(rows, -1)[np.arange(rows), 2 * labels] = 255
        contents += [idx(pictures), idx(labels)]
    return dict(zip(FILES, contents, strict=True))


def write_set(folder, contents=None, *, zipped=False):
    """Write a set, gzipped or not."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (contents or made_set()).items():
        file = folder / (f"{name}.gz" if zipped else name)
        file.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.fixture
def data(tmp_path):
    """Return a folder that holds the set mnist."""
    write_set(tmp_path / "mnist")
    return tmp_path


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_as_they_were_written(tmp_path, zipped):
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    file = tmp_path / "made"
    file.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    got = images.read_idx(file, axes=3)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, array)


def test_a_set_is_scaled_and_its_last_training_rows_are_held_out(data):
    labels = np.arange(TRAIN) % images.CLASSES
    got, held_out = images.read(data, "mnist"), images.read(data, "mnist", validation=True)
    for made in (got, held_out):
        assert made.train.x.shape == (100, SIDE**2)
        assert (made.train.x.dtype, made.train.y.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(made.train.y, labels[:100])
    assert got.train.x.max() == np.float32(255 / 126)
    np.testing.assert_array_equal(got.train.x, held_out.train.x)
    np.testing.assert_array_equal(held_out.scored.y, labels[100:])
    pixels = images.read_idx(data / "mnist" / FILES[0], axes=3).reshape(TRAIN, -1)
    np.testing.assert_allclose(held_out.scored.x * 126, pixels[100:], rtol=1e-6)
    assert got.scored.x.shape == (TEST, SIDE**2)


def test_validation_reads_no_test_rows(data):
    for name in FILES[2:]:
        (data / "mnist" / name).unlink()
    assert len(images.read(data, "mnist", validation=True).scored.y) == TRAIN // 6


@pytest.mark.parametrize("folder", ["fashion", "fashion-mnist", "fashion/usr/share/datasets/fashion-mnist"])
def test_packages_are_found_as_they_unpack(tmp_path, folder):
    write_set(tmp_path / folder, zipped=True)
    got = images.read(tmp_path, "fashion")
    assert (got.name, len(got.train.y)) == ("fashion", 100)


MADE = made_set()
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = FILES
WRONG = {
    "another number of axes": (
        IMAGES,
        MADE[LABELS],
        "to begin with 00000803, an idx file of bytes with 3 axes, got 000",
    ),
    "a web page": (LABELS, b"<html>", "to begin with 00000801, an idx file of bytes with 1 axes, got 3c68746d."),
    "no bytes": (TEST_LABELS, b"", "an idx file of bytes with 1 axes, got an empty file. Check the file, or download"),
    "a truncated head": (IMAGES, MADE[IMAGES][:9], "to have a head of 16 bytes, got 9 bytes. It is truncated"),
    "truncated": (
        TEST_IMAGES,
        MADE[TEST_IMAGES][:-1],
        "and have 766 bytes for shape (30, 5, 5), got 765 bytes. It is truncated or damaged: download it again.",
    ),
    "too long": (TEST_LABELS, MADE[TEST_LABELS] + b"\0", "and have 38 bytes for shape (30,), got 39 bytes."),
    "no elements": (TEST_LABELS, idx(np.zeros(0)), "to hold elements, and have 8 bytes for shape (0,), got 8 bytes."),
    "truncated gzip": (IMAGES, gzip.compress(MADE[IMAGES])[:-20], "to be a whole gzip file, got Compressed file ended"),
    "other rows": (LABELS, MADE[TEST_LABELS], "as many images as labels of the train rows in"),
    "a class too many": (TEST_LABELS, idx(np.full(TEST, 10)), "labels from 0 to 9 of the test rows in"),
    "another size": (TEST_IMAGES, idx(np.zeros((TEST, 4, 4))), "training and test images of one size in"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_named(data, what):
    name, content, said = WRONG[what]
    (data / "mnist" / name).write_bytes(content)
    with pytest.raises(TableError) as caught:
        images.read(data, "mnist")
    assert said in str(caught.value)
    assert str(data / "mnist") in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(data, name):
    (data / "mnist" / name).unlink()
    with pytest.raises(TableError, match=rf"no {name}.*, gzipped or not.* Debian's package dataset-fashion-mnist"):
        images.read(data, "mnist")


def test_a_single_training_row_cannot_be_split(tmp_path):
    write_set(tmp_path / "mnist", MADE | {IMAGES: idx(np.zeros((1, 5, 5))), LABELS: idx(np.zeros(1))})
    with pytest.raises(TableError, match=r"Expected at least 2 training rows in .*mnist, got 1"):
        images.read(tmp_path, "mnist")


def test_scores_are_what_they_say():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]], np.float32)
    got = images.score(np.array([0, 1, 1, 1]), probabilities)
    least = math.log(np.finfo(np.float32).tiny)
    assert got["error"] == 0.5
    assert got["log_score"] == pytest.approx((math.log(0.9) + math.log(0.1) + math.log(0.6) + least) / 4)
    assert got["ece"] == pytest.approx((2 * 0.4 + 0.4 + 1) / 4)


def test_the_priors_are_those_of_the_recipe():
    recipe = images.Recipe(prior_std=0.3, mixture_weight=0.75, minus_log_std1=1, minus_log_std2=7)
    normal, mixture = (recipe.prior(name) for name in images.PRIORS)
    assert isinstance(normal, bbb.priors.Normal)
    assert (normal.mean, normal.std) == (0.0, 0.3)
    assert (mixture.weight, mixture.std1, mixture.std2) == (0.75, math.exp(-1), math.exp(-7))
    grid = {0.25, 0.5, 0.75}, {0.0, 1.0, 2.0}, {6.0, 7.0, 8.0}
    for value, allowed in zip(
        (images.Recipe().mixture_weight, images.Recipe().minus_log_std1, images.Recipe().minus_log_std2),
        grid,
        strict=True,
    ):
        assert value in allowed


def test_the_long_run_is_a_hundred_epochs():
    long = images.full(images.Recipe(), 50_000)
    assert (long.steps, long.batch_size) == (39_100, 128)


def test_the_help_says_that_the_long_run_was_not_run_here():
    said = " ".join(images.parser().format_help().split())
    assert "the long run, of 100 epochs: not run here" in said
    assert "It was not run here, neither on MNIST nor on Fashion-MNIST" in said


@pytest.mark.slow
def test_it_learns_and_all_weights_pruned_is_a_guess(data, monkeypatch):
    monkeypatch.setattr(images, "FRACTIONS", (0.0, 1.0))
    hardly_any_kl = 100.0  # which would outweigh so few rows
    recipe = images.Recipe(
        steps=300, batch_size=20, hidden=20, learning_rate=0.01, warm_up=hardly_any_kl, draws=20, pruning_draws=5
    )
    got = images.measure(images.read(data, "mnist"), "gaussian", recipe)
    assert got["error"] < 0.2
    assert got["log_score"] > -math.log(images.CLASSES)
    assert [point["fraction"] for point in got["pruning"]] == [0.0, 1.0]
    assert got["pruning"][0]["accuracy"] > 0.8
    assert got["pruning"][1]["accuracy"] == 0.1  # the classes are equally many, and all rows get the same one


@pytest.mark.slow
def test_the_command_prints_and_writes_every_set_and_prior(data, capsys):
    write_set(data / "fashion", made_set(1), zipped=True)
    out = data / "found.json"
    images.main(["--data", str(data), "--json", str(out), *QUICK])
    found = json.loads(out.read_text())
    assert list(found) == ["sets"]
    assert list(found["sets"]) == ["mnist", "fashion"]
    printed = capsys.readouterr().out
    for name, priors in found["sets"].items():
        assert list(priors) == ["gaussian", "scale_mixture"]
        for prior, of in priors.items():
            seconds = {f"{what}seconds" for what in ("", "train_", "predict_", "pruning_", "cpu_")}
            assert of.keys() == {"error", "log_score", "ece", "pruning", "steps"} | seconds
            assert of["steps"] == 30
            assert 0 <= of["error"] <= 1
            assert of["log_score"] < 0
            assert 0 <= of["ece"] <= 1
            assert of["seconds"] == pytest.approx(of["train_seconds"] + of["predict_seconds"])
            assert [point["fraction"] for point in of["pruning"]] == list(images.FRACTIONS)
            scores, _, curve = (line for line in printed.splitlines() if f"{name}, {images.PRIORS[prior]} " in line)
            assert f"{of['error']:.2%}" in scores
            assert f"{of['log_score']:.4f}".replace("-", "−") in scores
            assert f"{of['pruning'][-1]['accuracy']:.2%}" in curve
    assert "Blundell et al. 2015, table 1" in printed
    assert "1.36%" in printed


def test_one_set_one_prior_and_no_published_errors_of_another_set(data, capsys):
    write_set(data / "fashion")
    images.main(["--data", str(data), "--sets", "fashion", "--priors", "gaussian", "--validation", *QUICK])
    printed = capsys.readouterr().out
    assert "fashion, Gaussian" in printed
    for other in ("mnist", "scale mixture", "Published"):
        assert other not in printed


def test_the_page_of_results_takes_both_sets(data):
    write_set(data / "fashion")
    (section,) = images.sections(data, images.Recipe(steps=3, hidden=4, draws=2, pruning_draws=2))
    assert section.title == "Two hidden layers of 4, 3 steps; test rows"
    runs = [(record["set"], record["prior"]) for record in section.records]
    assert runs == [(name, prior) for name in ("mnist", "fashion") for prior in ("gaussian", "scale_mixture")]
    assert f"{section.records[0]['error']:.2%}" in section.text


def test_the_page_of_results_is_refused_before_anything_runs_where_a_set_is_missing(data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        everything.main(["--quick", "--images", str(data), "--folder", str(tmp_path / "out")])
    assert "Expected the idx files of the set in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_each_prior_has_a_learning_rate_of_its_own(data, monkeypatch):
    rates = []
    monkeypatch.setattr(images, "_adam", lambda rate, steps: rates.append((rate, steps)))
    recipe = images.Recipe(steps=7, learning_rate=0.1, mixture_learning_rate=0.2)
    for prior in images.PRIORS:
        recipe.optimizer(prior)
    assert rates == [(0.1, 7), (0.2, 7)]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(data, monkeypatch):
    monkeypatch.setattr(images, "FRACTIONS", (0.5,))
    rows, recipe = images.read(data, "mnist"), images.Recipe(steps=5, hidden=4, draws=2, pruning_draws=2)
    first, again, other = (images.measure(rows, "gaussian", recipe, seed)["log_score"] for seed in (1, 1, 2))
    assert first == again != other


def test_what_the_command_cannot_do_is_said_before_anything_is_computed(data, capsys):
    file = data / "mnist" / LABELS
    for options, said in (
        (["--data", str(data / "nowhere")], "Expected --data to be a folder, got no folder"),
        (["--data", str(data)], "Expected the idx files of the set in"),  # fashion is not there
        (["--data", str(data), "--sets", "cifar"], "invalid choice: 'cifar'"),
        (["--data", str(data), "--sets", "mnist", "--steps", "0"], "Expected --steps to be"),
        (["--data", str(data), "--steps", "3", "--full"], "not allowed with argument"),
        (["--data", str(data), "--sets", "mnist", "--json", str(file / "a.json")], "a writable folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            images.main(options)
        assert caught.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_run_meets_the_bound_on_fashion_mnist():
    """At most 12 % of error after 1,000 steps."""
    folder = pathlib.Path("/usr/share/datasets")
    if not (folder / "fashion-mnist").is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    recipe, rows = images.Recipe(), images.read(folder, "fashion")
    model = images.train(jax.random.key(0), rows.train, "gaussian", recipe)
    found = bbb.predict(jax.random.key(1), model, rows.scored.x, draws=recipe.draws)
    assert images.score(rows.scored.y, found.y.probabilities)["error"] <= 0.12
