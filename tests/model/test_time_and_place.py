"""Networks of sequences with padding, of graphs, of images with a mask, and of two inputs and two outputs, trained.

Each has a held-out score, well above that of knowing nothing and below that of knowing all.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import bbb

KEY = jax.random.key(1)
LENGTH, WORDS = 8, 5


def sequences(rows, seed):
    """Return tokens with their mask, and whether word 1 is in them: padding is to be ignored, and full of word 1."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, WORDS, size=(rows, LENGTH)).astype(np.int32)
    mask = np.arange(LENGTH) < rng.integers(2, LENGTH + 1, size=(rows, 1))
    tokens = np.where(mask, tokens, 1)
    return {"tokens": tokens, "mask": mask}, np.any((tokens == 1) & mask, axis=1).astype(np.int32)


class Recurrent(linen.Module):
    """A GRU over words, whose last state that is not of padding says the class."""

    @linen.compact
    def __call__(self, x):
        embedded = linen.Embed(WORDS, 8)(x["tokens"])
        lengths = jnp.sum(x["mask"].astype(jnp.int32), axis=1)
        last, _ = linen.RNN(linen.GRUCell(16), return_carry=True)(embedded, seq_lengths=lengths)
        return linen.Dense(2)(last)


class Attention(eqx.Module):
    """One head of attention over the places that are there, and a mean over them."""

    embed: eqx.nn.Embedding
    places: jax.Array
    heads: eqx.nn.MultiheadAttention
    out: eqx.nn.MLP

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.embed = eqx.nn.Embedding(WORDS, 16, key=keys[0])
        self.places = 0.1 * jax.random.normal(keys[1], (LENGTH, 16))
        self.heads = eqx.nn.MultiheadAttention(2, 16, key=keys[2])
        self.out = eqx.nn.MLP(16, 2, 16, 1, key=keys[3])

    def __call__(self, x):
        """Return the logits of one row."""
        tokens, mask = x["tokens"], x["mask"]
        embedded = jax.vmap(self.embed)(tokens) + self.places
        attended = embedded + self.heads(embedded, embedded, embedded, mask=jnp.broadcast_to(mask, (LENGTH, LENGTH)))
        weights = mask.astype(attended.dtype)[:, None]
        return self.out(jnp.sum(weights * attended, axis=0) / jnp.sum(weights))


def recurrent(x):
    network = Recurrent()
    return network, network.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[:1], x))


def attention(x):
    del x
    return Attention(jax.random.key(0)), None


def log_score(probabilities, y):
    return float(np.mean(np.log(probabilities[np.arange(len(y)), y])))


@pytest.fixture(autouse=True)
def _as_users_run_it():
    """Other libraries are written for JAX's own rules of promotion."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("network", [recurrent, attention])
def test_a_network_of_padded_sequences_learns_and_padding_changes_nothing(network):
    (x, y), (test_x, test_y) = sequences(200, 0), sequences(200, 1)
    apply, params = network(x)
    model = bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Categorical())
    objective = bbb.train.Objective(kl_weight=0.05)
    model, _ = bbb.fit(KEY, model, x, y, steps=600, batch_size=50, objective=objective, progress=False)
    made = bbb.predict(jax.random.key(2), model, test_x, draws=50).y.probabilities
    assert log_score(made, test_y) > -0.3  # -0.54 for the frequency of the classes
    other = {"tokens": np.where(test_x["mask"], test_x["tokens"], 3), "mask": test_x["mask"]}
    again = bbb.predict(jax.random.key(2), model, other, draws=50).y.probabilities
    np.testing.assert_array_equal(made, again)


def test_padding_changes_no_bit_of_a_training():
    x, y = sequences(60, 0)
    other = {"tokens": np.where(x["mask"], x["tokens"], 2).astype(np.int32), "mask": x["mask"]}
    apply, params = recurrent(x)
    model = bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Categorical())
    trained = [bbb.fit(KEY, model, rows, y, steps=10, batch_size=20, progress=False)[0] for rows in (x, other)]
    jax.tree.map(np.testing.assert_array_equal, *(one.posterior for one in trained))


def masked_images(rows, seed):
    """Return images of noise with a mask, and their mean over what is seen; what is hidden is far from it."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(rows, 1))
    seen = rng.uniform(size=(rows, 1, 6, 6)) > 0.4
    pixels = np.where(seen, mean[:, :, None, None] + 0.3 * rng.normal(size=seen.shape), 9.0)
    return {"pixels": pixels.astype(np.float32), "seen": seen}, mean.astype(np.float32)


def test_a_network_of_images_with_a_mask_sees_what_is_there():
    (x, y), (test_x, test_y) = masked_images(200, 0), masked_images(200, 1)
    nn = bbb.nn
    layers = nn.sequential(nn.conv(2, 4, 3, padding="same"), nn.relu, nn.conv(4, 1, 1))

    def apply(params, x):
        seen = x["seen"].astype(x["pixels"].dtype)
        found = layers.apply(params, jnp.concatenate([seen * x["pixels"], seen], axis=1))
        return jnp.sum(seen * found, axis=(2, 3)) / jnp.sum(seen, axis=(2, 3))

    noise = bbb.likelihoods.Gaussian(0.5, learn=True)
    start = layers.init(jax.random.key(0))
    model = bbb.bayesianize(apply, start, prior=bbb.priors.Normal(), likelihood=noise)
    model, _ = bbb.fit(KEY, model, x, y, steps=800, progress=False)
    made = bbb.predict(jax.random.key(2), model, test_x, draws=100, levels=(0.95,))
    assert bbb.metrics.rmse(test_y, made.y.mean) < 0.3  # 1 for the mean of all
    assert 0.88 < bbb.metrics.coverage(test_y, *made.y.interval(0.95)) <= 1
    hidden = {"pixels": np.where(test_x["seen"], test_x["pixels"], -5).astype(np.float32), "seen": test_x["seen"]}
    again = bbb.predict(jax.random.key(2), model, hidden, draws=100)
    np.testing.assert_array_equal(made.y.mean, again.y.mean)


def test_a_network_of_a_graph_learns_from_neighbours():
    """Each node's y is the mean of its neighbours' features; half of the nodes are trained on."""
    rng = np.random.default_rng(0)
    nodes = 80
    features = rng.normal(size=(nodes, 2)).astype(np.float32)
    senders, receivers = (rng.integers(0, nodes, size=400) for _ in range(2))
    degree = np.bincount(receivers, minlength=nodes)[:, None].clip(1)
    sums = np.zeros((nodes, 2))
    np.add.at(sums, receivers, features[senders])
    y = (sums / degree)[:, :1].astype(np.float32)
    trained = np.arange(nodes) % 2 == 0
    layers = bbb.nn.sequential(bbb.nn.linear(4, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))

    def apply(params, x):
        sent, received = x["edges"].value
        gathered = jax.ops.segment_sum(x["nodes"][sent], received, num_segments=nodes) / x["degree"]
        return layers.apply(params, jnp.concatenate([x["nodes"], gathered], axis=1))

    edges = bbb.networks.Shared(np.stack([senders, receivers]))
    x = {"nodes": features, "degree": degree.astype(np.float32), "edges": edges}
    start, noise = layers.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.3, learn=True)
    model = bbb.bayesianize(apply, start, prior=bbb.priors.Normal(), likelihood=noise)
    weight = trained.astype(np.float32)  # every node sends, and those in training count
    model, _ = bbb.fit(KEY, model, x, y, sample_weight=weight, steps=800, progress=False)
    made = bbb.predict(jax.random.key(2), model, x, draws=100, rows="together")
    assert bbb.metrics.rmse(y[~trained], made.y.mean[~trained]) < 0.2 * np.std(y)


def test_a_network_of_two_inputs_and_two_outputs_learns_both():
    rng = np.random.default_rng(0)
    numbers, words = rng.normal(size=(300, 2)).astype(np.float32), rng.integers(0, 3, size=300).astype(np.int32)
    offset = np.array([-1.0, 0.0, 1.0], np.float32)[words][:, None]
    price = numbers[:, :1] + offset + 0.1 * rng.normal(size=(300, 1))
    kind = (numbers[:, 1] + offset[:, 0] > 0).astype(np.int32)
    body = bbb.nn.sequential(bbb.nn.linear(6, 12), bbb.nn.tanh, bbb.nn.linear(12, 3))

    def apply(params, x):
        embedded = params["embedding"][x["words"]]
        outputs = body.apply(params["body"], jnp.concatenate([x["numbers"], embedded], axis=1))
        return {"price": outputs[:, :1], "kind": outputs[:, 1:]}

    start = {"embedding": 0.1 * jax.random.normal(KEY, (3, 4)), "body": body.init(jax.random.key(0))}
    likelihood = {"price": bbb.likelihoods.Gaussian(0.5, learn=True), "kind": bbb.likelihoods.Categorical()}
    model = bbb.bayesianize(apply, start, prior=bbb.priors.Normal(), likelihood=likelihood)
    x, y = {"numbers": numbers, "words": words}, {"price": price, "kind": kind}
    some, rest = (jax.tree.map(lambda leaf, at=at: leaf[at], (x, y)) for at in (slice(200), slice(200, None)))
    model, _ = bbb.fit(KEY, model, *some, steps=1000, progress=False)
    made = bbb.predict(jax.random.key(2), model, rest[0], draws=100)
    assert bbb.metrics.rmse(rest[1]["price"], made["price"].y.mean) < 0.3
    assert log_score(made["kind"].y.probabilities, rest[1]["kind"]) > -0.3
