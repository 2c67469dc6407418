"""
Functions before the data, and after
====================================

Each line is a whole network, with weights drawn from the prior on the left and from
the posterior on the right; a few are thick to be followed by eye. Eight observations
leave those functions that pass by them. They agree where the observations are, and
differ between and beyond them. The posterior is sampled by Markov chains.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, DOTS, MEAN

grid = np.linspace(-3, 3, 241)[:, None]
x = np.array([-2.0, -1.7, -1.2, -0.3, 0.1, 0.3, 2.0, 2.2])[:, None]
y = np.sin(2 * x)
network = bbb.nn.sequential(bbb.nn.linear(1, 30), bbb.nn.tanh, bbb.nn.linear(30, 1))
params, noise = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.05)
prior = bbb.priors.fan_in(params)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
how = {"steps": 1_500, "objective": at_mean, "progress": False}
mode, _ = bbb.fit(jax.random.key(1), model, x, y, **how)
chains, report = bbb.mcmc.hmc(jax.random.key(2), mode, x, y, steps=60, warmup=150)
models = {"Before": bbb.decide.model_checks.at_prior(model), "After": chains}
drawn = [bbb.draws(jax.random.key(3), one, grid, draws=800) for one in models.values()]

style = {"figsize": (6, 4.2), "dpi": 200, "sharey": True, "layout": "constrained"}
figure, panels = plt.subplots(1, 2, **style)
for ax, title, functions in zip(panels, models, drawn, strict=True):
    ax.plot(grid, functions[::13, :, 0].T, color=BAND, linewidth=0.7)
    ax.plot(grid, functions[::265, :, 0].T, color=MEAN, linewidth=1.5)
    ax.plot(x, y, "o", color=DATA, **DOTS | {"markersize": 6}, zorder=3)
    ax.set(title=title, xlabel="x", ylim=(-3.4, 3.4))
figure.suptitle("Functions of a network, before eight rows and after")
plt.show()
