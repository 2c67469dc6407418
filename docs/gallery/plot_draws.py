"""
What a draw is worth
====================
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import LINES

task = bbb.tasks.regression(seed=0)
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.relu, bbb.nn.linear(20, 1))
params, noise = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.5, learn=True)
prior = bbb.priors.Normal(0.0, 3.0)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
model, _ = bbb.fit(jax.random.key(1), model, task.x, task.y, progress=False)
x = task.x_test[::10]
exact = bbb.predict(jax.random.key(2), model, x, method="moments").f


def error(draws, sampling):
    keys = jax.random.split(jax.random.key(3), 4)
    how = {"draws": int(draws), "sampling": sampling}
    found = [bbb.predict(key, model, x, **how).f.mean for key in keys]
    return np.sqrt(np.mean(((found - exact.mean) / exact.std) ** 2))


counts = 2 ** np.arange(8, 15, 2)
errors = {way: [error(n, way) for n in counts] for way in ("independent", "antithetic", "sobol")}

figure, ax = plt.subplots(figsize=(6, 4.2), dpi=200, layout="constrained")
for (way, found), (color, dashes), marker in zip(errors.items(), LINES, "os^", strict=False):
    ax.loglog(counts, found, color=color, linestyle=dashes, marker=marker, label=way)
    print(way, found)
ax.set(title="What a draw is worth", xlabel="draws of the weights", ylabel="error of the mean, sd of the function")
ax.legend(frameon=False)
plt.show()
