"""
Counts, and how far they scatter
================================
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import DATA

rng = np.random.default_rng(0)
day = np.arange(1, 366)[:, None]
season = 25 * np.exp(-np.cos(2 * np.pi * (day - 20) / 365) * 1.2)
rented = rng.negative_binomial(6, 6 / (6 + season))
x = (day - 183) / 100
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
params = network.init(jax.random.key(0))
noise, prior = bbb.likelihoods.NegativeBinomial(0.5, learn=True), bbb.priors.Normal(0.0, 1.0)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
objective = bbb.train.Objective(forward=bbb.forwards.local_reparam(model.apply))
how = {"steps": 3_000, "objective": objective, "progress": False}
model, _ = bbb.fit(jax.random.key(1), model, x, rented, **how)
made = bbb.predict(jax.random.key(2), model, x, draws=300, levels=(.5, .8, .95), quantiles=(.5,))

figure, ax = plt.subplots(figsize=(6, 4.2), dpi=200, layout="constrained")
bbb.plots.fan(day, made.y, data=(day, rented), ax=ax)
ax.set(title="Counts", xlabel="day of the year", ylabel="bicycles rented")
plt.show()
