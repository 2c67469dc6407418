"""A network of flax.nnx, with batch normalisation and dropout."""

import jax
from flax import nnx

import bbb


class Network(nnx.Module):
    """Two layers, with batch normalisation and dropout between them."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(1, 8, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        """Return the outputs."""
        return self.last(self.drop(self.norm(nnx.relu(self.hidden(x)))))


task = bbb.tasks.regression(seed=0)
prior, noise = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Gaussian(0.5, learn=True)
model = bbb.bayesianize(Network(nnx.Rngs(0)), prior=prior, likelihood=noise)
model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=100, progress=False)
band = bbb.predict(jax.random.key(2), model, task.x_test, draws=100)

network = bbb.networks.adapters.restore(model, model.posterior.mean)  # a new Network
network.eval()
outputs = network(task.x_test)
