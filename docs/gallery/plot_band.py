"""
A band of ten thousand networks
===============================
"""

import jax

import bbb

task = bbb.tasks.regression(seed=0)
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
model = bbb.bayesianize(
    network.apply,
    network.init(jax.random.key(0)),
    prior=bbb.priors.Normal(0.0, 1.0),
    likelihood=bbb.likelihoods.Gaussian(std=0.5, learn=True),
)
model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=500, progress=False)
band = bbb.predict(jax.random.key(2), model, task.x_test)
bbb.plots.band(task.x_test, band, data=(task.x, task.y))
