"""What training compiles: a program for the shapes and the code that it is given, and none for other numbers."""

import dataclasses
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb import likelihoods, priors
from tests.train.test_fit import ADAM, KEY, X, Y, assert_same, line, model_of, trained

plan_module = importlib.import_module("bbb.train.plan")
loop_module = importlib.import_module("bbb.train.loop")


def compiled(caplog, run):
    """Name the programs that are compiled meanwhile."""
    caplog.clear()
    with jax.log_compiles():
        run()
    messages = [record.getMessage() for record in caplog.records]
    return [m.split()[4] for m in messages if m.startswith("Finished XLA compilation of")]


def test_training_is_one_program_however_many_chunks(caplog, monkeypatch):
    monkeypatch.setattr(plan_module, "MAX_CHUNK", 16)

    def run(objective):
        bbb.fit(KEY, model_of(), X, Y, steps=40, optimizer=ADAM, objective=objective)

    def cost_of(held):
        return lambda *args, **options: bbb.objectives.elbo_cost(*args, **options) if held else None

    first, second = (cost_of([True]) for _ in range(2))  # two different costs, as a list may change
    run(first)  # compiles the small things that any training shares
    assert len(compiled(caplog, lambda: run(second))) == 1
    assert compiled(caplog, lambda: run(second)) == []


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="the XLA of older JAX copies them all the same")
def test_a_step_copies_no_large_array(monkeypatch):
    """Else the means and deviations are copied in every step, since an update does not need the value of the cost."""
    found = []

    def noted(*args, **options):
        found.append(loop_run.executable(*args, **options).as_text())
        return loop_run(*args, **options)

    loop_run = loop_module.run_chunk
    monkeypatch.setattr(loop_module, "run_chunk", noted)
    network = bbb.nn.sequential(bbb.nn.linear(300, 300), bbb.nn.tanh, bbb.nn.linear(300, 1))
    model = bbb.bayesianize(
        network.apply, network.init(KEY), prior=priors.Normal(0.0, 0.1), likelihood=likelihoods.Gaussian(0.3)
    )
    bbb.fit(KEY, model, np.ones((8, 300), "float32"), np.ones((8, 1), "float32"), steps=4)
    steps, entry = found[0].split("\nENTRY ")
    copies = re.compile(r"= f32\[300,300\]\S* copy\(")
    assert copies.findall(entry)  # once for a chunk, as its caller keeps what it began with
    assert not copies.findall(steps)


def test_training_again_compiles_nothing(caplog):
    after, _ = trained()
    assert compiled(caplog, trained) == []
    again = compiled(
        caplog,
        lambda: bbb.fit(
            jax.random.key(7),
            after,
            X + 1,
            Y,
            steps=50,
            batch_size=5,
            objective=bbb.train.Objective(draws=2),
            optimizer=ADAM,
        ),
    )
    assert again == []


def anew(rate=0.05, scale=1.0):
    """Return a network, a posterior and an optimiser, all made anew."""

    def network(params, x):
        return line(params, x) * scale

    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
    model = bbb.bayesianize(network, jnp.zeros((2, 1)), **beliefs)
    return model, optax.adam(optax.cosine_decay_schedule(rate, 30))


def test_what_is_made_anew_and_is_the_same_compiles_nothing(caplog):
    def run(**changes):
        model, optimizer = anew(**changes)
        options = {"objective": bbb.train.Objective(forward=bbb.forwards.local_reparam(model.apply))}
        after, _ = bbb.fit(KEY, model, X, Y, steps=30, optimizer=optimizer, progress=False, **options)
        return after, bbb.predict(KEY, after, X, draws=20)

    first = run()
    again = []
    assert compiled(caplog, lambda: again.append(run())) == []
    assert_same(first[0].posterior, again[0][0].posterior)
    assert "run_chunk" in str(compiled(caplog, lambda: run(rate=0.01)))
    other = []
    assert "run_chunk" in str(compiled(caplog, lambda: other.append(run(scale=2.0))))
    assert not np.allclose(other[0][1].f.mean, first[1].f.mean)


# --- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [(1, 2, 7, 63), (64, 65, 500, 1100)])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_another_number_of_steps_compiles_nothing(caplog, numbers, batch_size):
    def run(steps):
        return bbb.fit(KEY, model_of(), X, Y, steps=steps, optimizer=ADAM, batch_size=batch_size, progress=False)

    first = run(numbers[0])
    for steps in numbers[1:]:
        made = []
        assert compiled(caplog, lambda: made.append(run(steps))) == [], steps  # noqa: B023 (called at once)
        np.testing.assert_array_equal(made[0][1].loss[: numbers[0]], first[1].loss)


def test_a_very_short_training_draws_little_noise_that_it_does_not_use():
    assert plan_module._block(1, 10) == plan_module.SHORT_BLOCK < plan_module._block(64, 10) == plan_module.MAX_BLOCK
    assert plan_module._block(1, plan_module.NOISE_ELEMENTS) == plan_module._block(10**6, 2**40) == 1


# --- numbers ---------------------------------------------------------------------------------------------------------


def gaussian(value):
    return likelihoods.Gaussian(value, learn=True)


def pair(w, x):
    return {"a": x @ w, "b": jnp.tanh(x @ w)}


def around(posterior):
    return lambda value: {"posterior": posterior, "std": value}


TREE = np.arange(1.0, 5.0).reshape(2, 2)
NUMBERS = {
    "Normal": lambda v: {"prior": priors.Normal(v, 2 * v)},
    "Normal of each weight": lambda v: {"prior": priors.Normal(v, v * TREE)},
    "fan_in": lambda v: {"prior": priors.fan_in(np.zeros((2, 2)), gain=v)},
    "Laplace": lambda v: {"prior": priors.Laplace(v, 2 * v)},
    "EmpiricalNormal": lambda v: {"prior": priors.EmpiricalNormal(v)},
    "ScaleMixture": lambda v: {"prior": priors.ScaleMixture(v / 4, v, v / 9)},
    "MultivariateNormal": lambda v: {"prior": priors.MultivariateNormal(bbb.MeanField.around(jnp.ones((2, 2)), v))},
    "Gaussian": lambda v: {"likelihood": likelihoods.Gaussian(v)},
    "Gaussian, learned": lambda v: {"likelihood": gaussian(v)},
    "StudentT": lambda v: {"likelihood": likelihoods.StudentT(v, 2 + v, learn=True, learn_df=True)},
    "NegativeBinomial": lambda v: {"likelihood": likelihoods.NegativeBinomial(v, learn=True)},
    "BoundedHeteroscedasticGaussian": lambda v: {
        "likelihood": likelihoods.BoundedHeteroscedasticGaussian(v, 3 * v),
    },
    "PartiallyObserved": lambda v: {"likelihood": likelihoods.PartiallyObserved(gaussian(v))},
    "Joint": lambda v: {"apply": pair, "likelihood": {"a": gaussian(v), "b": likelihoods.StudentT(v)}},
    "MeanField": around(bbb.MeanField.around),
    "FullRank": around(bbb.posteriors.FullRank.around),
    "LowRank": around(bbb.posteriors.LowRank.around),
}
"""For a number, what it changes of a model: each number that is an argument of compiled programs, and none of which the
program is made."""


def target(made):
    """Return y of the shape and kind that a likelihood takes."""
    if isinstance(made.get("likelihood"), dict):
        return {"a": np.tile(Y, 2), "b": np.tile(Y, 2)}
    if isinstance(made.get("likelihood"), likelihoods.NegativeBinomial):
        return np.arange(24).reshape(12, 2)
    return Y if isinstance(made.get("likelihood"), likelihoods.BoundedHeteroscedasticGaussian) else np.tile(Y, 2)


@pytest.mark.parametrize("of", NUMBERS.values(), ids=NUMBERS)
def test_a_second_value_of_a_number_compiles_nothing(caplog, of):
    def run(value):
        made = {"prior": priors.Normal(), "likelihood": likelihoods.Gaussian(0.5)} | of(value)
        model = bbb.bayesianize(made.pop("apply", line), jnp.zeros((2, 2)), **made)
        models = [model]
        if "prior" in of(value):  # a part put in the place of another, whose numbers are still Python's
            models.append(dataclasses.replace(models[0], prior=of(value)["prior"]))
        for each in models:
            after, _ = bbb.fit(KEY, each, X, target(of(value)), steps=2, optimizer=ADAM, progress=False)
            bbb.predict(KEY, after, X, draws=4)
        return after

    first = run(0.5)
    other = []
    assert compiled(caplog, lambda: other.append(run(0.75))) == []
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first, other[0])), strict=True))


def test_a_part_in_the_place_of_another_compiles_nothing(caplog):
    trained()  # of bayesianize's model
    narrower = dataclasses.replace(
        model_of(), prior=priors.Normal(0, np.float64(0.5)), likelihood=likelihoods.Gaussian([0.25])
    )
    options = {"steps": 50, "batch_size": 5, "objective": bbb.train.Objective(draws=2), "optimizer": ADAM}
    assert compiled(caplog, lambda: bbb.fit(KEY, narrower, X, Y, **options)) == []
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(narrower.prior)} == {"float32"}


def test_another_weight_of_the_kl_or_of_rows_compiles_nothing(caplog):
    def run(weight, cost):
        objective = bbb.train.Objective(cost, kl_weight=weight)
        rows = np.full(12, float(weight))
        bbb.fit(KEY, model_of(), X, Y, steps=2, optimizer=ADAM, objective=objective, sample_weight=rows, progress=False)

    for cost in (bbb.objectives.elbo_cost, bbb.objectives.exact_elbo_cost, bbb.torchbnn.mse_cost):
        run(1, cost)
        assert compiled(caplog, lambda: run(0.5, cost)) == [], cost  # noqa: B023 (called at once)
