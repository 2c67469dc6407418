"""
A surface that fades where it is unsure
=======================================

A network learned a surface from the rows whose places are the dots on the floor.
Where there are rows, the surface is opaque. Away from them the standard deviation of
its height grows, and it fades until nothing is left. What is not drawn is what the
network does not know.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import DATA

rng, centres = np.random.default_rng(3), ((-1, 0.5), (1, -1), (0.5, 1.2))
x = np.concatenate([rng.normal(centre, 0.4, (40, 2)) for centre in centres])
y = np.sin(1.5 * x[:, :1]) * np.cos(1.5 * x[:, 1:]) + 0.05 * rng.normal(size=(120, 1))
network = bbb.nn.sequential(bbb.nn.linear(2, 40), bbb.nn.tanh, bbb.nn.linear(40, 1))
params, noise = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.05)
prior = bbb.priors.Normal(0.0, 1.0)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
model, _ = bbb.fit(jax.random.key(1), model, x, y, objective=at_mean, progress=False)
model = bbb.laplace(jax.random.key(2), model, x, y)
square = np.meshgrid(np.linspace(-2.6, 2.6, 80), np.linspace(-2.6, 2.6, 80))
f = bbb.predict(jax.random.key(3), model, np.stack(square, -1).reshape(-1, 2)).f

mean, std = f.mean.reshape(80, 80), f.std.reshape(80, 80)
colors = plt.cm.cividis(plt.Normalize(-1.1, 1.1)(mean))
colors[..., 3] = np.clip(1.1 - std / 0.35, 0, 1)
style = {"projection": "3d", "xlabel": "x₁", "ylabel": "x₂", "zlim": (-1.8, 1.2)}
figure, ax = plt.subplots(figsize=(6, 4.6), dpi=200, subplot_kw=style)
smooth = {"rcount": 80, "ccount": 80, "linewidth": 0, "antialiased": False}
ax.plot_surface(*square, mean, facecolors=colors, shade=False, **smooth)
ax.scatter(*x.T, -1.8, color=DATA, s=5)
ax.set_box_aspect((4, 4, 3), zoom=1.15)
ax.set_title("A surface that fades where it is unsure")
plt.show()
