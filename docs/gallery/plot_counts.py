"""
Counts, and how far they scatter
================================

The bicycles that are rented on every other day of an invented year. A network gives
the mean of a negative binomial distribution, whose dispersion is learned with the
weights. The shades hold 50 and 95 % of the counts of a day. They widen with the mean,
so that a good day in summer surprises nobody, and they never reach below zero.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb

rng, day = np.random.default_rng(0), np.arange(1, 366, 2)[:, None]
mean = 25 * np.exp(-1.2 * np.cos(2 * np.pi * (day - 20) / 365))
rented = rng.negative_binomial(6, 6 / (6 + mean))
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
params, prior = network.init(jax.random.key(0)), bbb.priors.Normal(0.0, 1.0)
noise = bbb.likelihoods.NegativeBinomial(0.5, learn=True)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
objective = bbb.train.Objective(forward=bbb.forwards.local_reparam(model.apply))
how = {"objective": objective, "progress": False}
model, _ = bbb.fit(jax.random.key(1), model, day / 100 - 2, rented, **how)
grid = np.linspace(1, 365, 53)[:, None]
how = {"draws": 50, "levels": (0.5, 0.95), "quantiles": (0.5,)}
made = bbb.predict(jax.random.key(2), model, grid / 100 - 2, **how)

figure, ax = plt.subplots(figsize=(6, 4.2), dpi=200, layout="constrained")
bbb.plots.fan(grid, made.y, levels=(0.5, 0.95), data=(day, rented), ax=ax)
ax.set(
    title="Daily counts, and shades that hold 50 and 95 % of them",
    xlabel="day of the year",
)
ax.set(xlim=(1, 365), ylabel="bicycles rented")
ax.legend(frameon=False, loc="upper left")
plt.show()
