"""Layers of images, sequences and statistics: each is torch's, forward and backward, alone and in a chain."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.core.jit import jit
from bbb.networks import nn
from bbb.networks.nn import kinds
from bbb.tracing import purity

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # its threads wait by spinning, which is far slower than one where other work runs too

KEY = jax.random.key(0)

CONVS = {  # our options, x; torch's are the same but for those named below
    "1d": (nn.conv(3, 4, 3, dims=1), (2, 3, 8)),
    "1d, stride, padding, dilation": (nn.conv(2, 4, 3, dims=1, stride=2, padding=3, dilation=2), (3, 2, 11)),
    "2d": (nn.conv(1, 3, 3), (2, 1, 6, 5)),
    "2d, oblong": (nn.conv(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 2, 7, 6)),
    "2d, groups": (nn.conv(4, 6, 3, groups=2, padding=1), (2, 4, 5, 5)),
    "2d, depthwise, no bias": (nn.conv(3, 3, 3, groups=3, bias=False), (2, 3, 5, 5)),
    "2d, same": (nn.conv(2, 2, (4, 3), padding="same", dilation=(1, 2)), (2, 2, 6, 7)),
    "2d, valid": (nn.conv(2, 2, 2, padding="valid"), (2, 2, 4, 4)),
    "2d, circular": (nn.conv(2, 2, 3, padding=(2, 1), padding_mode="circular"), (2, 2, 5, 4)),
    "2d, same, circular": (nn.conv(2, 2, 4, padding="same", padding_mode="circular"), (2, 2, 5, 6)),
    "2d, reflect": (nn.conv(1, 2, 3, padding=1, padding_mode="reflect"), (2, 1, 5, 4)),
    "2d, replicate": (nn.conv(1, 2, 3, padding=2, padding_mode="replicate"), (2, 1, 3, 4)),
    "3d": (nn.conv(2, 3, (2, 3, 1), dims=3, stride=(1, 2, 1), padding=(1, 1, 0)), (2, 2, 3, 5, 2)),
}
WORDS = {"2d, same": "same", "2d, valid": "valid", "2d, same, circular": "same"}


def torch_conv(name):
    layer, _ = CONVS[name]
    make = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[len(layer.kernel_size) - 1]
    return make(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=WORDS.get(name, tuple(before for before, _ in layer.padding)),
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias,
        padding_mode=layer.padding_mode,
    )


OTHERS = {  # our layer, torch's, x
    "max_pool 1d": (nn.max_pool(3, dims=1), lambda: torch.nn.MaxPool1d(3), (2, 3, 10)),
    "max_pool": (nn.max_pool(2), lambda: torch.nn.MaxPool2d(2), (2, 3, 5, 6)),
    "max_pool, overlapping": (
        nn.max_pool((3, 2), stride=(2, 1), padding=(1, 0)),
        lambda: torch.nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
        (2, 2, 6, 5),
    ),
    "max_pool 3d": (nn.max_pool(2, dims=3), lambda: torch.nn.MaxPool3d(2), (1, 2, 4, 4, 4)),
    "avg_pool 1d": (nn.avg_pool(2, dims=1, stride=1), lambda: torch.nn.AvgPool1d(2, stride=1), (2, 3, 5)),
    "avg_pool, padded": (
        nn.avg_pool(3, stride=2, padding=1),
        lambda: torch.nn.AvgPool2d(3, stride=2, padding=1),
        (2, 2, 7, 6),
    ),
    "avg_pool, without padding": (
        nn.avg_pool(3, stride=2, padding=1, count_include_pad=False),
        lambda: torch.nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        (2, 2, 7, 6),
    ),
    "avg_pool 3d": (nn.avg_pool(2, dims=3), lambda: torch.nn.AvgPool3d(2), (1, 2, 4, 4, 4)),
    "flatten": (nn.sequential(nn.flatten), torch.nn.Flatten, (2, 3, 4, 5)),
    "layer_norm": (nn.layer_norm(4), lambda: torch.nn.LayerNorm(4), (3, 5, 4)),
    "layer_norm of images": (
        nn.layer_norm((3, 4, 2), eps=1e-3, bias=False),
        lambda: torch.nn.LayerNorm((3, 4, 2), eps=1e-3, bias=False),
        (2, 3, 4, 2),
    ),
    "layer_norm, fixed": (
        nn.layer_norm(6, affine=False),
        lambda: torch.nn.LayerNorm(6, elementwise_affine=False),
        (3, 6),
    ),
    "batch_norm": (nn.batch_norm(3), lambda: torch.nn.BatchNorm1d(3), (6, 3)),
    "batch_norm of images": (nn.batch_norm(3, eps=1e-2), lambda: torch.nn.BatchNorm2d(3, eps=1e-2), (2, 3, 4, 5)),
    "batch_norm, fixed": (nn.batch_norm(3, affine=False), lambda: torch.nn.BatchNorm1d(3, affine=False), (2, 3, 4)),
    "dropout": (nn.dropout(0.3), lambda: torch.nn.Dropout(0.3), (4, 3)),
}


def filled(theirs, dtype):
    """Return torch's module, in evaluation mode, random numbers where it has any; and the same as our parameters."""
    rng = np.random.default_rng(1)
    theirs = theirs.to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for value in theirs.state_dict().values():
            if value.dtype.is_floating_point:
                value.copy_(torch.tensor(rng.uniform(0.2, 1.5, value.shape), dtype=value.dtype))
    return theirs, {name: jnp.array(value.numpy().astype(dtype)) for name, value in theirs.state_dict().items()}


def assert_equal(ours, theirs, dtype):
    size = max(np.max(np.abs(theirs), initial=0), 1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol={"float32": 1e-5, "float64": 1e-13}[dtype] * size)


def assert_same(layer, theirs, shape, dtype):
    """Compare outputs, and their gradients by parameters and by x."""
    theirs, params = filled(theirs, dtype)
    params = params or layer.init(KEY)  # an empty tuple, or one of them
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape).astype(dtype)
    tensor = torch.tensor(x, requires_grad=True)
    expected = theirs(tensor)
    direction = rng.normal(size=expected.shape).astype(dtype)
    expected.backward(torch.tensor(direction))

    def outputs(params, x):
        y = layer.apply(params, x)
        return jnp.sum(y * direction), y

    (by_params, by_x), y = jit(jax.grad(outputs, (0, 1), has_aux=True))(params, jnp.asarray(x))
    assert y.dtype == dtype
    assert y.shape == tuple(expected.shape)
    assert_equal(y, expected.detach().numpy(), dtype)
    assert_equal(by_x, tensor.grad.numpy(), dtype)
    for name, parameter in theirs.named_parameters():
        assert_equal(by_params[name], parameter.grad.numpy(), dtype)
    start = jax.eval_shape(layer.init, KEY)
    assert jax.tree.map(lambda p: (p.shape, p.dtype), params) == jax.tree.map(lambda p: (p.shape, p.dtype), start)


# float64 tells equal from nearly equal; float32, which runs the same code, is for the slow tests.
tight = pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True)


@tight
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch copies x for it
@pytest.mark.parametrize("name", CONVS)
def test_conv_is_that_of_torch(name, dtype):
    layer, shape = CONVS[name]
    assert_same(layer, torch_conv(name), shape, dtype)


@tight
@pytest.mark.parametrize("name", OTHERS)
def test_the_others_are_those_of_torch(name, dtype):
    layer, theirs, shape = OTHERS[name]
    assert_same(layer, theirs(), shape, dtype)


# Rectified images hold many equal maxima: torch sends the whole gradient to the first of them.
def test_max_pool_sends_the_gradient_to_the_first_of_equals(dtype):
    x = np.zeros((1, 1, 4, 4), dtype)
    tensor = torch.tensor(x, requires_grad=True)
    torch.nn.MaxPool2d(3, stride=1)(tensor).sum().backward()
    ours = jax.grad(lambda x: jnp.sum(nn.max_pool(3, stride=1).apply((), x)))(jnp.asarray(x))
    np.testing.assert_array_equal(ours, tensor.grad.numpy())


# --- training mode ---------------------------------------------------------------------------------------------------


@tight
@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 5)])
def test_batch_norm_trains_as_torch_does(shape, momentum, dtype):
    layer = nn.batch_norm(3, momentum=momentum)
    make = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    theirs, params = filled(make(3, momentum=momentum), dtype)
    theirs.train()
    rng = np.random.default_rng(2)
    direction = rng.normal(size=shape).astype(dtype)

    @jit
    def step(params, x):
        def outputs(params, x):
            y, updates = layer.train(params, x, KEY)
            return jnp.sum(y * direction), (y, updates)

        return jax.grad(outputs, (0, 1), has_aux=True)(params, x)

    for _ in range(3):
        x = (5 + 3 * rng.normal(size=shape)).astype(dtype)
        tensor = torch.tensor(x, requires_grad=True)
        theirs.zero_grad()
        expected = theirs(tensor)
        expected.backward(torch.tensor(direction))
        (by_params, by_x), (y, updates) = step(params, jnp.asarray(x))
        assert {name for name, update in updates.items() if update is None} == {"weight", "bias"}
        params |= {name: update for name, update in updates.items() if update is not None}
        assert_equal(y, expected.detach().numpy(), dtype)
        assert_equal(by_x, tensor.grad.numpy(), dtype)
        assert_equal(by_params["weight"], theirs.weight.grad.numpy(), dtype)
        for name, value in theirs.state_dict().items():
            assert params[name].dtype == dtype
            assert_equal(params[name], value.numpy(), dtype)


def test_no_gradient_reaches_the_running_averages():
    layer = nn.batch_norm(2)
    params, x = layer.init(KEY), jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), "float32")

    def total(params):
        y, updates = layer.train(params, x, KEY)
        return jnp.sum(y**3) + sum(jnp.sum(u) for u in jax.tree.leaves(updates))

    gradient = jit(jax.grad(total))(params)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        np.testing.assert_array_equal(gradient[name], 0.0)


def test_batch_norm_has_no_statistics_of_one_value():
    layer = nn.batch_norm(3)
    with pytest.raises(ValueError, match="more than one value of each channel"):
        layer.train(layer.init(KEY), jnp.ones((1, 3)), KEY)
    layer.train(layer.init(KEY), jnp.ones((1, 3, 2)), KEY)  # two values


def test_dropout_drops_its_share_and_keeps_the_mean(dtype):
    x = jnp.ones((100, 1000), dtype)
    y, updates = nn.dropout(0.3).train((), x, KEY)
    assert updates == ()
    assert y.dtype == dtype
    kept = np.asarray(y) != 0
    np.testing.assert_allclose(np.asarray(y)[kept], 1 / 0.7, rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.3 * 0.7 / kept.size)
    assert (nn.dropout(0.3).train((), x, jax.random.key(1))[0] != y).any()


def test_dropout_of_rate_0_changes_nothing():
    x = jnp.ones((3, 4))
    np.testing.assert_array_equal(nn.dropout(0.0).train((), x, KEY)[0], x)


# --- chains ----------------------------------------------------------------------------------------------------------


def image_network():
    """A network in both worlds, that turns between rows first and features first several times."""
    ours = nn.sequential(
        nn.conv(1, 4, 3, padding=1),
        nn.batch_norm(4),
        nn.relu,
        nn.residual(nn.conv(4, 4, 3, padding=1), nn.batch_norm(4), nn.tanh),
        nn.max_pool(2),
        nn.flatten,
        nn.relu,
        nn.sequential(nn.linear(36, 8), nn.batch_norm(8), nn.relu),
        nn.layer_norm(8),
        nn.residual(nn.linear(8, 8), nn.tanh),
        nn.linear(8, 3),
    )

    class Residual(torch.nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        Residual(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Tanh()),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.ReLU(),
        torch.nn.Sequential(torch.nn.Linear(36, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU()),
        torch.nn.LayerNorm(8),
        Residual(torch.nn.Linear(8, 8), torch.nn.Tanh()),
        torch.nn.Linear(8, 3),
    )
    return ours, theirs


def tree_of(layer, values, prefix=""):
    """Arrange torch's flat dictionary as the parameters of a network."""
    if isinstance(layer, nn.Sequential):
        return tuple(tree_of(part, values, f"{prefix}{i}.") for i, part in enumerate(layer.layers))
    return {name: values[prefix + name] for name in params} if (params := jax.eval_shape(layer.init, KEY)) else ()


def test_a_network_of_them_all_is_torchs_in_evaluation_and_in_training(dtype):
    ours, theirs = image_network()
    theirs, values = filled(theirs, dtype)
    params = tree_of(ours, values)
    x = np.random.default_rng(3).normal(size=(5, 1, 6, 6)).astype(dtype)
    assert_equal(jit(ours.apply)(params, x), theirs(torch.tensor(x)).detach().numpy(), dtype)
    y, updates = jit(ours.train)(params, x, KEY)
    theirs.train()
    assert_equal(y, theirs(torch.tensor(x)).detach().numpy(), dtype)
    assert jax.tree.structure(updates, is_leaf=lambda v: v is None) == jax.tree.structure(params)
    moved = jax.tree.map(lambda u, p: p if u is None else u, updates, params, is_leaf=lambda v: v is None)
    after = tree_of(ours, {name: value.numpy().astype(dtype) for name, value in theirs.state_dict().items()})
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(after), strict=True):
        assert_equal(a, b, dtype)


def test_a_network_says_which_of_its_leaves_are_statistics():
    ours, _ = image_network()
    params = jax.eval_shape(ours.init, KEY)
    state = ours.state(params)
    assert jax.tree.structure(state) == jax.tree.structure(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(state)]
    is_state = dict(zip(names, jax.tree.leaves(state), strict=True))
    assert sum(is_state.values()) == 3 * 3
    assert all(("running" in name or "num_batches" in name) == value for name, value in is_state.items())


PLAIN = {
    "linear": nn.linear(2, 2),
    "dense": nn.sequential(nn.linear(2, 2), nn.relu),
    "conv": nn.sequential(nn.conv(1, 1, 1), nn.max_pool(2), nn.flatten, nn.residual(nn.relu)),
}
MODAL = {
    "batch_norm": nn.batch_norm(2),
    "dropout": nn.dropout(),
    "nested": nn.sequential(nn.linear(2, 2), nn.residual(nn.sequential(nn.dropout(0.5)))),
}


@pytest.mark.parametrize("name", [*PLAIN, *MODAL])
def test_only_what_behaves_otherwise_in_training_has_a_training_mode(name):
    assert hasattr({**PLAIN, **MODAL}[name], "train") == (name in MODAL)


def test_every_layer_drops_by_its_own_key():
    network = nn.sequential(nn.residual(nn.dropout(0.5)), nn.residual(nn.dropout(0.5)))
    y, _ = network.train(network.init(KEY), jnp.ones((4, 1000)), KEY)
    assert {1.0, 3.0, 9.0} == set(np.unique(y).tolist())  # dropped by both, one, none: the masks differ


# The layout of a matrix inside a chain must change nothing but the speed.
def test_the_fast_path_of_dense_networks_turns_over_twice_in_all():
    network = nn.sequential(
        nn.linear(3, 4), nn.batch_norm(4), nn.sequential(nn.relu, nn.linear(4, 4)), nn.layer_norm(4)
    )
    jaxpr = jax.make_jaxpr(network.apply)(jax.eval_shape(network.init, KEY), jnp.ones((5, 3)))
    assert sum(equation.primitive.name == "transpose" for equation in jaxpr.eqns) == 2


def test_dense_layers_after_images_work_on_columns():
    network = nn.sequential(nn.conv(1, 2, 3), nn.flatten, nn.linear(8, 4), nn.dropout(), nn.relu, nn.linear(4, 3))
    jaxpr = jax.make_jaxpr(network.apply)(jax.eval_shape(network.init, KEY), jnp.ones((5, 1, 4, 4)))
    assert sum(equation.primitive.name == "transpose" for equation in jaxpr.eqns) == 2


def test_residual_of_elementwise_layers_takes_any_shape():
    layer = nn.residual(nn.relu)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), "float32")
    np.testing.assert_allclose(layer.apply(((),), x), x + np.maximum(x, 0))


# `fit` runs the training mode: the statistics move, and no Gaussian and no gradient touches them.
def test_fit_moves_the_statistics_and_trains_the_rest():
    network = nn.sequential(
        nn.conv(1, 2, 3), nn.batch_norm(2), nn.relu, nn.avg_pool(2), nn.flatten, nn.dropout(0.1), nn.linear(2, 1)
    )
    model = bbb.bayesianize(
        network.apply, network.init(KEY), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.1)
    )
    assert model.posterior.log_std[1]["running_mean"] is None
    assert model.posterior.log_std[1]["weight"] is not None
    x = np.random.default_rng(0).normal(size=(20, 1, 4, 4)).astype("float32")
    y = x.mean(axis=(2, 3))
    trained, history = bbb.fit(KEY, model, x, y, steps=50, progress=False)
    assert history.loss[-10:].mean() < history.loss[:10].mean()
    running = trained.posterior.mean[1]
    assert running["num_batches_tracked"] == 50
    assert (running["running_var"] != 1).all()
    sample = bbb.posteriors.sample(KEY, trained.posterior)
    np.testing.assert_array_equal(sample[1]["running_mean"], running["running_mean"])


# --- how they start --------------------------------------------------------------------------------------------------


def moments_of_uniform(sample, bound):
    """Say how many standard errors the mean and the mean square are off those of U(±bound)."""
    sample = np.float64(sample).ravel() / bound
    assert np.abs(sample).max() <= 1.0
    return max(
        abs(sample.mean()) * np.sqrt(3 * sample.size),
        abs((sample**2).mean() - 1 / 3) / np.sqrt((1 / 5 - 1 / 9) / sample.size),
    )


# torchbnn's bound forgets the groups, and all but the first size of the kernel.
def test_conv_may_start_as_in_torchbnn(dtype):
    layer = nn.conv(4, 1000, (3, 2), groups=2, init="torchbnn")
    params = layer.init(KEY)
    for leaf in (params["weight"], params["bias"]):
        assert leaf.dtype == dtype
        assert moments_of_uniform(leaf, 1 / np.sqrt(4 * 3**2)) < 5


def test_conv_starts_by_he_with_variance_2_over_fan_in(dtype):
    params = nn.conv(4, 1000, (3, 2), groups=2).init(KEY)
    weight = np.float64(params["weight"])
    fan_in = 2 * 3 * 2
    assert weight.shape == (1000, 2, 3, 2)
    assert abs((weight**2).mean() / (2 / fan_in) - 1) < 5 * np.sqrt(2 / weight.size)
    assert moments_of_uniform(params["bias"], 1 / np.sqrt(fan_in)) < 5


def test_batch_norm_starts_as_torch_or_as_torchbnn(dtype):
    start = nn.batch_norm(1000).init(KEY)
    np.testing.assert_array_equal(start["weight"], 1.0)
    weight = nn.batch_norm(1000, init="torchbnn").init(KEY)["weight"]
    assert weight.dtype == dtype
    assert weight.min() >= 0
    assert moments_of_uniform(2 * np.float64(weight) - 1, 1.0) < 5


# --- descriptions and bad input --------------------------------------------------------------------------------------

LAYERS = {
    **{name: layer for name, (layer, _) in CONVS.items()},
    **{name: layer for name, (layer, _, _) in OTHERS.items()},
    "batch_norm, average": nn.batch_norm(3, momentum=None, init="torchbnn"),
    "images": image_network()[0],
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_description_builds_the_same_layer_also_through_json(name):
    layer = LAYERS[name]
    assert kinds.build(layer.describe()) == layer
    assert kinds.build(json.loads(json.dumps(layer.describe()))) == layer
    assert hash(kinds.build(layer.describe())) == hash(layer)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.conv(0, 1, 3), "in_channels to be a whole number of at least 1"),
        (lambda: nn.conv(1, 1, 0), "kernel_size to be a whole number of at least 1, or 2 of them, got 0"),
        (lambda: nn.conv(1, 1, (3, 3), dims=1), "kernel_size to be a whole number of at least 1, or 1 of them"),
        (lambda: nn.conv(1, 1, 3, dims=4), "dims to be 1, 2 or 3, got 4"),
        (lambda: nn.conv(1, 1, 3, stride=0), "stride to be a whole number of at least 1"),
        (lambda: nn.conv(1, 1, 3, padding=-1), "padding to be a whole number of at least 0"),
        (lambda: nn.conv(1, 1, 3, padding="full"), 'padding to be "same", "valid", a number or one for each'),
        (lambda: nn.conv(1, 1, 3, padding="same", stride=2), 'stride 1 with padding="same", got 2'),
        (lambda: nn.conv(1, 1, 3, padding_mode="mirror"), "padding_mode to be one of zeros, circular, reflect"),
        (lambda: nn.conv(3, 4, 3, groups=2), "in_channels to be a multiple of the 2 groups, got 3"),
        (lambda: nn.conv(4, 3, 3, groups=2), "out_channels to be a multiple of the 2 groups, got 3"),
        (lambda: nn.conv(1, 1, 3, init="xavier"), 'init_by to be "he" or "torchbnn", got \'xavier\''),
        (lambda: nn.max_pool(2, padding=2), "padding of at most half the kernel_size"),
        (lambda: nn.avg_pool(2.0), "kernel_size to be a whole number"),
        (lambda: nn.batch_norm(0), "num_features to be a whole number of at least 1"),
        (lambda: nn.batch_norm(1, eps=0.0), "eps to be finite and above 0"),
        (lambda: nn.batch_norm(1, momentum=1.5), "momentum to be at most 1, got 1.5"),
        (lambda: nn.batch_norm(1, init="he"), 'init_by to be "ones" or "torchbnn", got \'he\''),
        (lambda: nn.layer_norm(()), "normalized_shape to be a whole number"),
        (lambda: nn.dropout(1.0), "rate to be below 1"),
        (lambda: nn.dropout(-0.1), "rate to be one finite number of at least 0"),
        (nn.residual, "at least one layer"),
        (lambda: nn.residual(jnp.tanh), "every layer to come from bbb.nn"),
        (lambda: nn.conv(1, 1, 1).init(0), "one typed JAX key"),
    ],
)
def test_layers_that_make_no_sense_are_refused(make, text):
    with pytest.raises(bbb.errors.BBBError) as caught:
        make()
    assert text in str(caught.value)


# Each is met when the network is traced, and reported before anything is computed.
@pytest.mark.parametrize(
    ("network", "x", "text"),
    [
        (nn.conv(3, 1, 3), (2, 1, 5, 5), "conv takes x of shape (rows, 3 channels, height, width), got (2, 1, 5, 5)"),
        (nn.conv(3, 1, 3, dims=1), (2, 3), "conv takes x of shape (rows, 3 channels, length), got (2, 3)"),
        (nn.conv(1, 1, 5, padding=1), (2, 1, 2, 9), "conv needs at least (5, 5) points, got (4, 11)"),
        (nn.max_pool(3), (2, 1, 2, 2), "max_pool needs at least (3, 3) points, got (2, 2)"),
        (nn.avg_pool(3), (2, 1), "avg_pool takes x of shape (rows, channels, height, width), got (2, 1)"),
        (nn.batch_norm(3), (2, 4), "batch_norm takes x of shape (rows, 3 channels, ...), got (2, 4)"),
        (nn.layer_norm(3), (2, 4), "layer_norm takes x of shape (rows, 3), got (2, 4)"),
        (nn.layer_norm((3, 2)), (2, 4, 2), "layer_norm takes x of shape (rows, ..., 3, 2), got (2, 4, 2)"),
        (nn.residual(nn.linear(2, 3)), (4, 2), "got residual layers that map"),
        (nn.affine([1.0], [1.0]), (4, 1, 2), "sequential takes x of shape (rows, features), got (4, 1, 2)"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_the_layers_name(network, x, text):
    network = nn.sequential(network, nn.relu)
    with pytest.raises(bbb.errors.ShapeError) as caught:
        purity.output_shape(network.apply, jax.eval_shape(network.init, KEY), np.ones(x, "float32"))
    assert "Expected parameters and an x that the network accepts" in str(caught.value)
    assert text in str(caught.value)
