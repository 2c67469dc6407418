"""One network, written with every library: the same draws from the same noise, training, and the way back."""

import contextlib
import functools
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.core.tree import names
from bbb.networks import adapters
from tests import ROOT

HIDDEN, CHANNELS, SIDE, CLASSES = 8, 4, 5, 2
LIBRARIES = ["plain", "nn", "linen", "nnx", "equinox", "haiku"]
FORWARDS = ["weight_sampling", "local_reparam", "flipout"]


@pytest.fixture(autouse=True)
def _the_libraries_promote():
    """Let flax and haiku mix dtypes and ranks, as they do inside their layers."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Case(NamedTuple):
    """A network of some library, what `bayesianize` takes of it, and where the plain network's arrays are in it."""

    arguments: tuple[Any, ...]
    paths: dict[str, tuple[str, Any]]  # path: the plain network's leaf, and how its axes lie here
    axes: tuple[int, ...] | None = None  # how the axes of x lie here


def plain_mlp(params, x):
    return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def plain_cnn(params, x):
    h = jax.lax.conv_general_dilated(x, params["w1"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.mean(jax.nn.relu(h + params["b1"]), axis=(1, 2)) @ params["w2"] + params["b2"]


def plain_params(network, dtype="float32"):
    rng = np.random.default_rng(0)
    first = (3, HIDDEN) if network == "mlp" else (3, 3, 1, CHANNELS)
    shapes = {"w1": first, "b1": first[-1:], "w2": (first[-1], CLASSES), "b2": (CLASSES,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def data(network, dtype="float32", rows=6):
    shape = (rows, 3) if network == "mlp" else (rows, SIDE, SIDE, 1)
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


def same(w):
    return w


def turned(w):
    return w.T


def outwards(w):
    return w.transpose(3, 2, 0, 1)


def spatial(b):
    return b.reshape(-1, 1, 1)


def plain(network):
    apply = plain_mlp if network == "mlp" else plain_cnn
    return Case((apply, plain_params(network)), {name: (name, same) for name in ("w1", "b1", "w2", "b2")})


def nn(network):
    if network == "mlp":
        layers = bbb.nn.sequential(bbb.nn.linear(3, HIDDEN), bbb.nn.tanh, bbb.nn.linear(HIDDEN, CLASSES))
        paths = {"0/weight": ("w1", turned), "0/bias": ("b1", same), "2/weight": ("w2", turned), "2/bias": ("b2", same)}
        return Case((layers.apply, layers.init(jax.random.key(0))), paths)
    conv = bbb.nn.conv(1, CHANNELS, 3, padding="same")
    layers = bbb.nn.sequential(
        conv, bbb.nn.relu, bbb.nn.avg_pool(SIDE), bbb.nn.flatten, bbb.nn.linear(CHANNELS, CLASSES)
    )
    paths = {"0/weight": ("w1", outwards), "0/bias": ("b1", same), "4/weight": ("w2", turned), "4/bias": ("b2", same)}
    return Case((layers.apply, layers.init(jax.random.key(0))), paths, (0, 3, 1, 2))


def linen(network):
    linen = pytest.importorskip("flax.linen")

    class MLP(linen.Module):
        @linen.compact
        def __call__(self, x):
            h = jnp.tanh(linen.Dense(HIDDEN)(x))
            return linen.Dense(CLASSES)(h)

    class CNN(linen.Module):
        @linen.compact
        def __call__(self, x):
            h = jax.nn.relu(linen.Conv(CHANNELS, (3, 3))(x))
            return linen.Dense(CLASSES)(jnp.mean(h, axis=(1, 2)))

    module, layers = (MLP(), ("Dense_0", "Dense_1")) if network == "mlp" else (CNN(), ("Conv_0", "Dense_0"))
    variables = module.init(jax.random.key(0), data(network))
    kinds = {"kernel": "w", "bias": "b"}
    paths = {f"params/{layer}/{k}": (f"{v}{i}", same) for i, layer in enumerate(layers, 1) for k, v in kinds.items()}
    return Case((module, variables), paths)


def nnx(network):
    nnx = pytest.importorskip("flax.nnx")

    class MLP(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, HIDDEN, rngs=rngs)
            self.last = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.last(jnp.tanh(self.first(x)))

    class CNN(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(1, CHANNELS, (3, 3), rngs=rngs)
            self.last = nnx.Linear(CHANNELS, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.last(jnp.mean(jax.nn.relu(self.first(x)), axis=(1, 2)))

    kinds = {"kernel": "w", "bias": "b"}
    paths = {f"{layer}/{k}": (f"{v}{i}", same) for i, layer in ((1, "first"), (2, "last")) for k, v in kinds.items()}
    return Case(((MLP if network == "mlp" else CNN)(nnx.Rngs(0)),), paths)


def equinox(network):
    eqx = pytest.importorskip("equinox")

    class MLP(eqx.Module):
        first: eqx.nn.Linear
        last: eqx.nn.Linear

        def __call__(self, row):
            return self.last(jnp.tanh(self.first(row)))

    class CNN(eqx.Module):
        first: eqx.nn.Conv2d
        last: eqx.nn.Linear

        def __call__(self, row):
            return self.last(jnp.mean(jax.nn.relu(self.first(row.transpose(2, 0, 1))), axis=(1, 2)))

    key = jax.random.key(0)
    if network == "mlp":
        model = MLP(eqx.nn.Linear(3, HIDDEN, key=key), eqx.nn.Linear(HIDDEN, CLASSES, key=key))
        first = {"first/weight": ("w1", turned), "first/bias": ("b1", same)}
    else:
        model = CNN(eqx.nn.Conv2d(1, CHANNELS, 3, padding=1, key=key), eqx.nn.Linear(CHANNELS, CLASSES, key=key))
        first = {"first/weight": ("w1", outwards), "first/bias": ("b1", spatial)}
    return Case((model,), {**first, "last/weight": ("w2", turned), "last/bias": ("b2", same)})


def haiku(network):
    hk = pytest.importorskip("haiku")

    def mlp(x):
        h = jnp.tanh(hk.Linear(HIDDEN)(x))
        return hk.Linear(CLASSES)(h)

    def cnn(x):
        h = jax.nn.relu(hk.Conv2D(CHANNELS, 3)(x))
        return hk.Linear(CLASSES)(jnp.mean(h, axis=(1, 2)))

    transformed = hk.transform(mlp if network == "mlp" else cnn)
    layers = ("linear", "linear_1") if network == "mlp" else ("conv2_d", "linear")
    paths = {f"{layer}/{kind}": (f"{kind}{i}", same) for i, layer in enumerate(layers, 1) for kind in "wb"}
    return Case((transformed, transformed.init(jax.random.key(0), data(network))), paths)


MAKERS = {"plain": plain, "nn": nn, "linen": linen, "nnx": nnx, "equinox": equinox, "haiku": haiku}
OTHERS = [("mlp", "float64"), ("cnn", "float32")]
every_library = pytest.mark.parametrize("library", LIBRARIES)


@functools.cache
def case_of(library, network):
    """Return the network of a library in float32, made once: nothing changes it in place."""
    with jax.enable_x64(False):
        return MAKERS[library](network)


def model_of(case, **options):
    options = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5), **options}
    return bbb.bayesianize(*case.arguments, **options)


def placed(like, case, values):
    """Arrange the plain network's values as the library's tree has them."""
    leaves = [case.paths[path][1](values[case.paths[path][0]]) for path in names(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def rows(case, x):
    return x if case.axes is None else x.transpose(case.axes)


@every_library
@pytest.mark.parametrize(
    ("network", "dtype"),
    [("mlp", "float32"), ("cnn", "float64"), *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)],
    indirect=["dtype"],
)
def test_the_same_noise_gives_the_same_draw_in_every_library(network, library, dtype):
    case = case_of(library, network)
    means = plain_params(network, dtype)
    log_stds = {name: np.full(value.shape, np.log(0.3), dtype) for name, value in means.items()}
    noise = {name: np.random.default_rng(2).normal(size=value.shape).astype(dtype) for name, value in means.items()}
    x = jnp.asarray(data(network, dtype))
    drawn = {name: means[name] + 0.3 * noise[name] for name in means}
    expected = jax.jit(plain_mlp if network == "mlp" else plain_cnn)(drawn, x)

    model = model_of(case)
    like = model.posterior.mean
    posterior = bbb.MeanField(placed(like, case, means), placed(like, case, log_stds))
    evaluate = jax.jit(bbb.forwards.weight_sampling(model.apply).evaluate)
    got = evaluate(placed(like, case, noise), posterior, rows(case, x))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 if dtype == "float32" else 1e-10)


ADAM = optax.adam(1e-2)


def train(network, library, forward):
    case = case_of(library, network)
    model = model_of(case)
    x = data(network, rows=32)
    y = np.stack([x.reshape(32, -1).sum(1), x.reshape(32, -1)[:, 0]], axis=1) / 3
    random = getattr(bbb.forwards, forward)(model.apply)
    approximate = forward == "local_reparam" and network == "cnn"
    with pytest.warns(bbb.forwards.ApproximationWarning) if approximate else contextlib.nullcontext():
        trained, history = bbb.fit(
            jax.random.key(1),
            model,
            rows(case, x),
            y,
            steps=40,
            optimizer=ADAM,
            objective=bbb.train.Objective(forward=random),
        )
    assert np.isfinite(history.loss).all()
    assert history.loss[-5:].mean() < history.loss[:5].mean()
    assert jax.tree.structure(trained) == jax.tree.structure(model)


# Each library with one forward and one network; every forward and both networks are among them.
@pytest.mark.parametrize(
    ("library", "forward", "network"),
    list(zip(LIBRARIES, FORWARDS * 2, ["mlp", "cnn", "mlp", "cnn", "mlp", "cnn"], strict=True)),
)
def test_a_network_of_every_library_trains(library, forward, network):
    train(network, library, forward)


@pytest.mark.slow
@every_library
@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_both_networks_of_every_library_train_with_every_forward(library, forward, network):
    train(network, library, forward)


@every_library
def test_a_draw_goes_back_into_the_users_own_model(library):
    case = case_of(library, "mlp")
    model, x = model_of(case), jnp.asarray(data("mlp"))
    before = jax.tree.map(jnp.array, model.posterior.mean)
    draw = bbb.posteriors.sample(jax.random.key(3), model.posterior)
    back = adapters.restore(model, draw)
    call = {
        "plain": lambda: case.arguments[0](back, x),
        "nn": lambda: case.arguments[0](back, x),
        "linen": lambda: case.arguments[0].apply(back, x),
        "nnx": lambda: back(x),
        "equinox": lambda: jax.vmap(back)(x),
        "haiku": lambda: case.arguments[0].apply(back, None, x),
    }[library]
    np.testing.assert_allclose(call(), model.apply(draw, x), rtol=1e-6)
    expected = type(case.arguments[0]) if library in ("nnx", "equinox") else type(draw)
    assert type(back) is expected
    for old, now in zip(jax.tree.leaves(before), jax.tree.leaves(model_of(case).posterior.mean), strict=True):
        np.testing.assert_array_equal(old, now)  # nothing was changed in place


@every_library
def test_a_tree_that_does_not_fit_is_not_restored(library):
    model = model_of(case_of(library, "mlp"))
    with pytest.raises(bbb.errors.ShapeError, match="params to have the structure of the model"):
        adapters.restore(model, {"other": jnp.ones(3)})


@every_library
def test_the_same_network_adapted_twice_compiles_once(library):
    case = case_of(library, "mlp")
    first, second = model_of(case), model_of(case)
    assert first.apply == second.apply
    assert hash(first.apply) == hash(second.apply)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    traces = []
    compiled = jax.jit(lambda m, x: traces.append(1) or m.apply(m.posterior.mean, x))
    np.testing.assert_array_equal(compiled(first, data("mlp")), compiled(second, data("mlp")))
    assert len(traces) == 1


@every_library
def test_a_model_of_every_library_is_saved_and_loaded_by_like(tmp_path, library):
    model = model_of(case_of(library, "cnn"), std=0.1)
    bbb.save(tmp_path / "m", model)
    loaded = bbb.load(tmp_path / "m", like=model_of(case_of(library, "cnn")))
    for saved, got in zip(jax.tree.leaves(model), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(saved, got)


@pytest.mark.parametrize("library", LIBRARIES[2:])
def test_where_finds_leaves_by_the_libraries_own_names(library):
    name = {"equinox": "weight", "haiku": "w"}.get(library, "kernel")
    case = case_of(library, "mlp")
    made = model_of(case, where=name)
    assert len(jax.tree.leaves(made.posterior.log_std)) == 2
    assert all(path.endswith(f"/{name}") for path in names(made.posterior.log_std))


def test_an_equinox_model_that_holds_none_is_run_by_every_forward_and_trained():
    eqx = pytest.importorskip("equinox")
    network = eqx.nn.Linear(3, CLASSES, use_bias=False, key=jax.random.key(0))
    assert network.bias is None
    model = model_of(Case((network,), {}))
    key, x = jax.random.key(1), data("mlp")
    forwards = [getattr(bbb.forwards, forward)(model.apply) for forward in FORWARDS]
    certain = bbb.MeanField(model.posterior.mean, jax.tree.map(lambda s: s - 30, model.posterior.log_std))
    for outputs in jax.jit(lambda q, x: [random(key, q, x) for random in forwards])(certain, x):
        np.testing.assert_allclose(outputs, x @ network.weight.T, rtol=1e-5, atol=1e-6)
    trained, _ = bbb.fit(
        key, model, x, x[:, :CLASSES], steps=3, optimizer=ADAM, objective=bbb.train.Objective(forward=forwards[1])
    )
    back = adapters.restore(trained, trained.posterior.mean)
    assert back.bias is None
    assert not np.array_equal(back.weight, network.weight)


def test_adapters_may_be_called_by_hand():
    for library, adapter in (("linen", adapters.linen), ("haiku", adapters.haiku)):
        case = case_of(library, "mlp")
        made = bbb.bayesianize(
            *adapter(*case.arguments), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
        )
        assert made.apply == model_of(case).apply
    assert adapters.network(plain_mlp, {}) is None


def test_keyword_arguments_are_given_in_each_mode():
    linen = pytest.importorskip("flax.linen")

    class Scaled(linen.Module):
        @linen.compact
        def __call__(self, x, train, factor):
            return factor * linen.Dense(1)(x) + (100.0 if train else 0.0)

    module, x = Scaled(), jnp.ones((2, 3))
    variables = module.init(jax.random.key(0), x, train=False, factor=1.0)
    apply, params = adapters.linen(module, variables, training={"factor": 2.0}, evaluation={"factor": 3.0})
    plain = module.apply(variables, x, train=False, factor=1.0)
    np.testing.assert_allclose(apply(params, x), 3 * plain, rtol=1e-6)
    np.testing.assert_allclose(apply.train(params, x, jax.random.key(0))[0], 2 * plain + 100, rtol=1e-6)


def test_many_layers_of_nnx_keep_their_order():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Sequential(*(nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(12)))
    made = bbb.bayesianize(model, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), "float32")
    np.testing.assert_allclose(made.apply(made.posterior.mean, x), model(x), rtol=1e-6)


def test_variables_without_params_are_refused():
    case = case_of("linen", "mlp")
    with pytest.raises(
        bbb.errors.InputError, match=r"variables with a collection \"params\", got collections \['Dense_"
    ):
        bbb.bayesianize(
            case.arguments[0],
            case.arguments[1]["params"],
            prior=bbb.priors.Normal(),
            likelihood=bbb.likelihoods.Gaussian(),
        )


def test_linen_modules_with_lists_have_a_hash_and_compare_by_value():
    linen = pytest.importorskip("flax.linen")

    def model():
        inner = linen.Sequential([linen.Dense(4), linen.tanh])
        module = linen.Sequential([linen.Dense(5), linen.relu, inner, linen.Dense(1)])
        return module, module.init(jax.random.key(0), jnp.ones((1, 2)))

    x = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    (module, variables), beliefs = model(), {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian()}
    first, second = (bbb.bayesianize(*model(), **beliefs) for _ in range(2))
    assert first.apply == second.apply
    np.testing.assert_array_equal(first.apply(variables, x), module.apply(variables, x))


def test_a_network_without_a_hash_is_refused():
    linen = pytest.importorskip("flax.linen")

    class Shifted(linen.Module):
        shift: Any

        @linen.compact
        def __call__(self, x):
            return x + self.shift + self.param("b", linen.initializers.zeros, (3,))

    module = Shifted(np.ones(3))
    variables = module.init(jax.random.key(0), jnp.ones((2, 3)))
    with pytest.raises(
        bbb.errors.InputError, match=r"(?s)apply to be hashable, got a Linen that is not: .* pass a function apply"
    ):
        bbb.bayesianize(module, variables, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian())


def test_adapters_import_no_library():
    code = (
        "import sys, bbb, bbb.networks.adapters, jax.numpy as jnp\n"
        "bbb.bayesianize(lambda p, x: x * p, jnp.float32(1.0), prior=bbb.priors.Normal(),"
        " likelihood=bbb.likelihoods.Gaussian())\n"
        "print({'flax', 'equinox', 'haiku'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.stdout.strip() == "set()", run.stderr
