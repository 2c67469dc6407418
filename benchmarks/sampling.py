"""Ways of sampling: the error of 10,000 draws of three networks, beside that of independent ones, and the seconds.

Each network learns the regression of the demo. Its mean and standard deviation at some rows are estimated by `predict`
with several keys, and held against the truth: the closed form of one hidden layer, or many antithetic and Sobol draws.
An error is the root mean square over rows and keys, in standard deviations of the function. "worth" is how many
independent draws have the same error, for each draw made: (error of independent draws / error)², in as far as the
numbers of draws are equal. "said" is the Monte Carlo error that `predict` reports over the true one, of the mean.
"""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax

import bbb
from benchmarks import program
from benchmarks.report import Section, table

TITLE = "Ways of sampling"
WAYS = ("independent", "antithetic", "sobol")
FULL: dict[str, Any] = {
    "hidden": ((20,), (30, 30), (1000,)),
    "steps": 1_500,
    "draws": 10_240,
    "keys": 12,
    "truth": 2**17,
}
QUICK: dict[str, Any] = {"hidden": ((3,), (3, 3)), "steps": 5, "draws": 64, "keys": 2, "truth": 256}
HEAD = ("sampling", "draws", "error of mean", "worth", "said", "error of std", "worth ", "warm s")


def trained(hidden: tuple[int, ...], steps: int) -> tuple[Any, np.ndarray]:
    """Return a model of so many hidden units, trained, and the rows to ask about."""
    task, nn = bbb.tasks.regression(seed=0), bbb.nn
    layers, inputs = [], 1
    for units in hidden:
        layers += [nn.linear(inputs, units), nn.relu]
        inputs = units
    network = nn.sequential(*layers, nn.linear(inputs, 1))
    prior = bbb.priors.Normal(0.0, 3.0 if inputs < 100 else 0.1)
    beliefs = {"prior": prior, "likelihood": bbb.likelihoods.Gaussian(std=0.5, learn=True)}
    model = bbb.bayesianize(network.apply, network.init(jax.random.key(0)), **beliefs)
    model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=steps, optimizer=optax.adam(1e-2))
    return model, task.x_test[::10]


def truth(model: Any, x: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of f: exact, or of many draws."""
    exact = bbb.predict(jax.random.key(2), model, x, method="moments")
    if not exact.assumptions:
        return exact.f.mean, exact.f.std
    many = bbb.predict(jax.random.key(3), model, x, draws=draws, sampling="sobol")
    return many.f.mean, many.f.std


def measured(
    model: Any, x: np.ndarray, way: str, right: tuple[np.ndarray, np.ndarray], settings: Any
) -> dict[str, Any]:
    """Return the errors of one way of sampling, and the least seconds of a call."""
    mean, std = right
    errors, seconds = [], []
    for i in range(settings["keys"]):
        began = time.perf_counter()
        band = bbb.predict(jax.random.key(100 + i), model, x, draws=settings["draws"], sampling=way)
        seconds.append(time.perf_counter() - began)
        f = band.f
        errors.append([np.mean(((found - truth) / std) ** 2) for found, truth in ((f.mean, mean), (f.std, std))])
        errors[-1].append(np.mean((f.mcse_mean / std) ** 2))
    of_mean, of_std, said = np.sqrt(np.mean(errors, axis=0)).tolist()
    found = {"mean": of_mean, "std": of_std, "said": said / of_mean, "seconds": min(seconds[1:])}
    return {"sampling": way, "draws": band.draws, **found}


def sections(options: program.Options) -> Iterator[Section]:
    """Measure each network."""
    settings = QUICK if options.quick else FULL
    for hidden in settings["hidden"]:
        model, x = trained(hidden, settings["steps"])
        right = truth(model, x, settings["truth"])
        ways = [way for way in WAYS if options.contenders is None or way in options.contenders]
        records = [measured(model, x, way, right, settings) for way in ways]
        weights = sum(leaf.size for leaf in jax.tree.leaves(model.posterior.params))
        name = "-".join(map(str, (1, *hidden, 1)))
        rows = [_cells(record, records[0]) for record in records]
        yield Section(f"{name}, {weights:,} weights, {len(x)} rows", table(HEAD, rows), records)


def _cells(record: dict[str, Any], first: dict[str, Any]) -> list[str]:
    def of(part: str) -> tuple[str, str]:
        return f"{record[part]:.2e}", f"{(first[part] / record[part]) ** 2 * first['draws'] / record['draws']:.3g}"

    head = record["sampling"], f"{record['draws']:,}"
    return [*head, *of("mean"), f"{record['said']:.2f}", *of("std"), f"{record['seconds']:.3f}"]


def main(argv: list[str] | None = None) -> None:
    """Measure, print the tables, and write the numbers as JSON."""
    program.run(TITLE, sections, program.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
