"""A network of flax.linen, with batch normalisation and dropout."""

import flax.linen as nn
import jax

import bbb


class Network(nn.Module):
    """Two layers, with batch normalisation and dropout between them."""

    @nn.compact
    def __call__(self, x, train=False):
        """Return the outputs."""
        x = nn.relu(nn.Dense(8)(x))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(1)(nn.Dropout(0.1, deterministic=not train)(x))


task = bbb.tasks.regression(seed=0)
module = Network()
variables = module.init(jax.random.key(0), task.x)
prior, noise = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Gaussian(0.5, learn=True)
model = bbb.bayesianize(module, variables, prior=prior, likelihood=noise)
model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=100, progress=False)
band = bbb.predict(jax.random.key(2), model, task.x_test, draws=100)

variables = bbb.networks.adapters.restore(model, model.posterior.mean)
outputs = module.apply(variables, task.x_test)  # of the network at the mean weights
