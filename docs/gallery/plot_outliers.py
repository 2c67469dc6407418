"""
One row in six is wrong
=======================

The same network learned the same rows twice, of which one in six was moved upwards.
Under Gaussian noise the wrong rows pull the mean towards them, and the noise that is
learned is so large that the true curve (dashed) is lost. Student's t has long tails:
a row far away is not that improbable under it, and does not have to be explained by
the curve. The bands are two standard deviations of the function.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, DOTS, MEAN, TARGET

rng, grid = np.random.default_rng(1), np.linspace(-2, 2, 161)[:, None]
x = rng.uniform(-2, 2, (90, 1))
y = np.sin(2 * x) + 0.1 * rng.normal(size=x.shape)
y[::6] += rng.uniform(1, 3, (15, 1))
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
params, prior = network.init(jax.random.key(0)), bbb.priors.Normal(0.0, 1.0)
objective = bbb.train.Objective(forward=bbb.forwards.local_reparam(network.apply))
how = {"steps": 3_000, "objective": objective, "progress": False}
found = {"Gaussian noise": bbb.likelihoods.Gaussian(0.5, learn=True)}
found["Student's t noise"] = bbb.likelihoods.StudentT(0.5, 3.0, learn=True)
for name, noise in found.items():
    model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
    model, _ = bbb.fit(jax.random.key(1), model, x, y, **how)
    found[name] = bbb.predict(jax.random.key(2), model, grid, draws=1_000).f

style = {"figsize": (6, 4), "dpi": 200, "sharey": True, "layout": "constrained"}
figure, panels = plt.subplots(1, 2, **style)
for ax, (name, f) in zip(panels, found.items(), strict=True):
    ends = np.hstack(f.sigma_interval(2)).T
    ax.fill_between(grid[:, 0], *ends, color=BAND, alpha=0.6, linewidth=0)
    ax.plot(x, y, "o", color=DATA, **DOTS, zorder=1)
    ax.plot(grid, np.sin(2 * grid), "--", color=TARGET)
    ax.plot(grid, f.mean, color=MEAN)
    ax.set(title=name, xlabel="x")
figure.suptitle("One row in six is wrong: two kinds of noise")
plt.show()
