"""The options of fit: short forms are the objects, a default stands in one place, and the objects check themselves."""

import inspect

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import bbb
from tests.same import assert_same, assert_same_history

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 2))
Y = X[:, :1] - X[:, 1:]
ADAM = optax.adam(1e-2)
NETWORK = bbb.nn.linear(2, 1)
MODEL = bbb.bayesianize(
    NETWORK.apply, NETWORK.init(KEY), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5)
)
MESH = Mesh(np.array(jax.devices()[:1]), ("batch",))
SHORT = {
    "objective": (bbb.torchbnn.mse_cost, bbb.train.Objective(bbb.torchbnn.mse_cost)),
    "a share": (0.2, bbb.train.EarlyStopping(0.2)),
    "a pair": ((X[:3], Y[:3]), bbb.train.EarlyStopping((X[:3], Y[:3]))),
    "restarts": (1, bbb.train.Restarts(1)),
    "placement": (MESH, bbb.train.Placement(MESH)),
}


def fit(**options):
    return bbb.fit(KEY, MODEL, X, Y, steps=4, optimizer=ADAM, **options)


@pytest.mark.parametrize("name", SHORT)
def test_the_first_field_alone_is_the_object(name):
    short, whole = SHORT[name]
    option = "validation" if name in ("a share", "a pair") else name
    (model, history), (same, its) = fit(**{option: short}), fit(**{option: whole})
    assert_same(model, same)
    assert_same_history(history, its)


def test_a_folder_alone_is_checkpoints_in_it(tmp_path):
    model, history = fit(checkpoints=tmp_path / "short")
    same, its = fit(checkpoints=bbb.train.Checkpointing(str(tmp_path / "whole")))
    assert_same(model, same)
    assert_same_history(history, its)
    short, whole = (sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("short", "whole"))
    assert short == whole == ["step-000000000004.safetensors"]


def test_the_default_objective_is_one_of_no_fields():
    (model, history), (same, its) = fit(), fit(objective=bbb.train.Objective())
    assert_same(model, same)
    assert_same_history(history, its)
    assert history.cost == "elbo_cost"


@pytest.mark.parametrize(("function", "most"), [(bbb.fit, 17), (bbb.train.fit_each, 12)])
def test_arguments_are_few_and_their_defaults_stand_elsewhere(function, most):
    parameters = inspect.signature(function).parameters.values()
    assert len(parameters) <= most
    assert all(part.default is None for part in parameters if part.kind is part.KEYWORD_ONLY)


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        (
            "validation",
            bbb.train.Checkpointing("run"),
            "Expected validation to be real numbers in an array, got Checkpointing",
        ),
        ("validation", "a tenth", "Expected validation to be real numbers in an array, got 'a tenth'"),
        ("checkpoints", True, "Expected the folder of checkpoints to be a str, got bool True"),
        ("restarts", NETWORK.init, "Expected restarts to be a whole number of at least 1, got <bound method"),
        ("placement", "cpu", "Expected mesh to be a jax.sharding.Mesh, got a str"),
        ("objective", "elbo", "Expected objective to be a function, got a str"),
        ("objective", bbb.train.EarlyStopping(0.1), "Expected objective to be a function, got a EarlyStopping"),
    ],
)
def test_what_is_no_option_is_refused_by_its_name(option, given, message):
    with pytest.raises(bbb.errors.InputError) as caught:
        fit(**{option: given})
    assert str(caught.value).startswith(message)


def test_options_cannot_be_changed():
    for option in (
        bbb.train.Objective(),
        bbb.train.EarlyStopping(0.1),
        bbb.train.Checkpointing("run"),
        bbb.train.Restarts(1),
    ):
        with pytest.raises(AttributeError):
            option.every = 3
