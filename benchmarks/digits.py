"""A million weights on scikit-learn's digits: `python -m benchmarks.digits [--networks mlp conv] [--json FILE]`.

Networks of about a million weights, two dense hidden layers and two convolutions before a dense one, learn the first
1,400 rows. A mean-field posterior (local reparameterisation, KL warm-up, Adam with a rate that falls on a cosine) is
beside the maximum a posteriori and Laplace posteriors around it, whose predictions are those of the linearised network.
The rest of the rows, by other writers, are scored: the log score (the mean log-probability of the true class, nats a
row, higher is better), the expected calibration error with 15 bins, and the accuracy.

The prior is N(0, 2·gain²/inputs) for the weights and biases of a layer. Every method chooses its own gain by the log
score of rows held out in five folds, each of 280 consecutive rows and so by other writers than most of the others, with
what it learned from those, and then learns from all: mean-field and the maximum a posteriori from a list of gains; a
Laplace posterior keeps the mode of its fold, and halves a gain of 1 as long as that helps. No test row is read
before. `bbb.log_evidence` does not know "low_rank", so that no gain is chosen by it
here.

Each method runs in a process of its own. Seconds, of the clock and of all cores, are those of the choice, of the
posterior of all rows, and of its predictions; memory is the peak of the process and what it was before.

Left out: "last_layer" of the wide networks, whose exact posterior of some 9,600 weights takes 5 GB and minutes.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import measure, program, race
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.report import Section, table

PROGRAM = "benchmarks.digits"
TITLE = "A million weights on the digits"
TRAIN, CLASSES = 1_400, 10
WIDTHS = {"mlp": (960, 960), "conv": (32, 64, 940)}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How much is spent.

    Attributes:
        widths: of the hidden layers; of the convolutional network the channels, then the units of the dense layer.
        steps: of Adam.
        batch_size: rows of a step.
        rate: of Adam at the start.
        std: the standard deviations of the mean-field posterior at the start.
        gains: of the prior, from which mean-field and the maximum a posteriori choose.
        halvings: the most of a Laplace posterior's gain.
        rank: of "low_rank".
        memory: the bound given to `laplace`.
        draws: of the predictions.
        folds: of the rows that choose a gain.
    """

    widths: tuple[int, ...]
    steps: int = 400
    batch_size: int = 128
    rate: float = 1e-3
    std: float = 0.005
    gains: tuple[float, ...] = (1.0, 4.0, 16.0)
    halvings: int = 5
    rank: int = 32
    memory: str = "2GB"
    draws: int = 300
    folds: int = 5


QUICK: dict[str, Any] = {"steps": 5, "gains": (1.0, 0.5), "halvings": 1, "rank": 3, "draws": 20, "folds": 2}
QUICK_WIDTHS = {"mlp": (6, 5), "conv": (2, 3, 4)}


# The data and the networks


def data() -> dict[str, np.ndarray]:
    """Return x, (1,400, 64) from 0 to 1, and the classes y of the rows to learn from; and those to score."""
    from sklearn.datasets import load_digits

    rows = load_digits()
    x, y = (rows.data / 16).astype(np.float32), rows.target.astype(np.int32)
    return {"x": x[:TRAIN], "y": y[:TRAIN], "test_x": x[TRAIN:], "test_y": y[TRAIN:]}


def network(kind: str, widths: Sequence[int]) -> Any:
    """Return the network of a kind; its x is (rows, 64)."""
    import bbb

    nn = bbb.nn
    if kind == "mlp":
        one, two = widths
        return nn.sequential(nn.linear(64, one), nn.relu, nn.linear(one, two), nn.relu, nn.linear(two, CLASSES))
    one, two, units = widths
    return nn.sequential(
        nn.conv(1, one, 3, padding="same"), nn.relu, nn.conv(one, two, 3, stride=2, padding=1), nn.relu,
        nn.flatten, nn.linear(16 * two, units), nn.relu, nn.linear(units, CLASSES),
    )  # fmt: skip


def prior(params: Any, gain: float) -> Any:
    """Return N(0, 2·gain²/inputs) for the weights and the biases of each layer."""
    import jax

    import bbb

    def of_layer(layer: Any) -> Any:
        if not layer:
            return layer
        std = gain * float(np.sqrt(2 / np.prod(layer["weight"].shape[1:])))  # weights are (outputs, inputs, ...)
        return jax.tree.map(lambda _: std, layer)

    return bbb.priors.Normal(0.0, type(params)(of_layer(layer) for layer in params))


class Net:
    """A network of a kind as a model, with what it needs to know of its rows."""

    def __init__(self, settings: Settings) -> None:
        import jax

        self.recipe = Recipe(**{**settings["recipe"], "widths": tuple(settings["recipe"]["widths"])})
        self.kind = settings["kind"]
        self.network = network(self.kind, self.recipe.widths)
        self.start = self.network.init(jax.random.key(0))

    def x(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as the network takes them."""
        return rows if self.kind == "mlp" else rows.reshape(-1, 1, 8, 8)

    def model(self, gain: float, params: Any = None) -> Any:
        """Return the model of a prior, at the start or at given parameters."""
        import bbb

        params = self.start if params is None else params
        likelihood = bbb.likelihoods.Categorical()
        return bbb.bayesianize(
            self.network.apply, params, prior=prior(params, gain), likelihood=likelihood, std=self.recipe.std
        )

    def fitted(self, gain: float, x: np.ndarray, y: np.ndarray, *, mean_field: bool) -> Any:
        """Return the trained model: a mean-field posterior, or the maximum a posteriori as the means of one."""
        import jax

        import bbb

        recipe, apply = self.recipe, self.network.apply
        objective = bbb.train.Objective(forward=bbb.forwards.at_mean(apply))
        if mean_field:
            weight = bbb.objectives.warm_up(recipe.steps)
            objective = bbb.train.Objective(kl_weight=weight, forward=bbb.forwards.local_reparam(apply))
        return bbb.fit(
            jax.random.key(1), self.model(gain), self.x(x), y, steps=recipe.steps, batch_size=recipe.batch_size,
            optimizer=self.optimizer, objective=objective, progress=False,
        )[0]  # fmt: skip

    @property
    def optimizer(self) -> Any:
        """Adam, one object for all fits, so that they share a compiled program."""
        if not hasattr(self, "_optimizer"):
            import optax

            self._optimizer = optax.adam(optax.cosine_decay_schedule(self.recipe.rate, self.recipe.steps))
        return self._optimizer

    def laplace(self, gain: float, params: Any, x: np.ndarray, y: np.ndarray, structure: str) -> Any:
        """Return the Laplace posterior of a structure around given parameters."""
        import jax

        import bbb

        options = {"structure": structure, "rank": self.recipe.rank, "memory": self.recipe.memory}
        return bbb.laplace(jax.random.key(2), self.model(gain, params), self.x(x), y, **options)

    def probabilities(self, model: Any, x: np.ndarray, *, at_mean: bool = False) -> np.ndarray:
        """Return the probability of each class, (rows, classes)."""
        import jax

        import bbb

        if at_mean:
            return np.asarray(jax.nn.softmax(model.apply(model.posterior.params, self.x(x))))
        predictive = bbb.predict(jax.random.key(3), model, self.x(x), draws=self.recipe.draws)
        return np.asarray(predictive.y.probabilities)


# The methods


class Clock:
    """Seconds of the clock and of all cores, of each part; and the gains that were tried, with their log scores."""

    def __init__(self) -> None:
        self.found: dict[str, np.ndarray] = {}
        self.gains: list[tuple[float, float]] = []

    @property
    def answer(self) -> dict[str, np.ndarray]:
        """All of it, as a part of an answer."""
        return {**self.found, "tried": np.asarray(self.gains)}

    def tried(self, gain: float, score: float) -> None:
        """Note the log score of a gain on the rows held out."""
        race.say(f"gain {gain:g}: {score:.4f} held out")
        self.gains.append((gain, score))

    def timed(self, name: str, part: Callable[[], Any]) -> Any:
        """Run a part."""
        started, cpu = time.perf_counter(), time.process_time()
        made = part()
        self.found[name] = np.asarray([time.perf_counter() - started, time.process_time() - cpu])
        return made


def log_score(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean log-probability of the true class: nats a row."""
    of_truth = np.maximum(np.take_along_axis(probabilities, y[:, None], axis=1), np.finfo(np.float32).tiny)
    return float(np.mean(np.log(of_truth, dtype=np.float64)))


Rows = tuple[np.ndarray, np.ndarray]
"""x and y."""


def _folds(arrays: Arrays, count: int) -> list[tuple[Rows, Rows]]:
    """Return for each fold the rows to learn from while a gain is chosen, and the consecutive ones that choose it."""
    x, y = arrays["x"], arrays["y"]
    every = np.arange(len(y))
    held = np.array_split(every, count)
    kept = [np.setdiff1d(every, some) for some in held]
    return [((x[k], y[k]), (x[h], y[h])) for k, h in zip(kept, held, strict=True)]


def run_trained(arrays: Arrays, settings: Settings, *, mean_field: bool) -> Run:
    """Choose a gain from the list, train with it, and predict; of the mode, return its weights too."""
    import jax

    net = Net(settings)

    def run() -> dict[str, np.ndarray]:
        clock, modes, folds = Clock(), {}, _folds(arrays, net.recipe.folds)

        def score_of(gain: float) -> float:
            models = [net.fitted(gain, *part, mean_field=mean_field) for part, _ in folds]
            modes[gain] = [jax.tree.leaves(model.posterior.params) for model in models]
            pairs = zip(models, (held for _, held in folds), strict=True)
            each = [log_score(y, net.probabilities(model, x, at_mean=not mean_field)) for model, (x, y) in pairs]
            clock.tried(gain, score := float(np.mean(each)))
            return score

        gains = net.recipe.gains
        gain = clock.timed("choose", lambda: max(gains, key=score_of))
        model = clock.timed("fit", lambda: net.fitted(gain, arrays["x"], arrays["y"], mean_field=mean_field))
        found = clock.timed("predict", lambda: net.probabilities(model, arrays["test_x"], at_mean=not mean_field))
        answer = {"probabilities": found, "gain": np.asarray(gain), **clock.answer}
        if mean_field:
            return answer
        everything = {f"part{fold}": leaves for fold, leaves in enumerate(modes[gain])}
        everything["all"] = jax.tree.leaves(model.posterior.params)
        weights = {f"{of}_{i}": np.asarray(w) for of, leaves in everything.items() for i, w in enumerate(leaves)}
        return {**answer, **weights}

    return run


def run_laplace(arrays: Arrays, settings: Settings, *, structure: str) -> Run:
    """Halve the gain of the mode while that helps, fit a posterior with it, and predict."""
    import jax

    net = Net(settings)
    folds = _folds(arrays, net.recipe.folds)
    leaves, shape = jax.tree.flatten(net.start)

    def mode_of(rows: str) -> Any:
        return jax.tree.unflatten(shape, [arrays[f"{rows}_{i}"] for i in range(len(leaves))])

    def of_fold(gain: float, fold: int) -> float:
        part, (x, y) = folds[fold]
        return log_score(y, net.probabilities(net.laplace(gain, mode_of(f"part{fold}"), *part, structure), x))

    def score_of(gain: float) -> float:
        return float(np.mean([of_fold(gain, fold) for fold in range(len(folds))]))

    def choose(clock: Clock) -> float:
        gain, best = 1.0, -np.inf
        for _ in range(net.recipe.halvings):
            score = score_of(gain)
            clock.tried(gain, score)
            if score < best:
                break
            gain, best = gain / 2, score
        return gain * 2

    def run() -> dict[str, np.ndarray]:
        clock = Clock()
        gain = clock.timed("choose", lambda: choose(clock))

        def fit() -> Any:
            model = net.laplace(gain, mode_of("all"), arrays["x"], arrays["y"], structure)
            return jax.block_until_ready(model)

        model = clock.timed("fit", fit)
        found = clock.timed("predict", lambda: net.probabilities(model, arrays["test_x"]))
        return {"probabilities": found, "gain": np.asarray(gain), **clock.answer}

    return run


MODE = "mode"
METHODS = {
    MODE: Contender(run_trained, ("bbb", "sklearn"), ({"mean_field": False},)),
    "mean-field": Contender(run_trained, ("bbb", "sklearn"), ({"mean_field": True},)),
    **{
        structure: Contender(run_laplace, ("bbb", "sklearn"), ({"structure": structure},))
        for structure in ("kron", "low_rank", "diag")
    },
}
WORKS = {"all": METHODS}


# The table

HEAD = (
    "posterior", "log score", "ECE", "accuracy", "gain", "choose s", "fit s", "predict s", "CPU s in all", "before MB",
    "peak MB",
)  # fmt: skip


def sections(options: program.Options, kinds: Sequence[str], recipe: dict[str, Any]) -> Iterator[Section]:
    """Compare the methods for each kind of network."""
    for kind in kinds:
        widths = (QUICK_WIDTHS if options.quick else WIDTHS)[kind]
        settings = {"kind": kind, "recipe": {**(QUICK if options.quick else {}), **recipe, "widths": widths}}
        arrays, records = data(), []
        for name, contender in METHODS.items():
            if name != MODE and options.contenders is not None and name not in options.contenders:
                continue
            job = measure.Job(PROGRAM, "all", name, contender.variants[0], settings, repeats=0)
            result = race.run(job, arrays, limit=options.limit)
            race.say(f"{kind}, {name}: {result.note or f'{result.cold:.0f} s'}")
            if result.answer is None:
                records.append({"posterior": name, "note": result.note})
                continue
            if name == MODE:
                arrays |= {key: value for key, value in result.answer.items() if key[:3] in ("par", "all", "gai")}
            records.append(_record(name, result, arrays["test_y"]))
        weights = sum(value.size for key, value in arrays.items() if key.startswith("all_"))
        title = f"{kind}, {weights:,} weights, {TRAIN:,} rows, {len(arrays['test_y'])} scored"
        yield Section(title, table(list(HEAD), [_cells(record) for record in records]), records)


def _record(name: str, result: race.Result, y: np.ndarray) -> dict[str, Any]:
    """Return the scores of a method, its seconds and its memory."""
    from bbb import metrics

    answer: Any = result.answer
    seconds = {part: [float(s) for s in answer[part]] for part in ("choose", "fit", "predict")}
    return {
        "posterior": name,
        "log_score": log_score(y, answer["probabilities"]),
        "ece": metrics.expected_calibration_error(y, answer["probabilities"]),
        "accuracy": metrics.accuracy(y, answer["probabilities"]),
        "gain": float(answer["gain"]),
        "tried": answer["tried"].tolist(),
        **seconds,
        "cpu": sum(cpu for _, cpu in seconds.values()),
        "before": result.measurement.memory_before,  # type: ignore[union-attr]
        "peak": result.measurement.memory_peak,  # type: ignore[union-attr]
    }


def _cells(record: dict[str, Any]) -> list[str]:
    if "note" in record:
        return [record["posterior"], record["note"], *[""] * (len(HEAD) - 2)]
    scores = f"{record['log_score']:.4f}", f"{record['ece']:.2%}", f"{record['accuracy']:.2%}", f"{record['gain']:g}"
    seconds = [f"{record[part][0]:.1f}" for part in ("choose", "fit", "predict")]
    rest = [f"{record[part]:.0f}" for part in ("cpu", "before", "peak")]
    return [record["posterior"], *scores, *seconds, *rest]


def main(argv: list[str] | None = None) -> None:
    """Run all methods of the networks, print their tables, and write the numbers as JSON."""
    parser = program.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=WIDTHS, default=list(WIDTHS), help="default: both")
    for name, of in (("rank", int), ("steps", int), ("draws", int), ("memory", str), ("halvings", int), ("folds", int)):
        default = getattr(Recipe, name)
        parser.add_argument(f"--{name}", type=of, metavar="N", help=f"default: {default}")
    parser.add_argument("--gains", nargs="+", type=float, metavar="G", help=f"default: {Recipe.gains}")
    arguments = parser.parse_args(argv)
    names = ("rank", "steps", "draws", "memory", "halvings", "folds", "gains")
    given = {name: getattr(arguments, name) for name in names}
    recipe = {name: value for name, value in given.items() if value is not None}
    program.run(TITLE, lambda options: sections(options, arguments.networks, recipe), arguments)


if __name__ == "__main__":
    main()
