"""Networks that behave otherwise in training: running statistics, counters and dropout."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.train.steps.state import trainable_of
from bbb.train.steps.training_mode import in_training

STEPS, ROWS, STD, RATE = 5, 12, 0.5, 1e-3


@pytest.fixture
def promote():
    """Let the other libraries mix dtypes and ranks, as they do inside their layers."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def data(dtype="float32"):
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, size=(ROWS, 2)).astype(dtype)
    return x, (x[:, :1] - x[:, 1:]) / 3


@dataclasses.dataclass(frozen=True)
class Centred:
    """y = (x − running mean)·w, whose training mode counts its calls and may add noise."""

    noise: float = 0.0

    def __call__(self, params, x):
        return (x - params["mean"][None]) @ params["w"]

    def train(self, params, x, key):
        mean = 0.9 * params["mean"] + 0.1 * jnp.mean(x, axis=0)
        noise = self.noise * jax.random.normal(key, (x.shape[0], 1), x.dtype)
        return self({**params, "mean": mean}, x) + noise, {"w": None, "mean": mean, "count": params["count"] + 1}

    def state(self, _):
        return {"w": False, "mean": True, "count": True}


def params(dtype="float32"):
    return {"w": np.ones((2, 1), dtype), "mean": np.zeros(2, dtype), "count": np.zeros((), "int32")}


def centred(noise=0.0, std=1e-4, dtype="float32"):
    likelihood = bbb.likelihoods.Gaussian(STD)
    return bbb.bayesianize(Centred(noise), params(dtype), prior=bbb.priors.Normal(), likelihood=likelihood, std=std)


def test_state_is_never_gaussian():
    assert bbb.core.tree.names(centred().posterior.log_std) == ["w"]
    everything = bbb.bayesianize(
        Centred(), params(), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(), where=True
    )
    assert bbb.core.tree.names(everything.posterior.log_std) == ["w"]


MOVES = [("weight_sampling", 1, "float64"), ("local_reparam", 3, "float32"), ("flipout", 3, "float64")]
OTHER_MOVES = [
    case
    for case in itertools.product(("weight_sampling", "local_reparam", "flipout"), (1, 3), ("float32", "float64"))
    if case not in MOVES
]


@pytest.mark.parametrize(
    ("forward", "draws", "dtype"),
    [*MOVES, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHER_MOVES)],
    indirect=["dtype"],
)
def test_state_moves_by_its_updates_and_by_nothing_else(draws, forward, dtype):
    x, y = data(dtype)
    made = centred(dtype=dtype)
    trained, _ = bbb.fit(
        jax.random.key(0),
        made,
        x,
        y,
        steps=STEPS,
        objective=bbb.train.Objective(draws=draws, forward=getattr(bbb.forwards, forward)(made.apply)),
        optimizer=optax.adamw(1e-2, weight_decay=0.5),
    )
    mean = trained.posterior.mean
    assert int(mean["count"]) == STEPS
    assert (mean["count"].dtype, mean["mean"].dtype) == ("int32", dtype)
    np.testing.assert_allclose(mean["mean"], (1 - 0.9**STEPS) * x.mean(0), rtol=1e-5)
    assert not np.array_equal(mean["w"], params()["w"])
    assert jax.tree.structure(trained) == jax.tree.structure(made)


def test_updates_are_averaged_over_draws():
    @dataclasses.dataclass(frozen=True)
    class Remembering(Centred):
        def train(self, params, x, _):
            return self(params, x), {"w": None, "mean": params["w"][:, 0], "count": None}

    made = bbb.bayesianize(
        Remembering(), params(), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(), std=1.0
    )
    means = {}
    for draws in (1, 400):
        still = optax.sgd(0.0)
        trained, _ = bbb.fit(
            jax.random.key(0), made, *data(), steps=1, objective=bbb.train.Objective(draws=draws), optimizer=still
        )
        means[draws] = np.asarray(trained.posterior.mean["mean"])
    assert (np.abs(means[400] - 1.0) < 5 / np.sqrt(400)).all()  # 5 standard errors
    assert (np.abs(means[1] - 1.0) > 5 / np.sqrt(400)).any()


def test_every_row_of_a_batch_is_one_of_the_data_and_none_counts_twice():
    @dataclasses.dataclass(frozen=True)
    class Seen(Centred):
        def train(self, params, x, _):
            nearest = jnp.min(jnp.abs(x[:, None] - x[None]).sum(-1) + 100 * jnp.eye(x.shape[0]))
            return self(params, x), {"w": None, "mean": params["mean"] + (nearest == 0), "count": None}

    made = bbb.bayesianize(Seen(), params(), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian())
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        trained, _ = bbb.fit(jax.random.key(0), made, *data(), epochs=2, batch_size=5)  # 5, 5 and 2 rows
    np.testing.assert_array_equal(trained.posterior.mean["mean"], 0.0)


def test_noise_of_training_is_not_in_predictions():
    still = optax.sgd(0.0)
    quiet, loud = (
        bbb.fit(
            jax.random.key(0),
            centred(noise, std=1e-7),
            *data(),
            steps=4,
            optimizer=still,
            objective=bbb.train.Objective(kl_weight=0.0),
        )
        for noise in (0.0, 1.0)
    )
    assert len(set(np.round(loud[1].loss, 2))) == 4
    again = bbb.fit(
        jax.random.key(0),
        centred(1.0, std=1e-7),
        *data(),
        steps=4,
        optimizer=still,
        objective=bbb.train.Objective(kl_weight=0.0),
    )
    np.testing.assert_array_equal(loud[1].loss, again[1].loss)
    for trained, _ in (quiet, loud):
        band = bbb.predict(jax.random.key(1), trained, data()[0], draws=16)
        np.testing.assert_allclose(band.f.std, 0.0, atol=1e-5)
    np.testing.assert_allclose(
        *(bbb.predict(jax.random.key(1), trained, data()[0], draws=16).f.mean for trained, _ in (quiet, loud)),
        rtol=1e-5,
    )


def test_a_plain_network_is_trained_as_it_was():
    network = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))
    made = bbb.bayesianize(
        network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
    )
    forward = bbb.forwards.weight_sampling(made.apply)
    assert in_training(forward, made, jnp.asarray(data()[0])) is forward
    (posterior, _), running = trainable_of(made)
    assert running is None or not jax.tree.leaves(running)
    assert jax.tree.structure(posterior) == jax.tree.structure(made.posterior)


def test_a_models_state_is_saved(tmp_path):
    trained, _ = bbb.fit(jax.random.key(0), centred(), *data(), steps=2)
    bbb.save(tmp_path / "m", trained)
    loaded = bbb.load(tmp_path / "m", like=centred())
    assert int(loaded.posterior.mean["count"]) == 2
    np.testing.assert_array_equal(loaded.posterior.mean["mean"], trained.posterior.mean["mean"])


def test_a_bad_step_gives_back_the_state_before_it():
    x, y = data()
    with pytest.raises(bbb.errors.NonFiniteLossError) as caught:
        bbb.fit(jax.random.key(0), centred(), x, y, steps=200, optimizer=optax.sgd(10.0))
    kept = caught.value
    assert int(kept.model.posterior.mean["count"]) == kept.step - 1  # whose loss is the last finite one
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept.model.posterior))


def fails(train, error, text, state=None):
    cls = dataclasses.dataclass(frozen=True)(
        type("Bad", (Centred,), {"train": train, **({"state": state} if state else {})})
    )
    made = bbb.bayesianize(cls(), params(), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian())
    with pytest.raises(error, match=text):
        bbb.fit(jax.random.key(0), made, *data(), steps=1)


def test_a_training_mode_that_does_not_fit_is_refused():
    none = {"w": None, "mean": None, "count": None}
    fails(
        lambda s, p, x, k: (s(p, x)[:, 0], none),
        bbb.errors.ShapeError,
        r"outputs of shape \(12, 1\) in training mode too",
    )
    fails(lambda s, p, x, k: (s(p, x), {"w": None}), bbb.errors.ShapeError, "updates to have the structure of params")
    fails(
        lambda s, p, x, k: (s(p, x), {**none, "mean": x}),
        bbb.errors.ShapeError,
        "updates leaf 'mean' to have the shape",
    )
    fails(
        lambda s, p, x, k: (s(p, x), {**none, "w": p["w"]}),
        bbb.errors.InputError,
        "network's state only, got one of 'w'",
    )
    fails(
        lambda s, p, x, k: 1 / 0,
        bbb.errors.ShapeError,
        "in training mode and an error from the network: division by zero",
    )
    fails(
        lambda s, p, x, k: (s(p, x) if k.sum() else x, none) if p["mean"][0] else 0,
        bbb.errors.InputError,
        "a pure function apply.*TracerBoolConversionError when it was traced in training mode",
    )


def test_batch_norm_and_dropout_of_nn_are_trained_and_saved(tmp_path):
    network = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.batch_norm(4), bbb.nn.dropout(0.5), bbb.nn.linear(4, 1))
    made = bbb.bayesianize(
        network.apply, network.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
    )
    assert [path for path in bbb.core.tree.names(made.posterior.log_std) if "running" in path] == []
    trained, _ = bbb.fit(jax.random.key(0), made, *data(), steps=3, batch_size=6)
    before, after = (m.posterior.mean[1] for m in (made, trained))
    assert not np.array_equal(before["running_mean"], after["running_mean"])
    bbb.save(tmp_path / "m", trained)
    loaded = bbb.load(tmp_path / "m")
    assert loaded.apply == trained.apply
    np.testing.assert_array_equal(loaded.posterior.mean[1]["running_var"], after["running_var"])


# The libraries' own training, with plain weights


def batch_norm_of(library):
    """Return a network with batch normalisation: what bayesianize takes, and its own training's state, as leaves."""
    x, y = (jnp.asarray(part) for part in data())

    def cost(outputs):
        return 0.5 * jnp.sum(jnp.square(outputs - y)) / STD**2

    return {"linen": _linen, "nnx": _nnx, "equinox": _equinox, "haiku": _haiku}[library](x, cost)


def _descend(params, state, step):
    """Train by plain gradient descent; `step(params, state)` gives the gradients and the new state."""
    for _ in range(STEPS):
        grads, state = step(params, state)
        params = jax.tree.map(lambda w, g: w - RATE * g, params, grads)
    return [*jax.tree.leaves(params), *jax.tree.leaves(state)]


def _linen(x, cost):
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            h = linen.BatchNorm(use_running_average=not train, momentum=0.9)(linen.Dense(3)(x))
            return linen.Dense(1)(jnp.tanh(h))

    module = Net()
    variables = module.init(jax.random.key(0), x, train=False)

    def loss(params, state):
        outputs, new = module.apply({"params": params, **state}, x, train=True, mutable=["batch_stats"])
        return cost(outputs), dict(new)

    state = {"batch_stats": variables["batch_stats"]}
    own = _descend(variables["params"], state, jax.jit(jax.grad(loss, has_aux=True)))
    return (module, variables), own, lambda mean: [mean["params"], {"batch_stats": mean["batch_stats"]}]


def _nnx(x, cost):
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(2, 3, rngs=rngs)
            self.norm = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)
            self.last = nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x):
            return self.last(jnp.tanh(self.norm(self.first(x))))

    model = Net(nnx.Rngs(0))
    definition, params, state = nnx.split(model, nnx.Param, ...)

    def loss(params, state):
        merged = nnx.merge(definition, params, jax.tree.map(lambda leaf: leaf, state))  # variables of this trace
        return cost(merged(x)), nnx.split(merged, nnx.Param, ...)[2]

    own = _descend(params, state, jax.jit(jax.grad(loss, has_aux=True)))

    def parts(mean):
        statistics = {"norm": {name: mean["norm"][name] for name in ("mean", "var")}}
        weights = {"norm": {name: mean["norm"][name] for name in ("scale", "bias")}}
        return [{"first": mean["first"], "last": mean["last"], **weights}, statistics]

    return (model,), own, parts


def _equinox(x, cost):
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        first: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        last: eqx.nn.Linear

        def __init__(self, key):
            self.first = eqx.nn.Linear(2, 3, key=key)
            self.norm = eqx.nn.BatchNorm(3, axis_name="batch", momentum=0.9, mode="batch")
            self.last = eqx.nn.Linear(3, 1, key=key)

        def __call__(self, row, state):
            h, state = self.norm(self.first(row), state)
            return self.last(jnp.tanh(h)), state

    model, state = eqx.nn.make_with_state(Net)(jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_array)
    spare = jax.tree.map(lambda leaf: leaf, state)

    def loss(params, state):
        net = eqx.combine(params, static)
        outputs, new = jax.vmap(net, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
        return cost(outputs), new

    return (model, spare), _descend(params, state, jax.jit(jax.grad(loss, has_aux=True))), list


def _haiku(x, cost):
    hk = pytest.importorskip("haiku")

    def net(x, is_training):
        h = hk.BatchNorm(True, True, 0.9)(hk.Linear(3)(x), is_training)
        return hk.Linear(1)(jnp.tanh(h))

    transformed = hk.transform_with_state(net)
    params, state = transformed.init(jax.random.key(0), x, True)

    def loss(params, state):
        outputs, new = transformed.apply(params, state, None, x, True)
        return cost(outputs), new

    return (transformed, (params, state)), _descend(params, state, jax.jit(jax.grad(loss, has_aux=True))), list


@pytest.mark.usefixtures("promote")
@pytest.mark.parametrize("library", ["linen", "nnx", "equinox", "haiku"])
def test_running_statistics_are_those_of_the_librarys_own_training(library):
    arguments, own, parts = batch_norm_of(library)
    made = bbb.bayesianize(*arguments, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(STD), std=1e-8)
    trained, _ = bbb.fit(
        jax.random.key(0),
        made,
        *data(),
        steps=STEPS,
        optimizer=optax.sgd(RATE),
        objective=bbb.train.Objective(kl_weight=0.0),
    )
    got = jax.tree.leaves(parts(trained.posterior.mean))
    moved = zip(jax.tree.leaves(parts(made.posterior.mean)), got, strict=True)
    assert sum(not np.allclose(before, after, rtol=1e-3) for before, after in moved) >= 4
    for ours, theirs in zip(got, own, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("promote")
@pytest.mark.parametrize("library", ["linen", "nnx", "equinox", "haiku"])
def test_dropout_is_for_training_alone(library):
    made = bbb.bayesianize(
        *dropout_of(library), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(STD), std=1e-8
    )
    x = jnp.ones((64, 2))
    first, second = (made.apply.train(made.posterior.mean, x, jax.random.key(seed))[0] for seed in (0, 1))
    assert len(np.unique(np.round(first, 4))) > 2  # every row has a mask of its own
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, made.apply.train(made.posterior.mean, x, jax.random.key(0))[0])
    evaluated = made.apply(made.posterior.mean, x)
    np.testing.assert_allclose(evaluated, evaluated[:1].repeat(64, 0), rtol=1e-6)
    still = optax.sgd(0.0)
    _, history = bbb.fit(
        jax.random.key(0), made, *data(), steps=4, optimizer=still, objective=bbb.train.Objective(kl_weight=0.0)
    )
    assert len(set(np.round(history.loss, 3))) == 4


def dropout_of(library):
    """Return a network with dropout, as bayesianize takes it."""
    x = jnp.ones((4, 2))
    if library == "linen":
        linen = pytest.importorskip("flax.linen")

        class Net(linen.Module):
            @linen.compact
            def __call__(self, x, deterministic):
                return linen.Dense(1)(linen.Dropout(0.5, deterministic=deterministic)(linen.Dense(8)(x)))

        return Net(), Net().init(jax.random.key(0), x, deterministic=True)
    if library == "nnx":
        nnx = pytest.importorskip("flax.nnx")
        rngs = nnx.Rngs(0)
        return (nnx.Sequential(nnx.Linear(2, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)),)
    if library == "equinox":
        eqx = pytest.importorskip("equinox")
        key = jax.random.key(0)
        layers = [eqx.nn.Linear(2, 8, key=key), eqx.nn.Dropout(0.5), eqx.nn.Linear(8, 1, key=key)]
        return (eqx.nn.Sequential(layers),)
    hk = pytest.importorskip("haiku")

    def net(x, is_training):
        h = hk.Linear(8)(x)
        return hk.Linear(1)(hk.dropout(hk.next_rng_key(), 0.5, h) if is_training else h)

    transformed = hk.transform(net)
    return transformed, transformed.init(jax.random.key(0), x, False)
