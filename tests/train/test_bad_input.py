"""Bad input to `fit`, `fit_each`, the bound, its costs and its schedules: refused by name, and nothing is written."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb import priors
from bbb.errors import InputError, KeyTypeError, NonFiniteInputError, ShapeError, WriteError
from tests.bad_input import (
    BATCH,
    KEY,
    MODEL,
    NAN,
    NETWORK,
    X,
    Y,
    assert_refused,
    bayesian,
    classifier,
    elbo,
    ensemble,
    fit,
    history,
    linearized,
    not_above_0,
    not_inside_0_1,
    of,
    wrong_counts,
    wrong_keys,
    wrong_models,
    wrong_rows,
    wrong_weights,
)


class Impure:
    """A network that is another one at each call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _, x):
        self.calls += 1
        return x * self.calls


def each(keys=2, models=2, x=2, y=2, **options):
    given = [MODEL] * models if isinstance(models, int) else models
    return bbb.train.fit_each(jax.random.split(KEY, keys), given, [X] * x, [Y] * y, **{"steps": 1, **options})


def held(count=5):
    """Return the rows of 6 that `fit` holds out of them by its key, of so many."""
    from bbb.train.validation import SPLIT_KEY

    order = jax.random.permutation(jax.random.fold_in(KEY, np.uint32(SPLIT_KEY)), 6)
    return np.asarray(order)[:count]


KEYED = {
    "fit: key": lambda key: fit(key=key),
    "objectives.negative_elbo: key": lambda key: elbo(key=key),
    "train.member_keys: key": lambda key: bbb.train.member_keys(key, 2),
}

ROWED = {
    "fit: x": lambda x: fit(x=x),
    "fit: y": lambda y: fit(y=y),
    "fit: x held out": lambda x: fit(validation=(x, Y)),
    "fit: y held out": lambda y: fit(validation=(X, y)),
    "train.fit_each: x": lambda x: bbb.train.fit_each(jax.random.split(KEY), [MODEL, MODEL], [x, X], [Y, Y], steps=1),
    "train.fit_each: y": lambda y: bbb.train.fit_each(jax.random.split(KEY), [MODEL, MODEL], [X, X], [Y, y], steps=1),
    "objectives.negative_elbo: x": lambda x: elbo(x=x),
    "objectives.negative_elbo: y": lambda y: elbo(y=y),
}
"""Calls of an array with a row for each observation."""

COUNTS = {
    "fit: steps": lambda n: fit(steps=n),
    "fit: epochs": lambda n: fit(steps=None, epochs=n),
    "fit: batch_size": lambda n: fit(batch_size=n),
    "fit: restarts": lambda n: fit(restarts=n),
    "train.Checkpointing: every": lambda n: bbb.train.Checkpointing("run", every=n),
    "train.EarlyStopping: patience": lambda n: bbb.train.EarlyStopping(0.5, patience=n),
    "train.EarlyStopping: every": lambda n: bbb.train.EarlyStopping(0.5, every=n),
    "train.Objective: draws": lambda n: bbb.train.Objective(draws=n),
    "train.Restarts: number": lambda n: bbb.train.Restarts(n, NETWORK.init),
    "train.fit_each: steps": lambda n: bbb.train.fit_each(
        jax.random.split(KEY), [MODEL, MODEL], [X, X], [Y, Y], steps=n
    ),
    "train.member_keys: restarts": lambda n: bbb.train.member_keys(KEY, n),
    "objectives.negative_elbo: draws": lambda n: elbo(draws=n),
    "objectives.negative_elbo: num_data": lambda n: elbo(num_data=n),
    "objectives.warm_up: steps": bbb.objectives.warm_up,
    "objectives.WarmUp: steps": bbb.objectives.WarmUp,
    "objectives.minibatch_weights: batches": bbb.objectives.minibatch_weights,
    "objectives.MinibatchWeights: batches": bbb.objectives.MinibatchWeights,
}

ABOVE_0 = {"train.ivon: learning_rate": bbb.train.ivon}

INSIDE_0_1 = {"fit: validation": lambda p: fit(validation=p)}

MODELS = {
    "fit: model": lambda model: fit(model=model),
    "train.fit_each: models": lambda model: bbb.train.fit_each(KEY[None], [model], [X], [Y], steps=1),
    "objectives.negative_elbo: model": lambda model: elbo(model=model),
}

WEIGHTS = {
    "fit: sample_weight": lambda w: fit(sample_weight=w),
    "train.fit_each: sample_weight": lambda w: each(sample_weight=[np.ones(6), w]),
    "objectives.negative_elbo: sample_weight": lambda w: elbo(sample_weight=w),
}

CASES = {
    **wrong_keys(KEYED),
    **wrong_weights(WEIGHTS),
    **wrong_rows(ROWED),
    **wrong_counts(COUNTS),
    **not_above_0(ABOVE_0),
    **not_inside_0_1(INSIDE_0_1),
    **{
        f"train.ivon: {name} of {value!r}": (
            lambda name=name, value=value: bbb.train.ivon(**{name: value}),
            InputError,
            f"{name} to be",
        )
        for name, values in {
            "beta1": (-0.1, 1.0, NAN, "x", [0.5, 0.5]),
            "beta2": (-0.1, 1, NAN, None),
            "clip": (0, -1.0, NAN, "x", [1.0, 1.0]),
            "learning_rate": ([0.1, 0.1],),
        }.items()
        for value in values
    },
    "train.ivon: others that is no optimizer": (
        lambda: bbb.train.ivon(others="adam"),
        InputError,
        "an optimizer|others",
    ),
    "train.ivon: a posterior whose weights depend": (
        lambda: fit(model=bayesian(posterior=bbb.posteriors.LowRank.around), optimizer=bbb.train.ivon()),
        InputError,
        r"a MeanField, whose weights are independent, to train by ivon, got a LowRank\. Train another posterior by",
    ),
    **wrong_models(MODELS),
    "fit: a linearised model": (
        lambda: fit(model=linearized()),
        InputError,
        r"a model of the network itself, to train it, got a linearised one\. Pass dataclasses\.replace\(model, line",
    ),
    "train.fit_each: a linearised model": (
        lambda: bbb.train.fit_each(KEY[None], [linearized()], [X], [Y], steps=1),
        InputError,
        "a model of the network itself, to train it, got a linearised one",
    ),
    "fit: y without its column": (lambda: fit(y=Y[:, 0]), ShapeError, r"Pass y.reshape\(-1, 1\)"),
    "fit: y of other rows": (lambda: fit(y=Y[:5]), ShapeError, "the 6 rows of x, got 5 rows"),
    "fit: x of other columns": (lambda: fit(x=np.ones((6, 2))), ShapeError, "number of columns of x"),
    "fit: y beyond float32": (lambda: fit(y=Y * 1e300), NonFiniteInputError, "y in float32"),
    "fit: whole numbers beyond int32": (lambda: fit(y=Y.astype(int) + 2**40), InputError, "y in int32"),
    "fit: steps and epochs": (lambda: fit(epochs=2), InputError, "steps or epochs, got both"),
    "fit: restarts without init": (lambda: fit(restarts=2), InputError, "init with restarts"),
    "train.Restarts: one anchored member": (
        lambda: bbb.train.Restarts(1, anchored=True),
        InputError,
        "several anchored members",
    ),
    "fit: a cost that is not a function": (lambda: fit(objective=3), InputError, "objective to be a function"),
    "fit: a mesh that is not one": (lambda: fit(placement="cpu"), InputError, "mesh to be a jax.sharding.Mesh"),
    "fit: a folder that is not one": (lambda: fit(checkpoints=3), InputError, "the folder of checkpoints to be a str"),
    "train.Objective: kl_weight of -1": (
        lambda: bbb.train.Objective(kl_weight=-1),
        InputError,
        "kl_weight to be one finite number",
    ),
    "train.Objective: kl_weight an array": (
        lambda: bbb.train.Objective(kl_weight=np.ones(2)),
        InputError,
        "kl_weight to be one finite number",
    ),
    "train.Objective: kl_weight a word": (
        lambda: bbb.train.Objective(kl_weight="warm"),
        InputError,
        "kl_weight to be real numbers",
    ),
    "fit: an optimiser's name": (lambda: fit(optimizer="adam"), InputError, "an optimizer such as optax.adam"),
    "fit: an optimiser's maker": (lambda: fit(optimizer=optax.adam), InputError, "an optimizer such as optax.adam"),
    "train.Objective: a forward's name": (
        lambda: bbb.train.Objective(forward="flipout"),
        InputError,
        "a forward, a function, got 'flipout'",
    ),
    "train.Objective: a forward's maker": (
        lambda: bbb.train.Objective(forward=bbb.forwards.flipout),
        InputError,
        r"Pass bbb.forwards.flipout\(model.apply\)",
    ),
    "train.Objective: on_nonfinite of another word": (
        lambda: bbb.train.Objective(on_nonfinite="stop"),
        InputError,
        '"raise" or "skip"',
    ),
    "train.Checkpointing: resume without a folder": (
        lambda: bbb.train.Checkpointing(None, resume=True),
        InputError,
        "a folder of checkpoints",
    ),
    "train.Checkpointing: every without a folder": (
        lambda: bbb.train.Checkpointing(None, every=5),
        InputError,
        "a folder of checkpoints",
    ),
    "fit: a file for a folder": (lambda: fit(checkpoints="train.csv"), WriteError, "a writable folder"),
    "fit: a folder in a file": (lambda: fit(checkpoints="train.csv/a"), WriteError, "a writable folder"),
    "train.Placement: a partition without a mesh": (
        lambda: bbb.train.Placement(None, jax.sharding.PartitionSpec()),
        InputError,
        "a mesh with a partition, got none",
    ),
    "fit: validation of three": (lambda: fit(validation=(X, Y, Y)), InputError, "validation to be a pair"),
    "fit: validation of all rows": (lambda: fit(validation=0.99), InputError, "leave a row to train on"),
    "fit: validation of other columns": (lambda: fit(validation=(np.ones((6, 2)), Y)), ShapeError, "columns of x"),
    "fit: weights beyond float32": (
        lambda: fit(sample_weight=np.full(6, 1e300)),
        InputError,
        "sample_weight in float32 to be finite",
    ),
    "fit: weights that float32 holds as 0": (
        lambda: fit(sample_weight=np.full(6, 1e-300)),
        InputError,
        "sample_weight above 0 for at least one row",
    ),
    "fit: one class alone, of weight above 0": (
        lambda: fit(y=np.arange(6) // 3, model=classifier(), sample_weight=np.array([1, 1, 1, 0, 0, 0])),
        InputError,
        "two classes or more in y, got 0 in every one of 3 rows",
    ),
    "fit: no weight to train on": (
        lambda: fit(validation=0.8, sample_weight=np.eye(6)[held()[0]]),
        InputError,
        "validation to leave rows of weight above 0 to train on",
    ),
    "fit: no weight to score": (
        lambda: fit(validation=0.5, sample_weight=1 - np.isin(np.arange(6), held(3))),
        InputError,
        "validation to leave rows of weight above 0 to score",
    ),
    "fit: an ensemble": (lambda: fit(model=ensemble()), InputError, "a model of one posterior"),
    "fit: more steps than keys": (lambda: fit(steps=2**40), InputError, "Train in several calls"),
    "fit: one class alone": (
        lambda: fit(y=np.zeros(6, int), model=classifier()),
        InputError,
        "two classes or more in y, got 0 in every one of 6 rows",
    ),
    "fit: a class beyond": (lambda: fit(y=np.arange(6), model=classifier()), InputError, "classes from 0 to 1 in y"),
    "fit: classes in floats": (lambda: fit(y=np.zeros(6), model=classifier()), InputError, "y of an integer dtype"),
    "fit: classes one-hot": (
        lambda: fit(y=np.eye(2, dtype=int)[[0, 1] * 3], model=classifier()),
        ShapeError,
        r"Pass y.argmax\(axis=1\)",
    ),
    "fit: a network that is not pure": (lambda: fit(model=of(Impure())), InputError, "a pure function"),
    "fit: a network that gives a tuple": (lambda: fit(model=of(lambda p, x: (x, x))), ShapeError, "got a tuple"),
    "fit: a network that sums rows": (lambda: fit(model=of(lambda p, x: jnp.sum(x))), ShapeError, "got shape"),
    "fit: a batch of one row to normalise": (
        lambda: fit(X[:1], Y[:1], model=bayesian(BATCH)),
        ShapeError,
        "more than one value of each channel",
    ),
    "train.fit_each: no models": (
        lambda: bbb.train.fit_each(KEY[None], [], [X], [Y]),
        InputError,
        "at least one model",
    ),
    "train.fit_each: another posterior": (
        lambda: each(posterior="map"),
        InputError,
        'posterior to be one of "mean_field", "laplace", "hmc", got \'map\'',
    ),
    "train.fit_each: a prior without curvature": (
        lambda: bbb.train.fit_each(
            KEY[None], [bayesian(prior=priors.Laplace(0.0, 1.0))], [X], [Y], steps=1, posterior="laplace"
        ),
        InputError,
        "a prior with `curvature`.*, which a Laplace posterior needs",
    ),
    "train.fit_each: other keys": (lambda: each(keys=3), KeyTypeError, "2 typed JAX keys"),
    "train.fit_each: other weights": (
        lambda: each(sample_weight=[np.ones(6)]),
        ShapeError,
        r"sample_weight for each of 2 members, got 1\. Pass sample_weight of shape \(members, rows\)",
    ),
    "train.fit_each: other x": (lambda: each(x=3), ShapeError, "x for each of 2 members"),
    "train.fit_each: other y": (lambda: each(y=1), ShapeError, "y for each of 2 members"),
    "train.fit_each: rows of another number": (
        lambda: bbb.train.fit_each(jax.random.split(KEY), [MODEL, MODEL], [X, X[:3]], [Y, Y[:3]], steps=1),
        ShapeError,
        "x of one shape for all members",
    ),
    "train.fit_each: other priors": (
        lambda: each(models=[MODEL, bayesian(prior=priors.Laplace())]),
        ShapeError,
        "members of one network and one structure",
    ),
    "objectives.negative_elbo: kl_weight NaN": (
        lambda: elbo(kl_weight=NAN),
        InputError,
        "kl_weight to be one finite number",
    ),
    "objectives.negative_elbo: an ensemble": (lambda: elbo(model=ensemble()), InputError, "a model of one posterior"),
    "objectives.negative_elbo: a forward's maker": (
        lambda: elbo(forward=bbb.forwards.local_reparam),
        InputError,
        "a forward of a network",
    ),
    "objectives.elbo_cost: an ensemble": (
        lambda: bbb.objectives.elbo_cost(ensemble(), jnp.ones((1, 6, 1)), jnp.ones((6, 1)), jnp.ones(6), 6, 1.0),
        InputError,
        "one mean-field posterior, got an ensemble of 2",
    ),
    "objectives.exact_elbo_cost: draws of outputs": (
        lambda: bbb.objectives.exact_elbo_cost(MODEL, jnp.ones((2, 6, 1)), jnp.ones((6, 1)), jnp.ones(6), 6, 1.0),
        ShapeError,
        r"shape \(1, 2, rows, \.\.\.\), their mean and variance, for exact_elbo_cost, got shape \(2, 6, 1\)",
    ),
    "train.History.negative_elbo: of another cost": (
        lambda: history("mse_cost").negative_elbo,
        InputError,
        "a history of elbo_cost, got one of mse_cost",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
