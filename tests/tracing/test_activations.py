"""The memory that a network's own arrays take is counted from its trace, and said before anything is made."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.tracing.memory import activation_bytes

KEY = jax.random.key(0)


def pooled(padding):
    """Make a convolution whose outputs are small and whose hidden array is not."""
    layer = bbb.nn.conv(1, 1, 3, padding=padding)
    return layer.init(KEY), lambda params, x: jnp.mean(layer.apply(params, x), axis=(2, 3))


def model_of(padding):
    params, apply = pooled(padding)
    return bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian())


X, Y = np.ones((4, 1, 8, 8)), np.ones((4, 1))


def test_a_product_counts_what_it_makes_and_elementwise_steps_work_in_place():
    def network(w, x):
        return (jnp.tanh(x @ w) + 1.0) * 2.0

    assert activation_bytes(network, jnp.ones((3, 50)), jnp.ones((64, 3))) == 64 * 50 * 4


def test_two_arrays_that_are_needed_together_count_twice():
    def network(w, x):
        hidden = x @ w
        return hidden @ jnp.ones((50, 50)) + hidden

    expected = 2 * 64 * 50 * 4 + 50 * 50 * 4  # and the matrix of ones, which a product needs whole
    assert activation_bytes(network, jnp.ones((3, 50)), jnp.ones((64, 3))) == expected


def test_a_loops_body_counts_once_however_often_it_runs():
    def network(w, x):
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, length=100)[0]

    found = activation_bytes(network, jnp.ones((50, 50)), jnp.ones((64, 50)))
    assert 64 * 50 * 4 <= found <= 3 * 64 * 50 * 4


def test_the_count_is_near_the_compilers():
    network = bbb.nn.sequential(bbb.nn.linear(13, 400), bbb.nn.relu, bbb.nn.linear(400, 400), bbb.nn.relu)
    params, x = network.init(KEY), jnp.ones((64, 13))
    memory = jax.jit(network.apply).lower(params, x).compile().memory_analysis()
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes
    assert needed / 1.5 <= activation_bytes(network.apply, params, x) <= 3 * needed


@pytest.mark.parametrize("padding", [3_000, 300_000_000])
@pytest.mark.parametrize("verb", [bbb.predict, bbb.draws])
def test_a_small_network_of_giant_arrays_is_refused_before_they_are_made(verb, padding):
    message = r"memory of at least [\d,]+ bytes for 2 draws of a network of 10 weights, whose activations take [\d,]+"
    with pytest.raises(
        bbb.errors.InputError, match=message + r", got 512,000,000\. Pass more memory, or a network of smaller"
    ):
        verb(KEY, model_of(padding), X, draws=2)


def test_what_fits_the_memory_is_computed():
    assert bbb.predict(KEY, model_of(10), X, draws=2).f.mean.shape == (4, 1)


def test_training_refuses_what_the_machine_cannot_hold():
    message = r"a step that fits into [\d,]+ bytes of memory, got at least [\d,]+ bytes .* of 4 rows\. P"
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.fit(KEY, model_of(300_000_000), X, Y, steps=1, optimizer=optax.sgd(0.0))
