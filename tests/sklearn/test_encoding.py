"""Columns of words and dates, and missing values: encoded as by `bbb.tables`, and kept in the estimator."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from bbb import tables
from bbb.errors import InputError, NonFiniteInputError, TableError
from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.regressor import BayesianMLPRegressor
from bbb.sklearn.scorer import LogScorer
from bbb.tables.encoding import Encoding

pytest.importorskip("narwhals")
pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))

QUICK = {"hidden_layer_sizes": 3, "steps": 50, "draws": 20, "random_state": 0, "posterior": "mean_field"}
NAMES = ("size", "town", "when", "new")


def columns(count=40, seed=0):
    """Return columns of every kind, and a target that depends on the town."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Ulm", "Bern", "Rom"], count, p=[0.5, 0.4, 0.1])
    when = np.datetime64("2026-01-31") + rng.integers(0, 100, count).astype("timedelta64[D]")
    found = {"size": rng.normal(size=count), "town": town, "when": when.astype("datetime64[us]")}
    y = found["size"] + 2 * (town == "Ulm") + 0.1 * rng.normal(size=count)
    return found | {"new": rng.random(count) < 0.5}, y


def frame(**more):
    return pandas.DataFrame(columns()[0] | more)


Y = columns()[1]


def regressor(**options):
    return BayesianMLPRegressor(**{**QUICK, **options})


@pytest.fixture(scope="module")
def fitted():
    return regressor().fit(frame(), Y)


def with_holes():
    """Return rows with a missing value of every kind, in rows of their own."""
    return frame().astype({"new": "boolean"}).mask(np.eye(40, 4, dtype=bool))


# The same encoding


@pytest.mark.parametrize("missing", ["refuse", "median", "indicator"])
def test_the_network_gets_what_that_of_fit_table_gets(missing):
    rows = frame() if missing == "refuse" else with_holes()
    model, table = regressor(missing=missing).fit(rows, Y), tables.as_table(rows)
    encoding = Encoding.learned(table, NAMES, missing)
    assert model.encoding_ == encoding
    assert (model.n_features_in_, tuple(model.feature_names_in_)) == (4, NAMES)
    x = encoding.encode(table)
    assert x.shape[1] == {"refuse": 6, "median": 6, "indicator": 10}[missing]
    np.testing.assert_allclose(
        model.x_scaler_.transform(x), (x - x.mean(axis=0)) / encoding.scales(x.var(axis=0)), rtol=1e-9, atol=1e-12
    )


FRAMES = {
    "polars": polars.from_pandas,
    "pyarrow": lambda rows: pyarrow.Table.from_pandas(rows, preserve_index=False),
    "pandas categories": lambda rows: rows.astype({"town": "category"}),
    "pandas objects": lambda rows: rows.astype({"town": object, "when": object, "size": object}),
    "polars categories": lambda rows: polars.from_pandas(rows).cast({"town": polars.Categorical}),
    "another index": lambda rows: rows.set_index(np.full(40, 7)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_any_library_leads_to_the_same_numbers(fitted, name):
    made = FRAMES[name](frame())
    model = regressor().fit(made, Y)
    assert model.encoding_ == fitted.encoding_
    np.testing.assert_array_equal(model.predict(made), fitted.predict(frame()))
    np.testing.assert_array_equal(fitted.predict_quantiles(made), fitted.predict_quantiles(frame()))
    np.testing.assert_array_equal(fitted.sample_y(made, 2), fitted.sample_y(frame(), 2))
    np.testing.assert_array_equal(fitted.predict_noise_std(made), fitted.predict_noise_std(frame()))
    assert fitted.log_score(made, Y) == fitted.log_score(frame(), Y)


@pytest.mark.parametrize("posterior", ["mean_field", "laplace"])
def test_words_are_learned_from(posterior):
    options = {"posterior": posterior, "steps": 1000}
    rows, (more, y) = frame(), columns(200, seed=1)
    scores = [
        regressor(**options).fit(rows[list(names)], Y).score(pandas.DataFrame(more)[list(names)], y)
        for names in (("size", "town"), ("size", "when"))
    ]
    assert scores[0] > 0.95
    assert scores[1] < 0.7


def test_a_classifier_takes_words():
    model = BayesianMLPClassifier(**QUICK | {"steps": 500}).fit(frame(), frame()["town"] == "Ulm")
    assert model.score(frame(), frame()["town"] == "Ulm") == 1
    assert model.predict_proba(frame()).shape == (40, 2)
    with pytest.raises(TableError, match="column 'town' in X, got 'Genf' in row 1 of 40"):
        model.predict_entropy(frame(town="Genf"))


def test_numbers_without_holes_keep_their_bits_whatever_is_done_about_these():
    X = np.random.default_rng(0).normal(size=(40, 2))
    named = pandas.DataFrame(X, columns=["a", "b"])
    plain = regressor().fit(X, Y)
    assert plain.encoding_ is None
    assert regressor().fit(named, Y).encoding_ is None
    for missing in ("median", "indicator"):
        for rows in (X, named, pandas.DataFrame(X)):
            model = regressor(missing=missing).fit(rows, Y)
            np.testing.assert_array_equal(model.predict(rows), plain.predict(X))


# Missing values


def test_missing_numbers_of_arrays_and_frames_become_the_median():
    X = np.random.default_rng(0).normal(size=(40, 2))
    holed, filled = X.copy(), X.copy()
    holed[3:6, 1], filled[3:6, 1] = np.nan, np.median(np.delete(X[:, 1], [3, 4, 5]))
    plain = regressor().fit(filled, Y)
    for rows in (holed, pandas.DataFrame(holed, columns=["a", "b"]), polars.DataFrame(holed, schema=["a", "b"])):
        model = regressor(missing="median").fit(rows, Y)
        np.testing.assert_array_equal(model.predict(rows), plain.predict(filled))
    told = regressor(missing="indicator").fit(holed, Y)
    assert told.encoding_.width == 3
    assert np.abs(told.predict(holed) - told.predict(filled))[3:6].min() > 0


def test_what_stands_for_missing_values_is_learned_from_the_rows_to_fit():
    model = regressor(missing="median").fit(with_holes(), Y)
    empty = with_holes().iloc[[0] * 3].assign(town=None, when=pandas.NaT)
    fills = {column.name: column.fill for column in model.encoding_.columns}
    assert fills["size"] == np.median(frame()["size"][1:])
    town = model.encoding_.columns[1].categories[int(fills["town"])]
    assert town == with_holes()["town"].mode()[0]
    like = empty.assign(size=fills["size"], town=town, when=pandas.Timestamp(model.encoding_.columns[2].origin))
    like["when"] += pandas.Timedelta(days=fills["when"])
    np.testing.assert_array_equal(model.predict(empty), model.predict(like))


def test_scikit_learn_is_told_whether_values_may_be_missing():
    allowed = [regressor(missing=word).__sklearn_tags__().input_tags.allow_nan for word in ("refuse", "median")]
    assert allowed == [False, True]


# Weights of rows


@pytest.mark.parametrize("kind", [BayesianMLPRegressor, BayesianMLPClassifier])
def test_a_weight_says_how_often_a_row_is_encoded(kind):
    counts = np.random.default_rng(2).integers(0, 4, 40)
    rows, y = with_holes(), Y if kind is BayesianMLPRegressor else Y > 0
    rows.loc[counts == 0, ["town", "size"]] = ["nowhere", 1e6]
    weighted = kind(**QUICK, missing="indicator").fit(rows, y, counts)
    index = np.repeat(np.arange(40), counts)
    repeated = kind(**QUICK, missing="indicator").fit(rows.iloc[index], y[index])
    assert weighted.encoding_ == repeated.encoding_
    assert "nowhere" not in weighted.encoding_.columns[1].categories
    there = rows.iloc[np.flatnonzero(counts)]
    np.testing.assert_array_equal(weighted.predict(there), repeated.predict(there))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_a_weighted_median_is_that_of_the_rows_so_many_times(size):
    rng = np.random.default_rng(size)
    values, counts = rng.normal(size=(size, 1)), rng.integers(0, 4, size) + (np.arange(size) == 0)
    learned = [
        Encoding.learned(tables.Table("made", ("a",), rows), ("a",), "median", counts=given, constant=True)
        for rows, given in ((values, counts.astype(float)), (np.repeat(values, counts, axis=0), None))
    ]
    assert learned[0] == learned[1]


# Kept with the estimator


def test_the_encoding_is_kept_with_the_estimator(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert again.encoding_ == fitted.encoding_
    np.testing.assert_array_equal(again.predict(frame()), fitted.predict(frame()))
    options = clone(regressor(missing="indicator", unknown="ignore")).get_params()
    assert (options["missing"], options["unknown"]) == ("indicator", "ignore")
    assert not hasattr(clone(fitted), "encoding_")


def test_a_later_fit_learns_another_encoding():
    model = regressor().fit(frame(), Y).fit(frame(town=["x", "y"] * 20), Y)
    assert model.encoding_.columns[1].categories == ("x", "y")
    assert model.fit(frame()[["size", "new"]], Y).encoding_ is None


@pytest.mark.parametrize("more", ["partial_fit", "fit"])
def test_more_rows_are_encoded_like_the_first(more):
    model = regressor(warm_start=True).fit(frame(), Y)
    before = model.encoding_
    getattr(model, more)(frame().iloc[:5], Y[:5])
    assert model.encoding_ is before
    with pytest.raises(TableError, match=r"one of the categories Bern, Rom, Ulm .* got 'Genf' in row 1 of 40"):
        getattr(model, more)(frame(town="Genf"), Y)
    assert model.encoding_ is before
    getattr(model.set_params(unknown="ignore"), more)(frame(town="Genf"), Y)


def test_an_unseen_category_is_none_of_those_seen_where_it_is_ignored(fitted):
    strange = frame(town=["Genf", *frame()["town"][1:]])
    model = pickle.loads(pickle.dumps(fitted)).set_params(unknown="ignore")
    found = model.predict(strange)
    np.testing.assert_array_equal(found[1:], fitted.predict(frame())[1:])
    np.testing.assert_array_equal(found, model.predict(frame(town=["Oslo", *frame()["town"][1:]])))
    assert all(found[0] != fitted.predict(frame(town=town))[0] for town in ("Bern", "Rom", "Ulm"))


# With scikit-learn's tools


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_frames_are_split_and_searched_by_scikit_learn(name):
    rows = frame() if name == "pandas" else polars.from_pandas(frame())
    by_hand = []
    for test in np.array_split(np.arange(40), 4):
        train = np.setdiff1d(np.arange(40), test)
        by_hand.append(regressor(unknown="ignore").fit(rows[train] if name == "polars" else rows.iloc[train], Y[train]))
        by_hand[-1] = by_hand[-1].score(rows[test] if name == "polars" else rows.iloc[test], Y[test])
    np.testing.assert_allclose(cross_val_score(regressor(unknown="ignore"), rows, Y, cv=4), by_hand, rtol=1e-12)
    search = GridSearchCV(regressor(unknown="ignore"), {"missing": ["refuse", "indicator"]}, cv=2, scoring=LogScorer())
    assert np.isfinite(search.fit(rows, Y).predict(rows)).all()


def test_frames_come_out_of_other_steps_of_a_pipeline():
    kept = ColumnTransformer([("size", FunctionTransformer(np.abs), ["size"])], remainder="passthrough")
    piped = make_pipeline(kept, FunctionTransformer(lambda X: X.assign(a=1.0)), regressor(unknown="ignore"))
    piped.set_output(transform="pandas").fit(frame(), Y)
    assert [column.kind for column in piped[-1].encoding_.columns] == ["number", "words", "date", "number", "number"]
    assert piped[-1].feature_names_in_.tolist() == ["size__size", *(f"remainder__{name}" for name in NAMES[1:]), "a"]
    assert np.isfinite(piped.predict(frame(town="Genf"))).all()
    assert np.isfinite(cross_val_score(piped, frame(), Y, cv=2, scoring=LogScorer())).all()


def test_a_column_may_have_one_value_in_a_part_of_the_rows():
    rows = frame(town="Ulm", new=True, when=np.datetime64("2026-01-31"))
    model = regressor().fit(rows, Y)
    numbers = rows.assign(town=0.0, when=0.0, new=0.0)
    assert model.encoding_.width == 4
    np.testing.assert_array_equal(model.predict(rows), regressor().fit(numbers, Y).predict(numbers))


# What is refused


REFUSED = {
    "an array": (
        lambda rows: np.ones((40, 4)),
        InputError,
        r"a frame of columns 'size', 'town', 'when', 'new', as in fit, got a ndarray\. Pass a frame of pandas or",
    ),
    "another order": (lambda rows: rows[list(NAMES[::-1])], ValueError, "feature names should match"),
    "a column too few": (lambda rows: rows.drop(columns="town"), ValueError, "(?s)feature names should match.*town"),
    "a category": (
        lambda rows: rows.assign(town="Genf"),
        TableError,
        r"one of the categories Bern, Rom, Ulm in every row of column 'town' in X, got 'Genf' in row 1 of 40\. "
        r'Correct it, remove the row, or predict with unknown="ignore", which takes it for none of them\.$',
    ),
    "a hole": (
        lambda rows: rows.assign(size=np.nan),
        TableError,
        r"a finite number in every row of column 'size' in X, got an empty cell in row 1 of 40\. "
        r'Fill it in, remove the row, or train with missing="median" or "indicator"\.$',
    ),
    "a hole of words": (lambda rows: rows.assign(town=None), TableError, "a word in every row of column 'town' in X"),
    "infinity": (lambda rows: rows.assign(size=np.inf), TableError, "column 'size' in X, got inf in row 1 of 40"),
    "words for numbers": (lambda rows: rows.assign(size="1"), TableError, "numbers in column 'size' in X, got words"),
    "numbers for dates": (lambda rows: rows.assign(when=1), TableError, "dates in column 'when' in X, got numbers"),
    "a time zone": (
        lambda rows: rows.assign(when=rows["when"].dt.tz_localize("UTC")),
        TableError,
        "dates with no time zone in column 'when' in X, got one",
    ),
    "no rows": (lambda rows: rows.iloc[:0], TableError, "at least one row in X, got none"),
    "a list": (lambda rows: rows.assign(size=[[1]] * 40), TableError, "column 'size' in X, got the type (Object|List)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_the_encoding_does_not_fit_are_refused_by_name(fitted, case):
    make, error, text = REFUSED[case]
    for use in (fitted.predict, fitted.predict_noise_std, lambda rows: fitted.log_score(rows, np.zeros(len(rows)))):
        with pytest.raises(error, match=text):
            use(make(frame()))


UNFIT = {
    "a hole": (lambda: frame(when=pandas.NaT).assign(size="a"), "values in column 'when' in X, got empty cells alone"),
    "no words": (
        lambda: frame(town=pandas.Series([None] * 40, dtype="string")),
        r"column 'town' to vary in X, got no word in every row\. It is not informative: leave it out, or remove",
    ),
    "names": (
        lambda: frame(town=[f"w{i}" for i in range(40)]),
        r"at most 20 words in column 'town' of 40 rows in X, got 40, such as 'w0'\. Leave it out, or merge",
    ),
    "numbers as names": (
        lambda: frame().set_axis(range(4), axis=1),
        "unique words as the names of the columns of X, got 0",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_columns_that_cannot_be_learned_from_are_refused_by_name(case):
    make, text = UNFIT[case]
    for kind, y in ((BayesianMLPRegressor, Y), (BayesianMLPClassifier, Y > 0)):
        model = kind(**QUICK, missing="median")
        with pytest.raises(TableError, match=f"^Expected {text}"):
            model.fit(make(), y)
        assert not hasattr(model, "model_")


def test_an_infinite_number_is_no_missing_one():
    for rows in (np.full((40, 1), np.inf), pandas.DataFrame({"x0": np.full(40, np.inf)})):
        with pytest.raises(
            TableError, match="a finite number in every row of column 'x0' in X, got inf in row 1 of 40"
        ):
            regressor(missing="median").fit(rows, Y)
    with pytest.raises(NonFiniteInputError, match=r'got NaN or infinity in column \'a\'\. Fill in NaN by missing="med'):
        regressor().fit(pandas.DataFrame({"a": np.full(40, np.nan)}), Y)


def test_y_is_checked_beside_a_frame_too(fitted):
    for y, text in (
        (Y[:5], "inconsistent numbers of samples"),
        (Y * np.nan, "Input y contains NaN"),
        (None, "BayesianMLPRegressor requires y to be passed|y cannot be None"),
    ):
        with pytest.raises(ValueError, match=text):
            regressor().fit(frame(), y)
        with pytest.raises(ValueError, match=text):
            fitted.log_score(frame(), y)
    with pytest.raises(InputError, match="sample_weight in float64 to be finite and at least 0, got -1 at row 0"):
        regressor().fit(frame(), Y, np.full(40, -1))


class Gone:
    """An importer to which nothing is installed; newer versions of scikit-learn need narwhals themselves."""

    @staticmethod
    def import_module(name):
        raise ImportError(f"no {name}")


def test_without_narwhals_the_error_says_how_to_install_it(fitted, monkeypatch):
    monkeypatch.setattr(tables.frames, "importlib", Gone)
    for use in (lambda: regressor().fit(frame(), Y), lambda: fitted.predict(frame())):
        with pytest.raises(
            TableError, match=r"narwhals to be installed to take columns of words or dates, got: .* Run pip"
        ):
            use()
    X = frame()[["size", "new"]]
    assert np.isfinite(regressor(missing="median").fit(X, Y).predict(X)).all()
