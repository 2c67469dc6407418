"""`conformal` and `conformal_sets`: what they return of models, by group, with weights, in files and on devices."""

import dataclasses

import jax
import numpy as np
import pytest

import bbb
from bbb.decide.coverage import conformal, conformal_sets, load_conformal
from bbb.decide.coverage.calibration import calibration_of
from bbb.decide.coverage.ranks import rank_of
from bbb.decide.coverage.sets import ClassScore, of_label, within
from bbb.errors import InputError, ModelFileError
from bbb.io import models
from bbb.networks import nn

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, NEW = RNG.uniform(-1, 1, (60, 1)), RNG.uniform(-1, 1, (45, 1))
Y = np.sin(3 * X) + 0.3 * RNG.standard_normal(X.shape)
LABELS = (X[:, 0] > 0.3 * RNG.standard_normal(60)).astype(int)
GROUPS = np.where(X[:, 0] > 0, "right", "left")
DRAWS = 20


def model_of(outputs=1, likelihood=None):
    layers = nn.sequential(nn.linear(1, 3), nn.tanh, nn.linear(3, outputs))
    likelihood = likelihood or bbb.likelihoods.Gaussian(0.1)
    return bbb.bayesianize(layers.apply, layers.init(KEY), prior=bbb.priors.Normal(), likelihood=likelihood, std=0.1)


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def classifier():
    return model_of(3, bbb.likelihoods.Categorical())


def calibrated(model, **options):
    return conformal(KEY, model, X, Y, **{"draws": DRAWS, "levels": (0.8, 0.9), **options})


def calibrated_sets(classifier, **options):
    return conformal_sets(KEY, classifier, X, LABELS, **{"draws": DRAWS, **options})


def inside(interval, y):
    return (interval.lower <= y) & (y <= interval.upper)


@pytest.mark.parametrize("score", ["quantile", "std"])
def test_of_the_calibration_rows_the_rank_is_inside_and_no_more(model, score):
    held = calibrated(model, score=score)
    for level in (0.8, 0.9):
        found = held.interval(X, level)
        assert found.lower.dtype == np.float64
        assert inside(found, Y).sum() == rank_of(level, 60)


def test_quantiles_move_the_models_own_interval_by_one_number(model):
    held = calibrated(model)
    own = bbb.predict(KEY, model, NEW, draws=DRAWS, levels=(0.9,)).y.interval(0.9)
    found = held.interval(NEW, 0.9)
    moved = np.concatenate([own.lower - found.lower, found.upper - own.upper])
    assert moved.min() > 0.1  # the model says far too small a noise
    np.testing.assert_allclose(moved, moved[0, 0], rtol=1e-5)


def test_a_std_is_multiplied_by_one_number_at_any_level(model):
    held = calibrated(model, score="std", levels=(0.9,))
    own = bbb.predict(KEY, model, NEW, draws=DRAWS).y
    for level in (0.5, 0.9, 0.98):
        found = held.interval(NEW, level)
        times = (found.upper - found.lower) / (2 * own.std)
        np.testing.assert_allclose(times, times[0, 0], rtol=1e-5)


def test_every_level_asked_for_is_that_of_its_own_calibration(model):
    both, one = calibrated(model), calibrated(model, levels=(0.9,))
    for end, same in zip(both.interval(NEW, 0.9), one.interval(NEW, 0.9), strict=True):
        np.testing.assert_array_equal(end, same)


def test_answers_do_not_depend_on_other_rows_or_their_order_or_on_memory(model):
    held = calibrated(model)
    found, order = held.interval(NEW, 0.8), np.random.default_rng(1).permutation(45)
    for again in (held.interval(NEW[order], 0.8), held.interval(NEW[order], 0.8, memory="1MB")):
        np.testing.assert_allclose(again.lower, found.lower[order], rtol=1e-6)
    rows = conformal(KEY, model, X[::-1], Y[::-1], draws=DRAWS, levels=(0.8,))
    np.testing.assert_allclose(rows.interval(NEW, 0.8).upper, found.upper, rtol=1e-6)


def test_each_output_is_calibrated_by_itself(model):
    two = model_of(2)
    y = np.concatenate([Y, 5 * Y], axis=1)
    held = conformal(KEY, two, X, y, draws=DRAWS, levels=(0.9,))
    np.testing.assert_array_equal(inside(held.interval(X, 0.9), y).sum(axis=0), rank_of(0.9, 60))


def test_each_group_is_calibrated_by_its_own_rows(model):
    held = calibrated(model, groups=GROUPS, levels=(0.8,))
    found = inside(held.interval(X, 0.8, groups=GROUPS), Y)[:, 0]
    for name in ("left", "right"):
        assert found[name == GROUPS].sum() == rank_of(0.8, np.sum(name == GROUPS))
    left = conformal(KEY, model, X[GROUPS == "left"], Y[GROUPS == "left"], draws=DRAWS, levels=(0.8,))
    names = ["left"] * 45
    np.testing.assert_allclose(held.interval(NEW, 0.8, groups=names).lower, left.interval(NEW, 0.8).lower, rtol=1e-6)


def test_weights_of_one_change_nothing_and_a_large_one_leaves_nothing_out(model):
    held, plain = calibrated(model, weights=np.ones(60)), calibrated(model)
    for end, same in zip(held.interval(NEW, 0.9, weights=np.ones(45)), plain.interval(NEW, 0.9), strict=True):
        np.testing.assert_array_equal(end, same)
    lower, upper = held.interval(NEW, 0.9, weights=[100.0] + [1.0] * 44)
    assert np.isneginf(lower[0]).all()
    assert np.isposinf(upper[0]).all()
    assert np.isfinite(upper[1:]).all()


@pytest.mark.parametrize("likelihood", [bbb.likelihoods.Poisson(), bbb.likelihoods.NegativeBinomial(2.0)])
@pytest.mark.parametrize("score", ["quantile", "std"])
def test_of_counts_the_ends_are_whole_numbers_from_0(likelihood, score):
    y = np.random.default_rng(3).poisson(3.0, (60, 1))
    held = conformal(KEY, model_of(1, likelihood), X, y, draws=DRAWS, levels=(0.8,), score=score)
    found = held.interval(X, 0.8)
    np.testing.assert_array_equal(found.lower, np.round(found.lower))
    assert found.lower.min() >= 0
    assert inside(found, y).sum() >= rank_of(0.8, 60)


def test_a_model_that_is_far_too_wide_has_an_interval_without_width_and_not_one_turned_round():
    wide = model_of(1, bbb.likelihoods.Gaussian(100.0))
    lower, upper = conformal(KEY, wide, X, Y, draws=DRAWS, levels=(0.9,)).interval(NEW, 0.9)
    assert (lower <= upper).all()


def test_a_closed_form_is_calibrated_too(model):
    linear = dataclasses.replace(model, linearized=True)
    held = conformal(KEY, linear, X, Y, levels=(0.9,))
    assert inside(held.interval(X, 0.9), Y).sum() == rank_of(0.9, 60)


def test_float64(model):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype("float64"), model)
        held = conformal(KEY, wide, X, Y, draws=DRAWS, levels=(0.9,), score="std")
        assert inside(held.interval(X, 0.9), Y).sum() == rank_of(0.9, 60)


def test_a_mesh_changes_nothing(model):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("draws",))
    held, on_mesh = calibrated(model), calibrated(model, mesh=mesh)
    np.testing.assert_allclose(held.interval(NEW, 0.9).lower, on_mesh.interval(NEW, 0.9, mesh=mesh).lower, rtol=1e-6)


def test_rows_that_were_trained_on_are_noticed(model):
    with pytest.raises(InputError, match=r"calibration rows that were not trained on, got 2 of 60.*first at row 7"):
        calibrated(model, trained_on=(X[[7, 30]], Y[[7, 30]]))
    calibrated(model, trained_on=(X, Y + 1), levels=(0.9,))  # the same x, and other observations


def test_sets_hold_the_rank_of_the_calibration_labels_and_the_most_probable_class(classifier):
    held = calibrated_sets(classifier)
    for level in (0.3, 0.8, 0.9):
        found = held.sets(X, level)
        assert found.shape == (60, 3)
        assert found[np.arange(60), LABELS].sum() >= rank_of(level, 60)
    p = bbb.predict(KEY, classifier, NEW, draws=DRAWS).y.classes
    assert held.sets(NEW, 0.1)[np.arange(45), p].all()


def test_randomised_sets_are_smaller_and_each_call_has_a_key_of_its_own(classifier):
    plain, held = calibrated_sets(classifier), calibrated_sets(classifier, randomised=True)
    first = held.sets(NEW, 0.8, key=KEY)
    np.testing.assert_array_equal(first, held.sets(NEW, 0.8, key=KEY))
    assert (first != held.sets(NEW, 0.8, key=jax.random.key(5))).any()
    assert first.sum() < plain.sets(NEW, 0.8).sum()


def test_a_penalty_leaves_no_long_set():
    rng = np.random.default_rng(4)
    p = rng.dirichlet([0.2] * 10, 400)
    y, ones = np.array([rng.choice(10, p=row) for row in p]), np.ones(400)

    def sizes(score):
        bounds = calibration_of(of_label(score.scores(p, ones), y), (), None, None).bounds(0.9, 400)
        return within(score.scores(p, ones), bounds, p).sum(axis=1)

    plain, short = sizes(ClassScore()), sizes(ClassScore(0.2, 2))
    assert short.max() < plain.max()


@pytest.mark.parametrize("options", [{}, {"score": "std"}, {"groups": GROUPS}, {"weights": np.linspace(1, 2, 60)}])
def test_a_calibrated_model_is_the_same_from_its_file(model, options, tmp_path):
    held = calibrated(model, **options)
    held.save(tmp_path / "held.safetensors")
    again = load_conformal(tmp_path / "held.safetensors")
    new = {name: value for name, value in (("groups", GROUPS[:45]), ("weights", np.ones(45))) if name in options}
    for end, same in zip(held.interval(NEW, 0.9, **new), again.interval(NEW, 0.9, **new), strict=True):
        np.testing.assert_array_equal(end, same)
    assert repr(again) == repr(held)


def test_calibrated_sets_are_the_same_from_their_file(classifier, tmp_path):
    held = calibrated_sets(classifier, score="raps", randomised=True)
    held.save(tmp_path / "held.safetensors")
    again = load_conformal(tmp_path / "held.safetensors")
    np.testing.assert_array_equal(held.sets(NEW, 0.8, key=KEY), again.sets(NEW, 0.8, key=KEY))
    assert again.score == held.score


def test_the_file_holds_the_model_too_and_a_model_file_no_calibration(model, tmp_path):
    calibrated(model).save(tmp_path / "held")
    found = bbb.predict(KEY, bbb.load(tmp_path / "held"), NEW, draws=DRAWS).y.mean
    np.testing.assert_array_equal(found, bbb.predict(KEY, model, NEW, draws=DRAWS).y.mean)
    bbb.save(tmp_path / "model", model)
    with pytest.raises(ModelFileError, match="to hold a calibrated model, got: KeyError 'conformal'"):
        load_conformal(tmp_path / "model")


DAMAGE = {
    "draws": ({"draws": -1}, {}),
    "method": ({"method": "guess"}, {}),
    "keys": ({}, {"key": np.zeros((3, 2), np.uint32)}),
    "names": ({"groups": [None, {}]}, {"groups": np.zeros(60, np.int32)}),
    "group": ({"groups": [0, 1]}, {"groups": np.full(60, -1, np.int32)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_where_it_is_read_and_not_where_it_is_asked(model, damage, tmp_path, monkeypatch):
    text, replaced = DAMAGE[damage]
    save = models.save_with_arrays

    def damaged(path, model, metadata, arrays):
        save(path, model, {"conformal": metadata["conformal"] | text}, arrays | replaced)

    monkeypatch.setattr(models, "save_with_arrays", damaged)
    calibrated(model).save(tmp_path / "held")
    with pytest.raises(ModelFileError, match="to hold a calibrated model"):
        load_conformal(tmp_path / "held")


def test_it_shows_its_score_rows_levels_and_groups(model, classifier):
    shown = repr(calibrated(model, groups=GROUPS, levels=(0.8,)))
    assert "score        quantile" in shown
    assert "60 rows" in shown
    assert "left, right" in shown
    assert "up to 0.9836" in repr(calibrated_sets(classifier))
