"""Frames of pandas and polars: the same numbers as arrays, names that are kept, and columns that are named."""

import numpy as np
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bbb.errors import InputError, NonFiniteInputError
from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor

QUICK = {"hidden_layer_sizes": 3, "steps": 50, "draws": 20, "random_state": 0, "posterior": "mean_field"}


@pytest.fixture(params=["pandas", "polars"])
def library(request):
    return pytest.importorskip(request.param)


def rows(count=30, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 2))
    return X, X[:, 0] + 0.3 * rng.normal(size=count), rng.integers(1, 3, count)


def frame(library, X, *names, **more):
    return library.DataFrame({**dict(zip(names or ("a", "b"), X.T, strict=True)), **more})


def test_the_numbers_are_those_of_arrays(library):
    X, y, counts = rows()
    table, series = frame(library, X), library.Series(y)
    model = BayesianMLPRegressor(**QUICK).fit(table, series, sample_weight=library.Series(counts))
    plain = BayesianMLPRegressor(**QUICK).fit(X, y, counts)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    assert not hasattr(plain, "feature_names_in_")
    np.testing.assert_array_equal(model.predict(table), plain.predict(X))
    np.testing.assert_array_equal(model.predict_interval(table), plain.predict_interval(X))
    np.testing.assert_array_equal(model.sample_y(table, 2), plain.sample_y(X, 2))
    assert model.log_score(table, series, library.Series(counts)) == plain.log_score(X, y, counts)
    model.partial_fit(table, series)
    np.testing.assert_array_equal(model.predict(table), plain.partial_fit(X, y).predict(X))


def test_labels_of_a_frame(library):
    X, y, _ = rows()
    labels = np.where(y > 0, "up", "down")
    model = BayesianMLPClassifier(**QUICK).fit(frame(library, X), library.Series(labels.tolist()))
    plain = BayesianMLPClassifier(**QUICK).fit(X, labels)
    assert model.classes_.tolist() == ["down", "up"]
    np.testing.assert_array_equal(model.predict_proba(frame(library, X)), plain.predict_proba(X))
    assert model.score(frame(library, X), library.Series(labels.tolist())) == plain.score(X, labels)


def test_several_targets_of_a_frame(library):
    X, y, _ = rows()
    both = np.column_stack([y, -y])
    model = BayesianMLPRegressor(**QUICK).fit(frame(library, X), frame(library, both, "up", "down"))
    np.testing.assert_array_equal(
        model.predict(frame(library, X)), BayesianMLPRegressor(**QUICK).fit(X, both).predict(X)
    )


def test_other_columns_are_named(library):
    X, y, _ = rows()
    model = BayesianMLPRegressor(**QUICK).fit(frame(library, X), y)
    for names in (("a", "c"), ("b", "a")):
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame(library, X, *names))
    with pytest.raises(ValueError, match=r"(?s)feature names should match.*unseen at fit time.*- c"):
        model.predict(frame(library, X, c=y))


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_frames_between_the_steps_of_a_pipeline_change_nothing(name):
    library = pytest.importorskip(name)
    X, y, _ = rows()
    plain = make_pipeline(StandardScaler(), BayesianMLPRegressor(**QUICK)).fit(X, y)
    piped = make_pipeline(StandardScaler(), BayesianMLPRegressor(**QUICK)).set_output(transform=name)
    piped.fit(frame(library, X), y)
    assert piped[-1].feature_names_in_.tolist() == ["a", "b"]
    expected = plain.predict(X)
    np.testing.assert_array_equal(piped.predict(frame(library, X)), expected)
    with sklearn.config_context(transform_output=name):
        everywhere = make_pipeline(StandardScaler(), BayesianMLPRegressor(**QUICK)).fit(frame(library, X), y)
        found = everywhere.predict(frame(library, X))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected)


# Columns that hold what is no number


CASES = {
    "lists": ({"city": [["Paris"], ["Rome"]] * 15}, InputError, "got something else in column 'city'"),
    "several": ({"a": [["a"]] * 30, "b": [["b"]] * 30}, InputError, "got something else in columns 'a', 'b'"),
    "lists beside words": ({"a": ["x", "y"] * 15, "b": [["b"]] * 30}, InputError, "words or dates in column 'b' in X"),
    "gaps": ({"age": [1.0, float("nan")] * 15}, NonFiniteInputError, "got NaN or infinity in column 'age'"),
    "nothing": ({"age": [1.0, None] * 15}, NonFiniteInputError, "got NaN or infinity in column 'age'"),
    "many": (
        {f"x{i}": [float("inf")] * 30 for i in range(7)},
        NonFiniteInputError,
        "in columns 'x0', 'x1', 'x2', 'x3', 'x4' and 2 more",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_columns_that_are_no_numbers_are_named(library, case):
    more, error, text = CASES[case]
    X, y, _ = rows()
    with pytest.raises(error, match=text) as caught:
        BayesianMLPRegressor(**QUICK).fit(frame(library, X, **more), y)
    assert str(caught.value).startswith("Expected ")


def test_what_is_no_fault_of_a_column_is_said_by_scikit_learn(library):
    X, y, _ = rows()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        BayesianMLPRegressor(**QUICK).fit(frame(library, X), y[:5])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        BayesianMLPRegressor(**QUICK).fit(frame(library, X), y * np.nan)


def test_numbers_of_other_kinds_are_numbers():
    pandas = pytest.importorskip("pandas")
    X, y, _ = rows()
    mixed = {"n": np.arange(30), "yes": y > 0, "half": X[:, 0].astype("float32")}
    model = BayesianMLPRegressor(**QUICK).fit(pandas.DataFrame(mixed), y)
    arrays = BayesianMLPRegressor(**QUICK).fit(np.column_stack([*mixed.values()]).astype(float), y)
    np.testing.assert_array_equal(
        model.predict(pandas.DataFrame(mixed)), arrays.predict(np.column_stack([*mixed.values()]).astype(float))
    )


def test_a_frame_with_a_name_twice_gets_scikit_learns_words():
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame(np.full((6, 2), np.nan), columns=["a", "a"])
    with pytest.raises(ValueError, match=r"unique column names|Input X contains NaN"):
        BayesianMLPRegressor(**QUICK).fit(twice, np.arange(6.0))
