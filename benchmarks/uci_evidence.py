"""Laplace with prior and noise by the evidence: `python -m benchmarks.uci_evidence --data DIR [--splits gap]`.

The UCI sets of `benchmarks.uci`, and its network and scores, in the ordinary splits or with gaps: for each column of x,
the rows are sorted by it, and the middle third is left out for testing (Foong et al. 2019, arXiv 1906.11537). Beside it
the recipe of `benchmarks.uci`, independent Gaussian weights, is trained on the same splits (`--methods`).

Nothing is chosen by hand but the length of training: the prior has a standard deviation for each leaf and each column
of x, and it and the noise start rather wide, and are raised by `bbb.tune` after every few steps of training to the
maximum a posteriori. `bbb.laplace` then gives each member its posterior, of structure "full", and the members are mixed
in equal parts.

Where other processes want the same cores, set OPENBLAS_NUM_THREADS=1: the QR decompositions are LAPACK's, whose threads
wait for each other by spinning.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import logsumexp, ndtr

import bbb
from bbb.errors import BBBError
from bbb.storage import files
from benchmarks import uci
from benchmarks.report import table

METHODS = ("mean-field", "laplace")


def with_gaps(data: uci.Data) -> uci.Data:
    """Return the set with a split for each column of x: its middle third, of the rows sorted by it, is for testing."""
    splits, third = [], len(data.x) // 3
    for column in data.x.T:
        order = np.argsort(column, kind="stable")
        train = np.concatenate([order[:third], order[len(order) - third :]])
        splits.append(uci.Split(train, order[third : len(order) - third]))
    return data._replace(splits=splits)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of learning a set; rates refer to standardised columns.

    Attributes:
        activation: "tanh", or "gelu", which is better in the ordinary splits and worse far from the rows.
        restarts: members of the mixture, each with its own start, prior and noise.
        rounds: of training and tuning.
        steps: of Adam in a round, with all rows.
        gain: of the prior, divided by the fan-in, at the start.
        noise_std: at the start.
    """

    activation: str = "tanh"
    restarts: int = 3
    rounds: int = 200
    steps: int = 50
    gain: float = 0.5
    noise_std: float = 1.0


def train(key: jax.Array, splits: Sequence[uci.Standardised], recipe: Recipe) -> list[list[bbb.BNN]]:
    """Train and tune every member of every split; return the models of each split, with their Laplace posteriors."""
    keys = jax.random.split(key, (len(splits), recipe.restarts))
    hidden, activation = uci.hidden_units(len(splits[0].x)), getattr(bbb.nn, recipe.activation)
    layers = bbb.nn.linear(splits[0].x.shape[1], hidden), activation, bbb.nn.linear(hidden, 1)
    network = bbb.nn.sequential(*layers)  # one for all, so that they share their compiled programs
    found = []
    for i, split in enumerate(splits):
        found.append([_member(keys[i, k], network, split, recipe) for k in range(recipe.restarts)])
        print(f"  split {i + 1} of {len(splits)}", file=sys.stderr, flush=True)
    return found


def _member(key: jax.Array, network: Any, split: uci.Standardised, recipe: Recipe) -> bbb.BNN:
    params = network.init(key)
    noise = bbb.likelihoods.Gaussian(recipe.noise_std, learn=True)
    model = bbb.bayesianize(network.apply, params, prior=bbb.priors.fan_in(params, recipe.gain), likelihood=noise)
    rounds: Any = {"rounds": recipe.rounds, "steps": recipe.steps, "updates": 1, "per": "column", "progress": False}
    model, _ = bbb.tune(key, model, split.x, split.y, **rounds)
    return bbb.laplace(key, model, split.x, split.y)


def score(key: jax.Array, models: Sequence[bbb.BNN], split: uci.Standardised) -> uci.Score:
    """Score the mixture of a split's models in equal parts, each of which is a Gaussian for each row."""
    log_scores, cdfs, means = [], [], []
    for model in models:
        band = bbb.predict(key, model, split.x_test)
        mean, std = np.asarray(band.y.mean), np.asarray(band.y.std)
        z = (split.y_test - mean) / std
        log_scores.append(-0.5 * np.square(z) - np.log(std) - 0.5 * math.log(2 * math.pi))
        cdfs.append(ndtr(z))
        means.append(mean)
    nats = logsumexp(np.stack(log_scores), axis=0) - math.log(len(models)) - math.log(split.y_std)
    error = (np.mean(means, axis=0) - split.y_test) * split.y_std
    p = np.mean(cdfs, axis=0)
    inside = (p >= 0.025) & (p <= 0.975)
    return uci.Score(float(np.mean(nats)), float(np.sqrt(np.mean(np.square(error)))), float(np.mean(inside)))


def measure(data: uci.Data, method: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train and score all splits of a set by one method."""
    started = time.perf_counter()
    splits = [uci.standardised(data, split) for split in data.splits]
    fit_key, *keys = jax.random.split(jax.random.key(seed), 1 + len(splits))
    if method == "laplace":
        models = train(fit_key, splits, recipe)
        scores = [score(*each) for each in zip(keys, models, splits, strict=True)]
    else:
        models = uci.train(fit_key, splits, uci.Recipe())
        scores = [uci.score(*each, uci.Recipe().draws) for each in zip(keys, models, splits, strict=True)]
    found: dict[str, Any] = uci.summary(scores, time.perf_counter() - started)
    return found | {"worst": min(one.log_likelihood for one in scores), "splits": [one._asdict() for one in scores]}


def shown(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the table of all sets and methods."""
    rows = [
        [
            name,
            method,
            uci._cell(of["log_likelihood"], of["log_likelihood_se"]),
            f"{of['worst']:.2f}".replace("-", "−"),
            f"{of['coverage_95']:.1%}",
            uci._cell(of["rmse"], of["rmse_se"]),
            f"{of['seconds']:.0f}",
        ]
        for name, methods in found.items()
        for method, of in methods.items()
    ]
    head = ["set", "method", "log-likelihood, nats a row", "worst split", "95 % interval", "rmse", "seconds"]
    return table(head, rows)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.uci_evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds the sets' folders")
    made.add_argument("--sets", nargs="+", metavar="SET", help="names of folders in DIR (default: all of them)")
    made.add_argument("--splits", choices=("ordinary", "gap"), default="ordinary")
    made.add_argument("--first-splits", type=int, metavar="N", help="only the first N splits (default: all)")
    made.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of starts and draws (default: 0)")
    for field in dataclasses.fields(Recipe):
        option, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        made.add_argument(option, type=kind, default=field.default, metavar="X", help=f"default: {field.default}")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the requested sets: print the table, and write the JSON."""
    made = parser()
    arguments = made.parse_args(argv)
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Recipe)})
    try:
        if arguments.json is not None:
            files.folder(arguments.json.parent)
        sets = [uci.read(arguments.data / name) for name in uci.names(arguments.data, arguments.sets)]
    except BBBError as error:
        made.error(str(error))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for ordinary in sets:
        data = with_gaps(ordinary) if arguments.splits == "gap" else ordinary
        data = data._replace(splits=data.splits[: arguments.first_splits])
        for method in arguments.methods:
            of = measure(data, method, recipe, arguments.seed)
            found.setdefault(data.name, {})[method] = of
            print(f"{data.name}, {method}: {of}", file=sys.stderr, flush=True)
    print(shown(found))
    if arguments.json is not None:
        record = {"splits": arguments.splits, "recipe": dataclasses.asdict(recipe), "sets": found}
        files.write(arguments.json, (json.dumps(record, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
