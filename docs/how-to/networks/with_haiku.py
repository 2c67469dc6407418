"""A network of haiku, with batch normalisation: params and a state."""

import haiku as hk
import jax

import bbb


def forward(x, is_training=False):
    """Return the outputs."""
    x = jax.nn.relu(hk.Linear(8)(x))
    x = hk.BatchNorm(True, True, 0.9)(x, is_training)
    return hk.Linear(1)(x)


task = bbb.tasks.regression(seed=0)
transformed = hk.transform_with_state(forward)
params, state = transformed.init(jax.random.key(0), task.x, is_training=True)
prior, noise = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Gaussian(0.5, learn=True)
model = bbb.bayesianize(transformed, (params, state), prior=prior, likelihood=noise)
model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=100, progress=False)
band = bbb.predict(jax.random.key(2), model, task.x_test, draws=100)

params, state = bbb.networks.adapters.restore(model, model.posterior.mean)
outputs, _ = transformed.apply(params, state, None, task.x_test)
