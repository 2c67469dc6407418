"""
Three answers to a gap
======================
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

import bbb
from bbb.plots.style import BAND, DATA, TARGET

rng, grid = np.random.default_rng(0), np.linspace(-2, 2, 161)[:, None]
x = np.concatenate([rng.uniform(-1.6, -0.7, 40), rng.uniform(0.7, 1.6, 40)])[:, None]
curve = 0.7 * np.sin(4 * grid) + 0.4 * grid
y = 0.7 * np.sin(4 * x) + 0.4 * x + 0.1 * rng.normal(size=x.shape)
network = bbb.nn.sequential(bbb.nn.linear(1, 30), bbb.nn.tanh, bbb.nn.linear(30, 1))
params, noise = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.1)
prior = bbb.priors.Normal(0.0, 1.0)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
how = {"steps": 3_000, "progress": False, "optimizer": optax.adam(optax.cosine_decay_schedule(1e-2, 3_000))}
at_mean, local = bbb.forwards.at_mean(model.apply), bbb.forwards.local_reparam(model.apply)
independent, _ = bbb.fit(jax.random.key(1), model, x, y, objective=bbb.train.Objective(forward=local), **how)
mode, _ = bbb.fit(jax.random.key(1), model, x, y, objective=bbb.train.Objective(forward=at_mean), **how)
chains, report = bbb.mcmc.hmc(jax.random.key(3), mode, x, y, draws=100, warmup=150, steps=60)
found = {
    "Independent\nGaussians": independent,
    "Laplace": bbb.laplace(jax.random.key(2), mode, x, y),
    "Markov chains": chains,
}
bands = [bbb.predict(jax.random.key(4), one, grid, draws=1_000).f for one in found.values()]
print(report)

plt.rc("axes", titlesize="medium")
figure, panels = plt.subplots(1, 3, figsize=(6, 4), dpi=200, sharey=True, layout="constrained")
for ax, name, f in zip(panels, found, bands):
    lower, upper = f.interval(0.95)
    ax.fill_between(grid[:, 0], lower[:, 0], upper[:, 0], color=BAND, alpha=0.6, linewidth=0)
    ax.plot(grid, curve, "--", color=TARGET)
    ax.plot(x, y, ".", color=DATA, markersize=4)
    ax.set_title(name, fontsize=10)
    print(name, f.std[60:101].mean(), np.mean((lower<=curve)[56:105]&(curve<=upper)[56:105]), f.std[np.abs(np.abs(grid[:,0])-1.15)<.4].mean())
plt.show()
