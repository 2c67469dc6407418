"""Learning on: ten permutations of scikit-learn's digits, one after the other: `python -m benchmarks.continual`.

Task t is the digits with their 64 pixels in an order of its own, the first 1,400 rows to learn from and the other 397,
by other writers, to be scored. A network of two hidden layers meets the tasks in a row, and no row twice: what it still
knows of the first task after the tenth is what its posterior kept of it. Each method's accuracy on all tasks so far is
measured after each of them.

    mean-field     `bbb.decide.update` of independent Gaussians, trained with local reparameterisation
    kron, diag     `bbb.decide.update` of Laplace posteriors
    fine-tuning    the same network trained on from where it stands, with the prior of the start
    all rows       the network trained on the rows of all tasks at once, which nobody who learns on has: the ceiling

Published for permuted MNIST, which is another data set, of 784 pixels and 60,000 rows a task, and a network of two
layers of 100 units: variational continual learning, which is what the update of a mean-field does, 90 % after ten
tasks (Nguyen et al. 2018, arXiv 1710.10628), and 94.6 % when it is trained longer from narrower posteriors (Swaroop et
al. 2019, arXiv 1905.02099). Nothing of that is measured here.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import program, race
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.digits import CLASSES, data
from benchmarks.report import Section, table

PROGRAM = "benchmarks.continual"
TITLE = "Learning on: permuted digits"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How much is spent.

    Attributes:
        tasks: how many permutations.
        widths: of the hidden layers.
        steps: of Adam for each task.
        batch_size: rows of a step.
        rate: of Adam at the start; it falls to 0 on a cosine.
        std: the standard deviations of the mean-field posterior at the start.
        draws: of the predictions.
    """

    tasks: int = 10
    widths: tuple[int, ...] = (100, 100)
    steps: int = 800
    batch_size: int = 128
    rate: float = 3e-3
    std: float = 0.02
    draws: int = 50


QUICK: dict[str, Any] = {"tasks": 2, "widths": (6, 5), "steps": 3, "draws": 4}


def orders(tasks: int) -> np.ndarray:
    """Return the order of the pixels of each task, (tasks, 64)."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(64) for _ in range(tasks)])


class Tasks:
    """The tasks, and a network that meets them."""

    def __init__(self, arrays: Arrays, settings: Settings) -> None:
        import jax
        import optax

        import bbb

        self.recipe = Recipe(**{**settings["recipe"], "widths": tuple(settings["recipe"].get("widths", Recipe.widths))})
        self.arrays, self.orders, nn = arrays, orders(self.recipe.tasks), bbb.nn
        one, two = self.recipe.widths
        self.network = nn.sequential(nn.linear(64, one), nn.relu, nn.linear(one, two), nn.relu, nn.linear(two, CLASSES))
        self.start = self.network.init(jax.random.key(0))
        self.optimizer = optax.adam(optax.cosine_decay_schedule(self.recipe.rate, self.recipe.steps))
        self.at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(self.network.apply))
        self.local = bbb.train.Objective(forward=bbb.forwards.local_reparam(self.network.apply))

    @property
    def model(self) -> Any:
        """The model before any task."""
        import bbb

        likelihood, prior = bbb.likelihoods.Categorical(), bbb.priors.fan_in(self.start)
        return bbb.bayesianize(self.network.apply, self.start, prior=prior, likelihood=likelihood, std=self.recipe.std)

    def rows(self, task: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a task to learn from."""
        return self.arrays["x"][:, self.orders[task]], self.arrays["y"]

    @property
    def how(self) -> dict[str, Any]:
        """The options of every training."""
        recipe = self.recipe
        return {
            "steps": recipe.steps,
            "batch_size": recipe.batch_size,
            "optimizer": self.optimizer,
            "progress": False,
        }

    def accuracies(self, model: Any, seen: int, *, at_mean: bool = False) -> np.ndarray:
        """Return the accuracy on each of the tasks seen so far, and NaN for the others: (tasks,)."""
        import jax

        import bbb

        found = np.full(self.recipe.tasks, np.nan)
        for task in range(seen):
            x = self.arrays["test_x"][:, self.orders[task]]
            if at_mean:
                best = np.asarray(model.apply(model.posterior.params, x)).argmax(axis=1)
            else:
                best = np.asarray(bbb.predict(jax.random.key(3), model, x, draws=self.recipe.draws).y.classes)
            found[task] = np.mean(best == self.arrays["test_y"])
        return found


def _learned(tasks: Tasks, first: Any, then: Any, *, at_mean: bool = False) -> dict[str, np.ndarray]:
    """Return the accuracies after each task, (tasks, tasks), and the seconds of learning each, (tasks,)."""
    import jax

    model, accuracies, seconds = tasks.model, [], []
    for task in range(tasks.recipe.tasks):
        started = time.perf_counter()
        learn = first if task == 0 else then
        model = jax.block_until_ready(learn(jax.random.key(10 + task), model, *tasks.rows(task)))
        seconds.append(time.perf_counter() - started)
        accuracies.append(tasks.accuracies(model, task + 1, at_mean=at_mean))
        race.say(f"task {task + 1}: {np.nanmean(accuracies[-1]):.2%} of all so far, {seconds[-1]:.1f} s")
    return {"accuracies": np.stack(accuracies), "seconds": np.asarray(seconds)}


def run_mean_field(arrays: Arrays, settings: Settings) -> Run:
    """Update independent Gaussians."""
    import bbb
    from bbb.decide import continual

    tasks = Tasks(arrays, settings)
    weight = bbb.objectives.warm_up(tasks.recipe.steps)
    warm = bbb.train.Objective(kl_weight=weight, forward=bbb.forwards.local_reparam(tasks.network.apply))

    def first(key: Any, model: Any, x: Any, y: Any) -> Any:
        return bbb.fit(key, model, x, y, objective=warm, **tasks.how)[0]

    def then(key: Any, model: Any, x: Any, y: Any) -> Any:
        return continual.update(key, model, x, y, objective=tasks.local, draws=50, **tasks.how)[0]

    return lambda: _learned(tasks, first, then)


def run_laplace(arrays: Arrays, settings: Settings, *, structure: str) -> Run:
    """Update a Laplace posterior of a structure, around the maximum a posteriori of the first task."""
    import bbb
    from bbb.decide import continual

    tasks = Tasks(arrays, settings)

    def first(key: Any, model: Any, x: Any, y: Any) -> Any:
        mode = bbb.fit(key, model, x, y, objective=tasks.at_mean, **tasks.how)[0]
        return bbb.laplace(key, mode, x, y, structure=structure)

    def then(key: Any, model: Any, x: Any, y: Any) -> Any:
        return continual.update(key, model, x, y, draws=50, **tasks.how)[0]

    return lambda: _learned(tasks, first, then)


def run_fine_tuning(arrays: Arrays, settings: Settings) -> Run:
    """Train on from where the network stands."""
    import bbb

    tasks = Tasks(arrays, settings)

    def step(key: Any, model: Any, x: Any, y: Any) -> Any:
        return bbb.fit(key, model, x, y, objective=tasks.at_mean, **tasks.how)[0]

    return lambda: _learned(tasks, step, step, at_mean=True)


def run_all_rows(arrays: Arrays, settings: Settings) -> Run:
    """Train on the rows of all tasks at once, for as many steps as the others take together."""
    import jax
    import optax

    import bbb

    tasks = Tasks(arrays, settings)
    number = tasks.recipe.tasks

    def run() -> dict[str, np.ndarray]:
        started = time.perf_counter()
        xs, ys = zip(*map(tasks.rows, range(number)), strict=True)
        steps = tasks.recipe.steps * number
        optimizer = optax.adam(optax.cosine_decay_schedule(tasks.recipe.rate, steps))
        how = tasks.how | {"steps": steps, "optimizer": optimizer, "objective": tasks.at_mean}
        model, _ = bbb.fit(jax.random.key(10), tasks.model, np.concatenate(xs), np.concatenate(ys), **how)
        seconds = np.full(number, (time.perf_counter() - started) / number)
        last = tasks.accuracies(model, number, at_mean=True)
        return {"accuracies": np.stack([*np.full((number - 1, number), np.nan), last]), "seconds": seconds}

    return run


NEEDED = ("bbb", "sklearn")
WORKS = {
    "tasks": {
        "mean-field": Contender(run_mean_field, NEEDED, needs="decide"),
        "kron": Contender(run_laplace, NEEDED, ({"structure": "kron"},), needs="decide"),
        "diag": Contender(run_laplace, NEEDED, ({"structure": "diag"},), needs="decide"),
        "fine-tuning": Contender(run_fine_tuning, NEEDED),
        "all rows": Contender(run_all_rows, NEEDED),
    }
}

HEAD = ("method", "mean of all tasks", "first task", "last task", "first task when learned", "seconds a task")


def sections(options: program.Options) -> Iterator[Section]:
    """Compare the methods."""
    recipe = QUICK if options.quick else {}
    settings = {"recipe": recipe}
    results = race.race(PROGRAM, "tasks", data(), settings, only=options.contenders, repeats=0, limit=options.limit)
    records = [_record(result) for result in results]
    tasks = Recipe(**recipe).tasks
    title = f"Accuracy on {tasks} permutations of the digits, learned one after the other"
    yield Section(title, table(list(HEAD), [_cells(record) for record in records]), records)


def _record(result: race.Result) -> dict[str, Any]:
    if result.answer is None:
        return {"method": result.name, "note": result.note}
    accuracies, last = result.answer["accuracies"], result.answer["accuracies"][-1]
    found = {"mean": last.mean(), "first": last[0], "last": last[-1], "learned": accuracies[0, 0]}
    seconds = float(np.median(result.answer["seconds"]))
    every = [[None if np.isnan(value) else float(value) for value in row] for row in accuracies]
    return {"method": result.name, **{k: float(v) for k, v in found.items()}, "seconds": seconds, "accuracies": every}


def _cells(record: dict[str, Any]) -> list[str]:
    if "note" in record:
        return [record["method"], record["note"], *[""] * (len(HEAD) - 2)]
    shares = [record[name] for name in ("mean", "first", "last", "learned")]
    texts = ["" if np.isnan(share) else f"{share:.1%}" for share in shares]
    return [record["method"], *texts, f"{record['seconds']:.1f}"]


def main(argv: list[str] | None = None) -> None:
    """Run all methods, print the table, and write the numbers as JSON."""
    program.main(TITLE, sections, __doc__, argv)


if __name__ == "__main__":
    main()
