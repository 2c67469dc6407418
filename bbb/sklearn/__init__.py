"""Estimators for scikit-learn.

    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import PolynomialFeatures
    >>> from bbb.sklearn import BayesianMLPClassifier, BayesianMLPRegressor, CrossConformalRegressor, LogScorer
    >>> random = np.random.default_rng(0)
    >>> X = random.normal(size=(60, 2))
    >>> y = X[:, 0] + 0.3 * random.normal(size=60)

Central intervals of a new observation, or of the function; and draws of observations:

    >>> regressor = BayesianMLPRegressor(4, posterior="mean_field", steps=20, random_state=0).fit(X, y)
    >>> lower, upper = regressor.predict_interval(X, 0.9)
    >>> lower, upper = regressor.predict_interval(X, 0.9, of="f")
    >>> regressor.sample_y(X, n_samples=3).shape
    (60, 3)

Intervals that hold y with the probability promised, whatever the data: a share of the rows is held out to calibrate
them, or every row is scored by a model that did not see it. Likewise sets of classes, by `predict_set`:

    >>> held = BayesianMLPRegressor(4, posterior="mean_field", steps=20, random_state=0, calibrate=0.4).fit(X, y)
    >>> lower, upper = held.predict_interval(X, 0.9)
    >>> crossed = CrossConformalRegressor(BayesianMLPRegressor(4, posterior="mean_field", steps=20), cv=3).fit(X, y)
    >>> lower, upper = crossed.predict_interval(X, 0.9)

More rows: the posterior so far becomes the prior. New rows in the place of the old: the training goes on from the last:

    >>> regressor = regressor.partial_fit(X[:10], y[:10])
    >>> regressor = regressor.set_params(warm_start=True).fit(X[:40], y[:40])

Rows that count for more or less, through a pipeline by `set_fit_request(sample_weight=True)`; and rare labels:

    >>> regressor = regressor.fit(X, y, sample_weight=np.where(X[:, 0] > 0, 2, 1))
    >>> classifier = BayesianMLPClassifier(4, steps=20, random_state=0, class_weight="balanced").fit(X, y > 1)

The log score chooses among models that say how sure they are, in pipelines too:

    >>> model = make_pipeline(PolynomialFeatures(), BayesianMLPRegressor(4, posterior="mean_field", steps=20))
    >>> cross_val_score(model, X, y, cv=3, scoring=LogScorer()).shape
    (3,)

Frames of pandas and polars are taken as they are, also between the steps of a pipeline, by
`make_pipeline(...).set_output(transform="pandas")`; predictions are arrays. Columns of words and dates are encoded like
those of `bbb.tables` (extra `tables`); missing values, and categories never seen, are refused unless you say otherwise:

    >>> import pandas
    >>> when = pandas.date_range("2026-01-31", periods=60)
    >>> houses = pandas.DataFrame({"size": X[:, 0], "town": np.where(X[:, 1] > 0, "Ulm", "Bern"), "when": when})
    >>> houses.loc[3, "size"] = np.nan
    >>> model = BayesianMLPRegressor(4, posterior="mean_field", steps=20, missing="indicator", unknown="ignore")
    >>> model.fit(houses, y).predict(houses.assign(town="Genf")).shape
    (60,)
    >>> cross_val_score(model, houses, y, cv=3).shape
    (3,)

Labels of any kind:

    >>> classifier = BayesianMLPClassifier(4, steps=20, random_state=0).fit(X, np.where(y > 0, "up", "down"))
    >>> classifier.predict_proba(X).shape
    (60, 2)
    >>> sorted(set(classifier.sample_y(X, n_samples=3).ravel().tolist()))
    ['down', 'up']
"""

try:
    import sklearn  # noqa: F401 - the message says how to install it
except ImportError as error:
    raise ImportError(
        "The estimators need scikit-learn: pip install scikit-learn; or, in a clone of bbb, pip install '.[sklearn]'."
    ) from error

from bbb.sklearn.classifier import BayesianMLPClassifier
from bbb.sklearn.cross import CrossConformalRegressor
from bbb.sklearn.regressor import BayesianMLPRegressor
from bbb.sklearn.scorer import LogScorer

__all__ = ["BayesianMLPClassifier", "BayesianMLPRegressor", "CrossConformalRegressor", "LogScorer"]
