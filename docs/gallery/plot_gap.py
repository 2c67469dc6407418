"""
Three answers to a gap
======================

There are rows on two sides, and none between them. The bands hold 95 % of the
functions of one network, under three approximations of one posterior. Independent
Gaussians for the weights are too sure in the gap, and the true curve (dashed) leaves
their band. A Laplace posterior, with all correlations, widens there, and so do Markov
chains, which sample the posterior itself. At the rows, these two are narrower than
the first.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, TARGET

rng, grid = np.random.default_rng(0), np.linspace(-2, 2, 161)[:, None]
x = np.concatenate([rng.uniform(-1.6, -0.7, 40), rng.uniform(0.7, 1.6, 40)])[:, None]
curve, clean = (0.7 * np.sin(4 * at) + 0.4 * at for at in (grid, x))
y = clean + 0.1 * rng.normal(size=x.shape)
network = bbb.nn.sequential(bbb.nn.linear(1, 30), bbb.nn.tanh, bbb.nn.linear(30, 1))
params, noise = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.1)
prior, key = bbb.priors.Normal(0.0, 1.0), jax.random.key(1)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
local = bbb.train.Objective(forward=bbb.forwards.local_reparam(model.apply))
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
independent, _ = bbb.fit(key, model, x, y, objective=local, progress=False)
mode, _ = bbb.fit(key, model, x, y, objective=at_mean, progress=False)
chains, report = bbb.mcmc.hmc(key, mode, x, y, draws=150)
models = independent, bbb.laplace(key, mode, x, y), chains
bands = [bbb.predict(key, one, grid, draws=1_000).f.interval(0.95) for one in models]

style = {"figsize": (6, 4.2), "dpi": 200, "sharey": True, "layout": "constrained"}
figure, panels = plt.subplots(1, 3, **style)
names = "independent", "Laplace", "Markov chains"
for ax, name, ends in zip(panels, names, bands, strict=True):
    ax.fill_between(grid[:, 0], *np.hstack(ends).T, color=BAND, alpha=0.6, linewidth=0)
    ax.plot(grid, curve, "--", color=TARGET)
    ax.plot(x, y, ".", color=DATA, markersize=4)
    ax.set(title=name, xlabel="x")
figure.suptitle("Three posteriors, and a gap without rows")
plt.show()
