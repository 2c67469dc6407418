"""Laplace posteriors beside laplace-torch: `python -m benchmarks.laplace [--quick] [--units N] [--json FILE]`.

The same trained weights of a tanh network, of the README's regression and of a classifier, get a posterior of each
structure that both libraries have: all of the Gauss-Newton matrix, Kronecker factors, its diagonal, or all of it of
the last layer. Each contender fits the posterior to all rows in one batch, computes the log evidence, and predicts the
mean and the variance of the outputs at 10,000 rows by the linearised network. What the two find is compared: the
largest difference of the means in units of their standard deviation, the largest relative one of the variances, and
the difference of the log evidence in relation to it. Cold, `bbb` compiles programs and laplace-torch does not; fit,
evidence and predict are the least seconds of the runs after the first.

The log evidence of laplace-torch is that of a posterior that it has fitted; `bbb.log_evidence` passes over the data
again, so that its time belongs beside that of fit and evidence together.

Conventions that differ: laplace-torch scales Kronecker factors of minibatches by the share of a batch in the rows, so
that only fits in one batch are comparable; here the factors do not depend on the batches.

laplace-torch predicts 20 rows at once, which is the user's choice there: with all 3,001 weights, its predictions of 100
rows took 11.6 GB here, and 10,000 would ask for a hundred times as much.

On a machine that others use too, OPENBLAS_NUM_THREADS=1 and OMP_NUM_THREADS=1 leave out threads that wait for others.

laplace-torch 0.3 is `pip install laplace-torch`, which brings torch, torchvision, torchmetrics and five other packages:
Daxberger et al. 2021, arXiv 2106.14806.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import networks, program, race
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.report import Section, ratio, table

PROGRAM = "benchmarks.laplace"
TITLE = "Laplace posteriors beside laplace-torch"
STRUCTURES = ("full", "kron", "diag", "last_layer")
FULL: dict[str, Any] = {
    "regression": {"sizes": (1, 1000, 1), "rows": 500, "test_rows": 10_000, "steps": 1_000},
    "classes": {"sizes": (8, 50, 3), "rows": 1_000, "test_rows": 10_000, "steps": 1_000},
}
QUICK: dict[str, Any] = {
    "regression": {"sizes": (1, 6, 1), "rows": 20, "test_rows": 30, "steps": 5},
    "classes": {"sizes": (3, 4, 3), "rows": 20, "test_rows": 30, "steps": 5},
}
NOISE, PRIOR = 0.1, 1.0


def data(task: str, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return x, y and the rows to predict: a quintic, or the largest of some random sines."""
    rng = np.random.default_rng(0)
    inputs, outputs = settings["sizes"][0], settings["sizes"][-1]
    draw = lambda rows: rng.uniform(-2, 2, (rows, inputs)).astype(np.float32)  # noqa: E731
    x, grid = draw(settings["rows"]), draw(settings["test_rows"])
    if task == "regression":
        u = x / 2
        y = (u**5 - u**3 + 0.5 * u + NOISE * rng.normal(size=x.shape)).astype(np.float32)
        return {"x": x, "y": y, "grid": grid}
    scores = np.sin(x @ rng.normal(size=(inputs, outputs))) + 0.3 * rng.normal(size=(len(x), outputs))
    return {"x": x, "y": scores.argmax(1), "grid": grid}


def _model(arrays: Arrays, settings: Settings) -> Any:
    """Return the model of `bbb` at the weights of the arrays."""
    import bbb

    layers: list[Any] = []
    for weight, _ in networks.unpack(arrays, "mean"):
        layers += [bbb.nn.linear(weight.shape[1], weight.shape[0]), bbb.nn.tanh]
    network = bbb.nn.sequential(*layers[:-1])
    params: list[Any] = []
    for weight, bias in networks.unpack(arrays, "mean"):
        params += [{"weight": weight, "bias": bias}, ()]
    likelihood: Any = bbb.likelihoods.Categorical()
    if settings["task"] == "regression":
        likelihood = bbb.likelihoods.Gaussian(NOISE)
    return bbb.bayesianize(
        network.apply, tuple(params[:-1]), prior=bbb.priors.Normal(0.0, PRIOR), likelihood=likelihood
    )


def trained(task: str, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the data and the weights of a network that was trained to its maximum a posteriori."""
    import jax
    import optax

    import bbb

    arrays = {**data(task, settings), **networks.start(settings["sizes"], 0.1)}
    model = _model(arrays, {"task": task})
    objective = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
    model, _ = bbb.fit(
        jax.random.key(0), model, arrays["x"], arrays["y"],
        steps=settings["steps"], optimizer=optax.adam(1e-2), objective=objective,
    )  # fmt: skip
    means = [(layer["weight"], layer["bias"]) for layer in model.posterior.params[::2]]
    return {**arrays, **networks.pack(means, means)}


class _Clock:
    """The seconds of each part of all runs: of the first, and the least of the others."""

    def __init__(self) -> None:
        self._runs: dict[str, list[float]] = {}

    @property
    def seconds(self) -> dict[str, np.ndarray]:
        """The least seconds of each part after the first run, or those of the first if it was the only one."""
        return {f"{name}_seconds": np.asarray(min(runs[1:] or runs)) for name, runs in self._runs.items()}

    def timed(self, name: str, part: Callable[[], Any]) -> Any:
        """Run a part, until its arrays are those of NumPy."""
        started = time.perf_counter()
        made = part()
        self._runs.setdefault(name, []).append(time.perf_counter() - started)
        return made


def run_bbb(arrays: Arrays, settings: Settings) -> Run:
    """Fit, weigh and predict with `bbb`."""
    import jax

    import bbb

    model, structure, key = _model(arrays, settings), settings["structure"], jax.random.key(1)
    rows, forward = (arrays["x"], arrays["y"]), bbb.forwards.linearized(model.apply)

    clock = _Clock()

    def run() -> dict[str, np.ndarray]:
        fitted = clock.timed("fit", lambda: _ready(bbb.laplace(key, model, *rows, structure=structure)))
        evidence = clock.timed("evidence", lambda: np.asarray(bbb.log_evidence(model, *rows, structure)))

        def predict() -> list[np.ndarray]:
            return [np.asarray(part) for part in forward.moments(fitted.posterior, arrays["grid"])]

        mean, variance = clock.timed("predict", predict)
        return {"mean": mean, "variance": variance, "evidence": evidence, **clock.seconds}

    return run


def _ready(model: Any) -> Any:
    import jax

    jax.block_until_ready(model.posterior)
    return model


def run_torch(arrays: Arrays, settings: Settings, *, chunk: int) -> Run:
    """Fit, weigh and predict with laplace-torch, so many rows at once."""
    import torch
    from laplace import Laplace

    layers: list[Any] = []
    for weight, bias in networks.unpack(arrays, "mean"):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, torch.nn.Tanh()]
    network = torch.nn.Sequential(*layers[:-1])
    rows = torch.utils.data.TensorDataset(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]))
    loader = torch.utils.data.DataLoader(rows, batch_size=len(rows))
    grid = torch.from_numpy(arrays["grid"])
    regression, last = settings["task"] == "regression", settings["structure"] == "last_layer"
    options: dict[str, Any] = {
        "subset_of_weights": "last_layer" if last else "all",
        "hessian_structure": "full" if last else settings["structure"],
        "prior_precision": PRIOR**-2,
        **({"sigma_noise": NOISE} if regression else {}),
    }

    def fit() -> Any:
        made = Laplace(network, "regression" if regression else "classification", **options)
        made.fit(loader)
        return made

    clock = _Clock()

    def run() -> dict[str, np.ndarray]:
        fitted = clock.timed("fit", fit)
        evidence = clock.timed("evidence", lambda: fitted.log_marginal_likelihood().detach().numpy())

        def predict() -> list[np.ndarray]:
            parts = [fitted._glm_predictive_distribution(part) for part in grid.split(chunk)]
            means, covariances = (torch.cat(part).detach() for part in zip(*parts, strict=True))
            return [means.numpy(), covariances.diagonal(dim1=1, dim2=2).numpy()]

        mean, variance = clock.timed("predict", predict)
        return {"mean": mean, "variance": variance, "evidence": evidence, **clock.seconds}

    return run


PEER = "laplace-torch"
BOTH = {
    "bbb": Contender(run_bbb, ("bbb",)),
    PEER: Contender(run_torch, ("laplace", "torch"), ({"chunk": 20},)),
}
WORKS = {"all": BOTH}
PARTS = ("fit", "evidence", "predict")


def sections(
    options: program.Options, given: dict[str, int] | None = None, tasks: Sequence[str] = tuple(FULL)
) -> Iterator[Section]:
    """Compare the two for each task and structure; `given` are numbers of hidden units and of rows."""
    for task in tasks:
        preset, changed = (QUICK if options.quick else FULL)[task], dict(given or {})
        inputs, units, outputs = preset["sizes"]
        settings = {**preset, "sizes": (inputs, changed.pop("units", units), outputs), **changed}
        arrays = trained(task, settings)
        records = []
        for structure in STRUCTURES:
            work = {"task": task, "structure": structure}
            results = race.race(PROGRAM, "all", arrays, work, **options.race)
            records.append({"structure": structure, **_record(results)})
        sizes = "-".join(map(str, settings["sizes"]))
        title = f"{task}, {sizes}, {settings['rows']} rows, {settings['test_rows']:,} predicted"
        yield Section(title, table(HEAD, [_cells(record) for record in records]), records)


HEAD = (
    "structure", "bbb cold s", "peer cold s",
    "peer ÷ bbb cold", "peer ÷ bbb warm", "peer ÷ bbb fit", "peer ÷ bbb fit + evidence", "peer ÷ bbb predict",
    "bbb fit + evidence + predict s", "means", "variances", "evidence",
)  # fmt: skip


def _record(results: list[race.Result]) -> dict[str, Any]:
    """Return the seconds of both, and how far their answers are apart."""
    record: dict[str, Any] = {}
    for result in results:
        seconds = {} if result.answer is None else {part: float(result.answer[f"{part}_seconds"]) for part in PARTS}
        record[result.name] = {"cold": result.cold, "warm": result.warm, "note": result.note, **seconds}
    answers = [result.answer for result in results]
    if len(answers) == 2 and all(answer is not None for answer in answers):
        record["apart"] = apart(*answers)  # type: ignore[arg-type]
    return record


def apart(one: Arrays, other: Arrays) -> dict[str, float]:
    """Return the largest differences of two answers."""
    return {
        "means": float(np.max(np.abs(one["mean"] - other["mean"]) / np.sqrt(one["variance"]))),
        "variances": float(np.max(np.abs(one["variance"] / other["variance"] - 1))),
        "evidence": float(abs(one["evidence"] / other["evidence"] - 1)),
    }


def _cells(record: dict[str, Any]) -> list[str]:
    ours, peer, off = (record.get(name) for name in ("bbb", PEER, "apart"))
    if ours is None or peer is None or off is None:
        return [record["structure"], *[""] * (len(HEAD) - 1)]
    spent = [{**of, "both": of["fit"] + of["evidence"]} for of in (peer, ours)]
    ratios = [ratio(*(of[part] for of in spent)) for part in ("cold", "warm", "fit", "both", "predict")]
    parts = " + ".join(f"{ours[part]:.3f}" for part in PARTS)
    return [record["structure"], f"{ours['cold']:.2f}", f"{peer['cold']:.2f}", *ratios, parts,
            *(f"{off[name]:.0e}" for name in ("means", "variances", "evidence"))]  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Run both tasks, print their tables, and write the numbers as JSON."""
    parser = program.parser(__doc__)
    for name in ("units", "rows", "test-rows"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help="in place of those of either task")
    parser.add_argument("--tasks", nargs="+", choices=FULL, default=list(FULL), help="default: both")
    arguments = parser.parse_args(argv)
    given = {name: getattr(arguments, name) for name in ("units", "rows", "test_rows")}
    sizes = {name: value for name, value in given.items() if value is not None}
    program.run(TITLE, lambda options: sections(options, sizes, arguments.tasks), arguments)


if __name__ == "__main__":
    main()
