"""A network of equinox, with batch normalisation: a model and its state."""

import equinox as eqx
import jax

import bbb


class Network(eqx.Module):
    """Two layers, with batch normalisation between them."""

    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    last: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.hidden = eqx.nn.Linear(1, 8, key=keys[0])
        self.norm = eqx.nn.BatchNorm(8, axis_name="batch", mode="batch")
        self.last = eqx.nn.Linear(8, 1, key=keys[1])

    def __call__(self, x, state):  # of one row, as usual in equinox
        """Return the outputs."""
        x, state = self.norm(jax.nn.relu(self.hidden(x)), state)
        return self.last(x), state


task = bbb.tasks.regression(seed=0)
network, state = eqx.nn.make_with_state(Network)(jax.random.key(0))
prior, noise = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Gaussian(0.5, learn=True)
model = bbb.bayesianize(network, state, prior=prior, likelihood=noise)
model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=100, progress=False)
band = bbb.predict(jax.random.key(2), model, task.x_test, draws=100)

network, state = bbb.networks.adapters.restore(model, model.posterior.mean)
network = eqx.nn.inference_mode(network)
batched = jax.vmap(network, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
outputs, _ = batched(task.x_test, state)
