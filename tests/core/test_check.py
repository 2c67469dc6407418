"""What a user may get wrong: every mistake is told, with what was expected, what came and what to do."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb import checks
from bbb.errors import InputError, KeyTypeError, NonFiniteInputError, ShapeError

KEY = jax.random.key(0)
X, Y = np.linspace(-1, 1, 6)[:, None], np.ones((6, 1))
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 3), bbb.nn.tanh, bbb.nn.linear(3, 1))
STATEFUL = bbb.nn.sequential(bbb.nn.linear(1, 3), bbb.nn.batch_norm(3), bbb.nn.linear(3, 1))


def model(apply=NETWORK.apply, params=None, prior=None, noise=0.5, likelihood=None, **options):
    return bbb.bayesianize(
        apply,
        NETWORK.init(KEY) if params is None else params,
        prior=bbb.priors.Normal(0.0, 1.0) if prior is None else prior,
        likelihood=likelihood or bbb.likelihoods.Gaussian(noise),
        **options,
    )


def fit(x=X, y=Y, key=KEY, made=None, **options):
    return bbb.fit(key, made or model(), x, y, **{"steps": 3, **options})


def epochs(value):
    return bbb.fit(KEY, model(), X, Y, epochs=value)


def elbo(x=X, y=Y, key=KEY, num_data=None, **options):
    return bbb.objectives.negative_elbo(key, model(), x, y, num_data, **options)


def predict(x=X, key=KEY, made=None, **options):
    return bbb.predict(key, made or model(), x, **{"draws": 4, **options})


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def normal(**options):
    return bbb.priors.Normal(**options)


def one(value=1.0):
    return {"w": jnp.asarray(value)}


BIG = 1e300  # finite, but not in float32

MISTAKES = {
    # keys
    "an old key": (lambda: fit(key=jax.random.PRNGKey(0)), KeyTypeError, "old-style uint32 key of shape (2,)"),
    "an old key to predict": (lambda: predict(key=jax.random.PRNGKey(0)), KeyTypeError, "jax.random.wrap_key_data"),
    "a NumPy key": (lambda: elbo(key=np.zeros(2, np.uint32)), KeyTypeError, "old-style uint32 key of shape (2,)"),
    "a number as key": (lambda: fit(key=0), KeyTypeError, "one typed JAX key, got int 0. Make one with jax.random.key"),
    "no key": (lambda: predict(key=None), KeyTypeError, "one typed JAX key, got NoneType None"),
    "many keys": (lambda: predict(key=jax.random.split(KEY, 3)), KeyTypeError, "got an array of (3,) keys"),
    "a key for sample": (
        lambda: bbb.posteriors.sample(3, model().posterior),
        KeyTypeError,
        "one typed JAX key, got int 3",
    ),
    # shapes of x and y
    "y without its column": (
        lambda: fit(y=Y[:, 0]),
        ShapeError,
        "y to have the shape (6, 1) of the network's outputs, got shape (6,). Pass y.reshape(-1, 1)",
    ),
    "y with two columns": (lambda: fit(y=np.ones((6, 2))), ShapeError, "got shape (6, 2). Pass y of shape (6, 1)"),
    "y for the bound": (lambda: elbo(y=Y[:, 0]), ShapeError, "Pass y.reshape(-1, 1)"),
    "y with other rows": (
        lambda: fit(y=np.ones((5, 1))),
        ShapeError,
        "y to have the 6 rows of x, got 5 rows. Pass one",
    ),
    "x with other columns": (
        lambda: fit(x=np.ones((6, 2))),
        ShapeError,
        "got x of shape (6, 2) and an error from the network",
        "Check the number of columns of x",
    ),
    "x to predict": (lambda: predict(x=np.ones((6, 2))), ShapeError, "got x of shape (6, 2) and an error from the"),
    "x without columns": (lambda: predict(x=np.ones(6)), ShapeError, "sequential takes x of shape (rows, features)"),
    "x without rows": (lambda: predict(x=np.ones((0, 1))), ShapeError, "at least one row, got shape (0, 1). Pass one"),
    "no rows to train on": (
        lambda: fit(x=X[:0], y=Y[:0]),
        ShapeError,
        "x to have a leading row axis with at least one",
    ),
    "y without rows": (lambda: fit(y=Y[:0]), ShapeError, "y to have a leading row axis with at least one row"),
    "x a number": (
        lambda: predict(x=1.0),
        ShapeError,
        "x to have a leading row axis with at least one row, got shape ()",
    ),
    "parameters of another network": (
        lambda: predict(made=model(params=bbb.nn.linear(2, 7).init(KEY))),
        ShapeError,
        "the parameters are this network's",
    ),
    # numbers in x and y
    "x a string": (lambda: predict(x="abc"), InputError, "x to be real numbers in an array, got 'abc'. Convert x to"),
    "x nothing": (lambda: predict(x=None), InputError, "x to be real numbers in an array, got None"),
    "x ragged": (lambda: predict(x=[[1.0], [1.0, 2.0]]), InputError, "x to be real numbers in an array, got [[1.0],"),
    "x of objects": (lambda: predict(x=np.array([[1.0], [None]])), InputError, "x to be real numbers in an array"),
    "x complex": (lambda: predict(x=X + 1j), InputError, "x to be real numbers in an array"),
    "x complex in JAX": (lambda: predict(x=jnp.asarray(X + 1j)), InputError, "x to be real numbers in an array"),
    "y complex in JAX": (lambda: fit(y=jnp.asarray(Y + 1j)), InputError, "y to be real numbers in an array"),
    "NaN in x": (
        lambda: fit(x=changed(X, (2, 0), np.nan)),
        NonFiniteInputError,
        "x to hold finite numbers only, got 1 that are NaN or infinite, the first at index (2, 0). Drop those rows",
    ),
    "infinity in y": (
        lambda: fit(y=changed(Y, slice(3, 5), np.inf)),
        NonFiniteInputError,
        "y to hold finite numbers only, got 2 that are NaN or infinite, the first at index (3, 0). Drop those rows",
    ),
    "NaN in a JAX x": (
        lambda: predict(x=jnp.asarray(changed(X, (4, 0), np.nan))),
        NonFiniteInputError,
        "the first at index (4, 0)",
    ),
    "y too large for float32": (
        lambda: fit(y=changed(Y, (1, 0), BIG)),
        NonFiniteInputError,
        "y in float32 to hold finite numbers only",
        "the first at index (1, 0)",
    ),
    "x too large for float32": (lambda: predict(x=X * BIG), NonFiniteInputError, "x in float32 to hold finite numbers"),
    # what the network returns
    "a tuple": (
        lambda: predict(made=model(apply=lambda _, x: (x, x))),
        ShapeError,
        "the network to return one array with the 6 rows of x, got a tuple. Make apply(params, x) return an array",
    ),
    "one number": (
        lambda: predict(made=model(apply=lambda _, x: jnp.sum(x))),
        ShapeError,
        "with the 6 rows of x, got shape ()",
    ),
    "no row axis": (
        lambda: fit(made=model(apply=lambda _, x: x[0])),
        ShapeError,
        "with the 6 rows of x, got shape (1,)",
    ),
    "columns for rows": (lambda: predict(made=model(apply=lambda _, x: x.T)), ShapeError, "got shape (1, 6)"),
    "no network": (
        lambda: model(apply=NETWORK),
        InputError,
        "apply to be a function apply(params, x), got a Sequential",
    ),
    # parameters
    "complex parameters": (
        lambda: model(params=one(np.ones(2, "complex64"))),
        InputError,
        "params leaf 'w' to be a floating-point array, got dtype complex64. Only floating-point arrays",
    ),
    "integer parameters": (
        lambda: model(params=one(np.ones(2, int))),
        InputError,
        "floating-point array, got dtype int",
    ),
    "a Python number among the parameters": (lambda: model(params={"w": 1.0}), InputError, "leaf 'w'", "got a float"),
    "empty parameters": (lambda: model(params={}), ShapeError, "params to hold at least one array, got an empty tree"),
    "NaN in the parameters": (lambda: model(params=one(np.nan)), InputError, "params leaf 'w' to be finite, got nan"),
    # the posterior
    "std 0": (lambda: model(std=0.0), InputError, "std to be finite and above 0, got 0.0. Pass a positive std"),
    "std negative": (lambda: model(std=-1.0), InputError, "std to be finite and above 0, got -1.0"),
    "std NaN": (lambda: model(std=np.nan), InputError, "std to be finite and above 0, got nan"),
    "std a string": (lambda: model(std="small"), InputError, "std to be real numbers in an array, got 'small'"),
    "std of another shape": (lambda: model(std=np.ones(5)), ShapeError, "every std to broadcast to the (3,) weights"),
    "std that is no prefix": (
        lambda: model(std=(0.1, 0.2)),
        ShapeError,
        "std to be a number or a tree that is a prefix of the parameters'",
        "Pass one std for all weights, for each layer, or for each leaf.",
    ),
    # the prior
    "prior std 0": (
        lambda: normal(std=0.0),
        InputError,
        "prior std to be finite and above 0, got 0.0. Pass a positive",
    ),
    "one prior std negative": (lambda: normal(std=(1.0, np.array([1.0, -2.0]))), InputError, "above 0, got -2.0"),
    "prior std infinite": (lambda: normal(std=np.inf), InputError, "prior std to be finite and above 0, got inf"),
    "prior mean NaN": (lambda: normal(mean=np.nan), InputError, "prior mean to be finite, got nan. Pass a finite"),
    "prior that is no prefix": (
        lambda: model(prior=normal(std=(1.0, 2.0))),
        ShapeError,
        "prior std to be a number or a tree that is a prefix of the parameters'",
        "Pass one prior std for all weights, for each layer, or for each leaf.",
    ),
    "prior of another shape": (
        lambda: model(prior=normal(mean=np.ones(5))),
        ShapeError,
        "every prior mean to broadcast",
    ),
    # the likelihood
    "noise 0": (lambda: model(noise=0.0), InputError, "noise std to be finite and above 0, got 0.0"),
    "noise negative": (lambda: model(noise=[1.0, -0.5]), InputError, "noise std to be finite and above 0, got -0.5"),
    "noise NaN": (lambda: model(noise=np.nan), InputError, "noise std to be finite and above 0, got nan"),
    "noise for two outputs of one": (lambda: fit(made=model(noise=[0.5, 0.5])), ShapeError, "noise std", "(2,)"),
    "noise for two outputs of one, to predict": (
        lambda: predict(made=model(noise=[0.5, 0.5])),
        ShapeError,
        "noise std",
        "(2,)",
    ),
    # counts and weights
    "no steps": (lambda: fit(steps=0), InputError, "steps to be a whole number of at least 1, got 0. Pass steps=1"),
    "half a step": (lambda: fit(steps=2.5), InputError, "steps to be a whole number of at least 1, got 2.5"),
    "steps True": (lambda: fit(steps=True), InputError, "steps to be a whole number of at least 1, got True"),
    "no epochs": (lambda: epochs(0), InputError, "epochs to be a whole number of at least 1, got 0"),
    "epochs True": (lambda: epochs(True), InputError, "epochs to be a whole number of at least 1, got True"),
    "steps and epochs": (lambda: fit(epochs=2), InputError, "Expected steps or epochs, got both. Pass one of them."),
    "no batch": (lambda: fit(batch_size=0), InputError, "batch_size to be a whole number of at least 1, got 0"),
    "no draws": (
        lambda: fit(objective=bbb.train.Objective(draws=0)),
        InputError,
        "draws to be a whole number of at least 1, got 0",
    ),
    "negative draws": (lambda: predict(draws=-1), InputError, "draws to be a whole number of at least 1, got -1"),
    "negative draws and a closed form": (
        lambda: predict(draws=-1, method="moments"),
        InputError,
        "draws to be a whole",
    ),
    "the maker of a forward": (
        lambda: fit(objective=bbb.train.Objective(forward=bbb.forwards.local_reparam)),
        InputError,
        "a forward of a network, got bbb.forwards.local_reparam itself. Pass bbb.forwards.local_reparam(model.apply).",
    ),
    "the name of a forward": (
        lambda: fit(objective=bbb.train.Objective(forward="flipout")),
        InputError,
        "a forward, a function, got 'flipout'.",
    ),
    "a wrapper that hides running statistics": (
        lambda: model(jax.jit(STATEFUL.apply), STATEFUL.init(KEY)),
        InputError,
        "whose state and training mode can be seen, got one inside a wrapper such as jax.jit",
    ),
    "one class": (
        lambda: fit(y=np.ones((6, 1)), made=model(likelihood=bbb.likelihoods.Bernoulli())),
        InputError,
        "one class",
    ),
    "draws True": (lambda: predict(draws=True), InputError, "draws to be a whole number of at least 1, got True"),
    "draws 1e4": (lambda: predict(draws=1e4), InputError, "draws to be a whole number of at least 1, got 10000.0"),
    "no data": (lambda: elbo(num_data=0), InputError, "num_data to be a whole number of at least 1, got 0"),
    "negative kl_weight": (
        lambda: fit(objective=bbb.train.Objective(kl_weight=-0.1)),
        InputError,
        "kl_weight to be one finite number of at least 0, got -0.1. Pass kl_weight=0 or more.",
    ),
    "kl_weight NaN": (lambda: elbo(kl_weight=np.nan), InputError, "kl_weight to be one finite number of at least 0"),
    "kl_weight an array": (
        lambda: fit(objective=bbb.train.Objective(kl_weight=np.ones(3))),
        InputError,
        "kl_weight to be one finite number",
    ),
    # levels and memory
    "level 1.5": (
        lambda: predict(levels=(1.5,)),
        InputError,
        "level to be one number inside (0, 1), got 1.5. Pass for",
    ),
    "level 0": (lambda: predict(levels=(0.0,)), InputError, "level to be one number inside (0, 1), got 0.0"),
    "level hardly below 1": (lambda: predict(levels=(1 - 1e-14,)), InputError, "that float32 can tell from 0 and 1"),
    "quantile hardly above 0": (lambda: predict(quantiles=(1e-14,)), InputError, "that float32 can tell from 0 and 1"),
    "level 95": (lambda: predict(levels=95), InputError, "level to be one number inside (0, 1), got 95"),
    "quantile 1": (
        lambda: predict(quantiles=(0.5, 1.0)),
        InputError,
        "quantile to be one number inside (0, 1), got 1.0",
    ),
    "quantile NaN": (
        lambda: predict(quantiles=(np.nan,)),
        InputError,
        "quantile to be one number inside (0, 1), got nan",
    ),
    "level in words": (lambda: predict(levels="high"), InputError, "level to be real numbers in an array, got 'high'"),
    "memory lots": (
        lambda: predict(memory="lots"),
        InputError,
        'a positive number of bytes, or a string such as "512MB" or "2GiB", got \'lots\'. Pass memory="512MB".',
    ),
    "memory 0": (lambda: predict(memory=0), InputError, "a positive number of bytes", "got 0."),
    "memory -1": (lambda: predict(memory=-1), InputError, "a positive number of bytes", "got -1."),
    "memory -1MB": (lambda: predict(memory="-1MB"), InputError, "a positive number of bytes", "got '-1MB'."),
    "memory True": (lambda: predict(memory=True), InputError, "a positive number of bytes", "got True."),
    "memory NaN": (lambda: predict(memory="nanMB"), InputError, "a positive number of bytes", "got 'nanMB'."),
    "memory too small": (
        lambda: predict(memory=10),
        InputError,
        "memory of at least",
        "Pass more memory or fewer draws",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_what_was_expected_what_came_and_what_to_do(mistake):
    act, error, *texts = MISTAKES[mistake]
    with pytest.raises(error) as caught:
        act()
    message = str(caught.value)
    assert message.startswith("Expected ")
    assert ", got " in message
    assert message.endswith((".", "by row."))
    assert "Traced" not in message
    for text in texts:
        assert text in message


ASKED_LATER = {
    "level 1.5": (lambda m: m.interval(1.5), "level to be one number inside (0, 1), got 1.5"),
    "level 0": (lambda m: m.interval(0), "level to be one number inside (0, 1), got 0"),
    "level hardly below 1": (lambda m: m.interval(1 - 1e-14), "that float32 can tell from 0 and 1"),
    "p 1": (lambda m: m.quantile(1.0), "p to be one number inside (0, 1), got 1.0"),
    "p hardly above 0": (lambda m: m.quantile(1e-14), "that float32 can tell from 0 and 1"),
    "p NaN": (lambda m: m.quantile(np.nan), "p to be one number inside (0, 1), got nan"),
    "p a string": (lambda m: m.quantile("0.5"), "p to be real numbers in an array, got '0.5'"),
    "sigmas 0": (lambda m: m.sigma_interval(0), "sigmas to be finite and above 0, got 0"),
    "sigmas negative": (lambda m: m.sigma_interval(-3.0), "sigmas to be finite and above 0, got -3.0"),
    "sigmas NaN": (lambda m: m.mcse_sigma_interval(np.nan), "sigmas to be finite and above 0, got nan"),
}


@pytest.fixture(scope="module")
def band():
    return predict()


@pytest.mark.parametrize("case", ASKED_LATER)
@pytest.mark.parametrize("which", ["f", "y"])
def test_what_cannot_be_asked_of_a_predictive_is_refused(which, case, band):
    ask, text = ASKED_LATER[case]
    with pytest.raises(InputError) as caught:
        ask(getattr(band, which))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("2GiB", 2 * 2**30),
        (" 1.5 kb ", 1500),
        ("10", 10),
        ("1e3", 1000),
        ("7B", 7),
        (123, 123),
        (np.int64(5), 5),
    ],
)
def test_memory_is_read_in_bytes(text, size):

    assert checks.memory(text) == size


def test_what_numpy_reads_as_numbers_is_taken():
    for x in ([[0.1], [0.2]], ((0.1,), (0.2,)), np.array([[0.1], [0.2]], "float16"), jnp.array([[0.1], [0.2]])):
        assert predict(x=x).f.mean.shape == (2, 1)


def test_whole_numbers_for_y_are_taken():
    _, whole = fit(y=Y.astype(int), optimizer=ADAM)
    _, real = fit(y=Y, optimizer=ADAM)
    np.testing.assert_array_equal(whole.loss, real.loss)


ADAM = optax.adam(1e-2)


@pytest.mark.parametrize("error", [InputError, KeyTypeError, ShapeError, NonFiniteInputError, bbb.errors.QuantileError])
def test_every_error_is_one_of_this_library_and_travels_between_processes(error):
    assert issubclass(error, bbb.errors.BBBError)
    assert str(pickle.loads(pickle.dumps(error("Expected a, got b. Do c.")))) == "Expected a, got b. Do c."


def test_errors_are_also_those_of_python():
    assert issubclass(InputError, ValueError)
    assert issubclass(ShapeError, InputError)
    assert issubclass(KeyTypeError, TypeError)
    assert issubclass(bbb.errors.NonFiniteLossError, ArithmeticError)


# Networks that are not functions of their parameters and x alone


def network_of(apply):
    return bbb.bayesianize(
        apply, {"w": jnp.ones((1, 1))}, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian()
    )


def counting():
    calls = []
    return lambda p, x: (calls.append(1) or x @ p["w"]) * len(calls)


def leaking():
    kept = [0.0]

    def apply(p, x):
        kept.append(x @ p["w"])
        return kept[-1] + kept[-2]

    return apply


def remembering():
    kept = {}

    def apply(p, x):
        return x @ p["w"] + kept.setdefault("first", x @ p["w"])

    return apply


IMPURE = r"Expected a network that is a pure function apply\(params, x\), got {}\. It must change nothing outside"


@pytest.mark.parametrize(
    ("apply", "got"),
    [
        (counting(), r"a different function at the second call than at the first, from `.* = mul .*` on"),
        (lambda p, x: x @ p["w"] + np.random.default_rng().normal(size=(3, 1)).astype("f4"), "a different function .*"),
        (leaking(), "UnexpectedTracerError when it was traced"),
        (remembering(), "UnexpectedTracerError when it was traced"),
        (lambda p, x: x if p["w"][0, 0] > 0 else -x, "TracerBoolConversionError when it was traced"),
        (lambda p, x: jnp.asarray(np.asarray(x)), "TracerArrayConversionError when it was traced"),
    ],
)
def test_a_network_that_is_not_pure_is_refused(apply, got):
    model, x = network_of(apply), np.ones((3, 1))
    with pytest.raises(bbb.errors.InputError, match=IMPURE.format(got)):
        bbb.predict(jax.random.key(0), model, x, draws=4)
    with pytest.raises(bbb.errors.InputError, match="pure function"):
        bbb.fit(jax.random.key(0), model, x, x, steps=1)


@pytest.mark.parametrize(
    ("apply", "got"),
    [
        (lambda p, x: "text", "a str"),
        (lambda p, x: None, "a NoneType"),
        (lambda p, x: (x @ p["w"], x), "a tuple"),
        (lambda p, x: jnp.sum(x @ p["w"]), r"shape \(\)"),
        (lambda p, x: (x @ p["w"]).T, r"shape \(1, 3\)"),
    ],
)
def test_a_network_that_gives_no_array_of_rows_is_refused(apply, got):
    text = rf"Expected the network to return one array with the 3 rows of x, got {got}\. Make apply"
    with pytest.raises(bbb.errors.ShapeError, match=text):
        bbb.predict(jax.random.key(0), network_of(apply), np.ones((3, 1)), draws=4)


def test_a_pure_network_with_constants_and_activations_is_accepted():
    shift = np.random.default_rng(0).normal(size=(1, 1)).astype("float32")
    model = network_of(lambda p, x: jax.nn.silu(jax.nn.relu(x @ p["w"]) + shift) + jax.nn.gelu(x))
    assert bbb.predict(jax.random.key(0), model, np.ones((3, 1)), draws=4).f.mean.shape == (3, 1)


def test_a_network_is_traced_again_only_for_new_shapes():
    calls = []
    model = network_of(lambda p, x: calls.append(1) or x @ p["w"])
    for rows in (3, 3, 3):
        bbb.tracing.purity.output_shape(model.apply, model.posterior.mean, np.ones((rows, 1), "float32"))
    assert len(calls) == 2
