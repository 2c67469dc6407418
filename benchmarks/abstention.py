"""When not to answer: digits against letters, `python -m benchmarks.abstention [--quick] [--json FILE]`.

A 64-100-100-10 network learns 1,000 of scikit-learn's 1,797 digits, chosen at random. Of the others, 400 choose a
threshold for a promised error rate, and the rest are scored, beside three sets of strange rows that no method has seen:

- letters: A to Z without I and O, which are drawn as 1 and 0, in the twelve fonts of text of DejaVu that Matplotlib
  brings; each drawn large, scaled to 32 rows of black and white pixels (or columns, if it is wider), centred, and
  counted in squares of 4 × 4, which is how the digits of the set were made;
- sideways: the digits that are scored, turned by a right angle;
- negative: the same, black for white.

Every score of each method is judged by how well it tells strange rows from digits (AUROC: 1 always, 1/2 never), and by
whether it knows which digits are read wrong: the error rate of all answers and of the most certain 80 %, the area under
the risk-coverage curve (AURC, lower is better), and the share of digits that the threshold of `learn_then_test` answers
for a promise of at most 2 % errors with 95 % confidence, with the error rate of these answers. A promise that the rows
do not allow answers nothing.

`bbb` has mean-field posteriors (local reparameterisation) and Laplace ones around the maximum a posteriori; beside them
stand the softmax of that maximum, and a deep ensemble of five (Lakshminarayanan et al. 2017, arXiv 1612.01474). All
have the prior N(0, 2·gain²/inputs) for the weights and biases of a layer; each method chooses its gain, 2 or 4, by the
log score of the last 200 of the 1,000 rows, learning from the others, in the first split; the ensemble takes the
softmax's. No strange row takes part in any choice. Figures are means over random splits, with standard errors over the
splits for the AUROC.
"""

import dataclasses
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, program, race
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.report import Section, table

PROGRAM = "benchmarks.abstention"
TITLE = "When not to answer: digits against letters"
TRAIN, HELD, CHOOSE, CLASSES = 1_000, 200, 400, 10
STRANGE = ("letters", "sideways", "negative")
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
RATE = 0.02


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How much is spent.

    Attributes:
        width: units of each of the two hidden layers.
        steps: of Adam, with batches of 128 and a rate that falls from 0.003 on a cosine.
        gains: of the prior, to choose from.
        members: of the ensemble.
        draws: of the predictions.
        splits: random ones of the digits.
    """

    width: int = 100
    steps: int = 2_000
    gains: tuple[float, ...] = (2.0, 4.0)
    members: int = 5
    draws: int = 500
    splits: int = 3


QUICK: dict[str, Any] = {"width": 8, "steps": 20, "gains": (2.0,), "members": 2, "draws": 20, "splits": 1}


# The rows


def letter(character: str, font: Path) -> np.ndarray:
    """Return a letter as the digits are: the share of ink in each of 8 × 8 squares of 4 × 4 pixels."""
    from PIL import Image, ImageDraw, ImageFont

    drawn = ImageFont.truetype(str(font), 200)
    left, top, right, bottom = drawn.getbbox(character)
    picture = Image.new("L", (round(right - left), round(bottom - top)), 0)
    ImageDraw.Draw(picture).text((-left, -top), character, fill=255, font=drawn)
    scale = 32 / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    ink = np.zeros((32, 32))
    y, x = (32 - height) // 2, (32 - width) // 2
    ink[y : y + height, x : x + width] = np.asarray(picture.resize((width, height), Image.Resampling.BOX)) > 127
    return ink.reshape(8, 4, 8, 4).mean(axis=(1, 3))


def letters() -> np.ndarray:
    """Return every letter in every font, (288, 64), from 0 to 1."""
    import matplotlib as mpl

    fonts = sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"))
    of_text = [font for font in fonts if "Display" not in font.name]
    return np.array([letter(c, font) for font in of_text for c in LETTERS], np.float32).reshape(-1, 64)


def data() -> dict[str, np.ndarray]:
    """Return the digits x, (1,797, 64) from 0 to 1, their classes y, and the letters."""
    from sklearn.datasets import load_digits

    rows = load_digits()
    return {"x": (rows.data / 16).astype(np.float32), "y": rows.target.astype(np.int32), "letters": letters()}


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of the digits: the rows to learn from, those that choose a threshold, those scored, strange ones."""

    x: np.ndarray
    y: np.ndarray
    sets: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def split(arrays: Arrays, seed: int) -> Split:
    """Divide the digits at random."""
    order = np.random.default_rng(seed).permutation(len(arrays["x"]))
    train, choose, scored = np.split(order, [TRAIN, TRAIN + CHOOSE])
    x, y = arrays["x"], arrays["y"]
    turned = np.rot90(x[scored].reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
    strange = dict(zip(STRANGE, (arrays["letters"], turned, 1 - x[scored]), strict=True))
    sets = {"choose": x[choose], "scored": x[scored], **strange}
    return Split(x[train], y[train], sets, {"choose": y[choose], "scored": y[scored]})


# The methods


class Net:
    """The network as a model, and its training."""

    def __init__(self, settings: Settings) -> None:
        import optax

        import bbb

        nn = bbb.nn
        self.recipe = recipe = Recipe(**settings["recipe"])
        width = recipe.width
        self.network = nn.sequential(
            nn.linear(64, width), nn.relu, nn.linear(width, width), nn.relu, nn.linear(width, CLASSES)
        )
        self.optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, recipe.steps))

    def fitted(self, gain: float, x: np.ndarray, y: np.ndarray, seed: int, *, mean_field: bool) -> Any:
        """Return a trained model: a mean-field posterior, or the maximum a posteriori as the means of one."""
        import jax

        import bbb
        from benchmarks.digits import prior

        start = self.network.init(jax.random.key(seed))
        likelihood = bbb.likelihoods.Categorical()
        model = bbb.bayesianize(self.network.apply, start, prior=prior(start, gain), likelihood=likelihood, std=0.01)
        objective = bbb.train.Objective(forward=bbb.forwards.at_mean(self.network.apply))
        if mean_field:
            weight = bbb.objectives.warm_up(self.recipe.steps // 2)
            objective = bbb.train.Objective(kl_weight=weight, forward=bbb.forwards.local_reparam(self.network.apply))
        return bbb.fit(
            jax.random.key(seed + 1), model, x, y, steps=self.recipe.steps, batch_size=128, optimizer=self.optimizer,
            objective=objective, progress=False,
        )[0]  # fmt: skip


def probabilities_at_mean(model: Any, x: np.ndarray) -> np.ndarray:
    """Return the softmax of the network at the posterior's mean, (rows, classes)."""
    import jax

    return np.asarray(jax.nn.softmax(model.apply(model.posterior.params, x)), np.float64)


def entropy(p: np.ndarray) -> np.ndarray:
    """Return the entropy of probabilities in nats."""
    return -np.sum(p * np.log(np.maximum(p, 1e-30)), axis=-1)


Answers = tuple[np.ndarray, dict[str, np.ndarray]]
"""Probabilities, (rows, classes), and scores by name, (rows,) each."""


def of_members(members: list[Any], x: np.ndarray) -> Answers:
    """Return the answers of a softmax, or of an ensemble of them."""
    each = np.stack([probabilities_at_mean(member, x) for member in members])
    p = each.mean(axis=0)
    scores = {"1 − max p": 1 - p.max(axis=1), "entropy": entropy(p)}
    if len(members) > 1:
        scores["mutual information"] = scores["entropy"] - entropy(each).mean(axis=0)
    return p, scores


def of_posterior(model: Any, distance: Any, draws: int, x: np.ndarray) -> Answers:
    """Return the answers of a posterior: entropies by draws, and the distance from the rows it has learned from."""
    import jax

    import bbb

    made = bbb.predict(jax.random.key(9), model, x, draws=draws).y
    p, nats = np.asarray(made.probabilities), made.entropy
    scores = {"1 − max p": 1 - p.max(axis=1), "entropy": nats.total, "mutual information": nats.epistemic}
    return p, scores | ({} if distance is None else {"feature distance": distance(x)})


def answers_of(net: Net, method: str, gain: float, x: np.ndarray, y: np.ndarray, seed: int) -> Callable[..., Answers]:
    """Train a method, and return what answers rows."""
    import jax

    import bbb
    from bbb.decide.abstention import feature_distance

    if method in ("softmax", "ensemble"):
        count = net.recipe.members if method == "ensemble" else 1
        members = [net.fitted(gain, x, y, 100 * seed + k, mean_field=False) for k in range(count)]
        return partial(of_members, members)
    model = net.fitted(gain, x, y, 100 * seed, mean_field=method == "mean-field")
    distance = None if method == "last_layer" else feature_distance(jax.random.key(8), model, x)
    if method != "mean-field":
        model = bbb.laplace(jax.random.key(7), model, x, y, structure=method)
    return partial(of_posterior, model, distance, net.recipe.draws)


def log_score(y: np.ndarray, p: np.ndarray) -> float:
    """Return the mean log-probability of the true class: nats a row."""
    return float(np.mean(np.log(np.maximum(p[np.arange(len(y)), y], 1e-30))))


def run_method(arrays: Arrays, settings: Settings, *, method: str) -> Run:
    """Choose a gain, then train in each split and answer all sets of rows."""
    net = Net(settings)

    def held_out(gain: float) -> float:
        rows = split(arrays, 0)
        kept, held = slice(TRAIN - HELD), slice(TRAIN - HELD, None)
        answer = answers_of(net, "softmax" if method == "ensemble" else method, gain, rows.x[kept], rows.y[kept], 0)
        return log_score(rows.y[held], answer(rows.x[held])[0])

    def run() -> dict[str, np.ndarray]:
        gain = max(net.recipe.gains, key=held_out) if len(net.recipe.gains) > 1 else net.recipe.gains[0]
        found = {"gain": np.asarray(gain)}
        for seed in range(net.recipe.splits):
            rows = split(arrays, seed)
            answer = answers_of(net, method, gain, rows.x, rows.y, seed)
            for name, x in rows.sets.items():
                p, scores = answer(x)
                found |= {f"{seed}|{name}|{score}": np.asarray(values) for score, values in scores.items()}
                if name in rows.labels:
                    found[f"{seed}|{name}|wrong"] = p.argmax(axis=1) != rows.labels[name]
        return found

    return run


def contender(method: str) -> Contender:
    """Return a method as a contender."""
    return Contender(run_method, ("bbb", "sklearn"), ({"method": method},))


METHODS = {
    "softmax": contender("softmax"),
    "ensemble of 5": contender("ensemble"),
    "bbb mean-field": contender("mean-field"),
    "bbb Laplace kron": contender("kron"),
    "bbb Laplace last layer": contender("last_layer"),
}
WORKS = {"all": METHODS}
PICTURED = "bbb Laplace kron"
"""Whose distances the picture shows."""


# The table

HEAD = (
    "method", "score", *(f"AUROC {name}" for name in STRANGE), "error", "error at 80 %", "AURC · 1000",
    "answered at 2 %", "their error", "gain",
)  # fmt: skip


def judged(name: str, answer: dict[str, np.ndarray], splits: int) -> list[dict[str, Any]]:
    """Return the figures of each score of a method: means over the splits."""
    scores = [key.split("|")[2] for key in answer if key.startswith("0|scored|") and not key.endswith("|wrong")]
    return [
        {"method": name, "score": score, "gain": float(answer["gain"]), **_means([
            _of_split({key.split("|", 1)[1]: of for key, of in answer.items() if key.startswith(f"{seed}|")}, score)
            for seed in range(splits)
        ])}
        for score in scores
    ]  # fmt: skip


def _of_split(found: dict[str, np.ndarray], score: str) -> dict[str, float]:
    from bbb import metrics
    from bbb.decide.abstention import learn_then_test, risk_coverage
    from bbb.errors import InputError

    usual, wrong = found[f"scored|{score}"], found["scored|wrong"]
    curve = risk_coverage(wrong, usual)
    try:
        rule = learn_then_test(found["choose|wrong"], found[f"choose|{score}"], rate=RATE)
        answered = rule.answers(usual)
    except InputError:
        answered = np.zeros(len(usual), bool)
    return {
        **{name: metrics.auroc(usual, found[f"{name}|{score}"]) for name in STRANGE},
        "error": curve.risk_at(1.0),
        "error_at_80": curve.risk_at(0.8),
        "aurc": curve.aurc,
        "answered": float(answered.mean()),
        "error_of_answered": float(wrong[answered].mean()) if answered.any() else 0.0,
    }


def _means(splits: list[dict[str, float]]) -> dict[str, Any]:
    def error(values: list[float]) -> float:
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0

    columns = {name: [one[name] for one in splits] for name in splits[0]}
    errors = {f"{name}_se": error(values) for name, values in columns.items()}
    return {name: float(np.mean(values)) for name, values in columns.items()} | errors


def _cells(record: dict[str, Any]) -> list[str]:
    strange = [f"{record[name]:.3f} ± {record[f'{name}_se']:.3f}" for name in STRANGE]
    shares = [f"{record[name]:.2%}" for name in ("error", "error_at_80")]
    promise = [f"{record['answered']:.1%}", f"{record['error_of_answered']:.2%}"]
    return [
        record["method"], record["score"], *strange, *shares, f"{1000 * record['aurc']:.2f}", *promise,
        f"{record['gain']:g}",
    ]  # fmt: skip


def sections(options: program.Options) -> Iterator[Section]:
    """Compare the methods."""
    recipe = dataclasses.asdict(Recipe(**(QUICK if options.quick else {})))
    arrays, settings, records, answers = data(), {"recipe": recipe}, [], {}
    for name, one in METHODS.items():
        if options.contenders is not None and name not in options.contenders:
            continue
        job = measure.Job(PROGRAM, "all", name, one.variants[0], settings, repeats=0)
        result = race.run(job, arrays, limit=options.limit)
        race.say(f"{name}: {result.note or f'{result.cold:.0f} s'}")
        if result.answer is None:
            records.append({"method": name, "note": result.note})
            continue
        answers[name] = result.answer
        records += judged(name, result.answer, recipe["splits"])
    if options.folder is not None:
        (options.folder / "abstention.png").write_bytes(picture(arrays, answers))
    cells = [[r["method"], r["note"], *[""] * (len(HEAD) - 2)] if "note" in r else _cells(r) for r in records]
    title = f"{TRAIN:,} digits learned from, {len(arrays['letters'])} letters, {recipe['splits']} splits"
    yield Section(title, table(list(HEAD), cells), records)


# The picture


def picture(arrays: Arrays, answers: dict[str, dict[str, np.ndarray]]) -> bytes:
    """Return the PNG file of some rows, of the risk-coverage curves and of the distances, in the first split."""
    from matplotlib.figure import Figure

    from bbb import plots
    from bbb.decide.abstention import risk_coverage

    figure = Figure(figsize=(12, 4.2), dpi=110, layout="constrained")
    shown, left, right = figure.subplots(1, 3, width_ratios=(1, 1.7, 1.7))
    shown.imshow(_shown(split(arrays, 0)), cmap="gray_r")
    shown.set_xticks([4.5, 14.5, 24.5, 34.5], ("digits", *STRANGE), rotation=30)
    shown.set_yticks([])
    curves = {
        name: risk_coverage(answer["0|scored|wrong"], answer["0|scored|1 − max p"])
        for name, answer in list(answers.items())[:4]  # more lines would look alike
    }
    if curves:
        plots.risk_coverage(curves, ax=left).set_ylabel("error rate of the answers")
        left.legend(frameon=False, fontsize=8, loc="upper left")
    if (found := answers.get(PICTURED)) is not None:
        inside, outside = (found[f"0|{which}|feature distance"] for which in ("scored", "letters"))
        plots.ood_histogram(inside, outside, log=True, ax=right).set_xlabel(f"feature distance, {PICTURED}")
        right.legend(frameon=False, fontsize=8, loc="upper right")
        right.set_ylim(0, 1.25 * right.get_ylim()[1])
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _shown(rows: Split) -> np.ndarray:
    """Return one picture of eight rows of each kind, in four columns."""
    kinds = [rows.sets[name] for name in ("scored", *STRANGE)]
    columns = [kind[np.linspace(3, len(kind) - 8, 8).astype(int)].reshape(-1, 8, 8) for kind in kinds]
    padded = [np.pad(column, ((0, 0), (1, 1), (1, 1))).reshape(-1, 10) for column in columns]
    return np.concatenate(padded, axis=1)


def main(argv: list[str] | None = None) -> None:
    """Run all methods, print the table, and write the numbers as JSON and the picture."""
    program.main(TITLE, sections, __doc__, argv)


if __name__ == "__main__":
    main()
