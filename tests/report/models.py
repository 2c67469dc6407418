"""Models of tables that nobody trained, and their rows: of each kind of target, in a second or so."""

import dataclasses

import jax
import numpy as np

import bbb
from bbb import likelihoods
from bbb.networks import nn
from bbb.tables.encoding import Column, Encoding
from bbb.tables.model import TabularModel
from bbb.tables.table import Table
from tests.bad_input import bayesian

KINDS = ("measurement", "one column", "count", "classes", "restarts", "laplace", "calibrated", "old file")


def table(rows=60, target="y", seed=0, kind="measurement"):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows))
    y = {"count": rng.poisson(2.0, rows)}.get(kind, 0.5 * a - b + 0.3 * rng.normal(size=rows))
    town = rng.choice(["Bern", "Ulm"], rows)
    texts = {"town": town}
    if kind == "classes":
        texts |= {target: np.array(["high", "low", "middle"])[np.digitize(y, (-1, 1))]}
        return Table("rows.csv", ("a", "b"), np.stack([a, b], 1), texts, order=("a", "b", "town", target))
    return Table("rows.csv", ("a", "b", target), np.stack([a, b, y], 1), texts, order=("a", "b", "town", target))


def model(kind="measurement", target="y", features=("a", "b", "town")):
    columns = (Column(features[0]), Column(features[1]), Column(features[2], "words", ("Bern", "Ulm")))
    encoding = Encoding(columns)
    if kind == "one column":
        network = nn.sequential(nn.linear(1, 3), nn.tanh, nn.linear(3, 1))
        return TabularModel(bayesian(network), features[:1], target)
    outputs, likelihood = {
        "count": (1, likelihoods.Poisson()),
        "classes": (3, likelihoods.Categorical()),
    }.get(kind, (1, likelihoods.Gaussian(0.8)))
    network = nn.sequential(nn.linear(4, 3), nn.tanh, nn.linear(3, outputs))
    made = bayesian(network, likelihood=likelihood)
    classes = ("high", "low", "middle") if kind == "classes" else None
    if kind == "restarts":
        members = jax.tree.map(lambda leaf: jax.numpy.stack([leaf, leaf + 0.1]), made.posterior)
        made = dataclasses.replace(made, posterior=bbb.posteriors.Ensemble(members))
    found = TabularModel(
        made, features, target, classes, training=() if kind != "old file" else None, encoding=encoding
    )
    if kind == "laplace":
        rows = table()
        posterior = bbb.laplace(jax.random.key(0), made, found.inputs(rows), found.observed(rows))
        return dataclasses.replace(found, model=posterior, structure="full")
    return found.calibrated(table(seed=9), draws=20) if kind == "calibrated" else found
