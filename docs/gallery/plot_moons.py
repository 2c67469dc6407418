"""
Where two moons leave doubt
===========================

Circles and triangles are two classes, and the left panel has the probability of a
circle at every place. It is near one half along the whole border, but for two
reasons. Where the moons meet, the rows themselves are mixed, and the right panel is
pale: more rows would not help there. Far from all rows the networks disagree about
where the border runs, and this epistemic part of the entropy, the dark wedges, is
what more rows would remove.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from sklearn.datasets import make_moons

import bbb
from bbb.plots.style import BAND, DATA, MEAN

x, y = make_moons(150, noise=0.15, random_state=0)
first, second, last = map(bbb.nn.linear, (2, 20, 20), (20, 20, 2))
network = bbb.nn.sequential(first, bbb.nn.tanh, second, bbb.nn.tanh, last)
params, likelihood = network.init(jax.random.key(0)), bbb.likelihoods.Categorical()
prior = bbb.priors.Normal(0.0, 0.7)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=likelihood)
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
model, _ = bbb.fit(jax.random.key(1), model, x, y, objective=at_mean, progress=False)
model = bbb.laplace(jax.random.key(2), model, x, y)
square = np.meshgrid(np.linspace(-2.4, 3.4, 80), np.linspace(-2, 2.5, 80))
plane, key = np.stack(square, axis=-1).reshape(-1, 2), jax.random.key(3)
made = bbb.predict(key, model, plane, draws=300).y
doubt = ("epistemic entropy, nats", made.entropy.epistemic, ("white", BAND, MEAN))
circle = ("probability of a circle", made.probabilities[:, 0], (MEAN, "white", DATA))

figure, panels = plt.subplots(1, 2, figsize=(6, 4), dpi=200, layout="constrained")
for ax, (name, values, colors) in zip(panels, (circle, doubt), strict=True):
    shades = LinearSegmentedColormap.from_list(name, colors)
    drawn = ax.contourf(*square, values.reshape(80, 80), 20, cmap=shades)
    figure.colorbar(drawn, label=name, orientation="horizontal", ticks=[0, 0.2, 0.5, 1])
    ax.plot(*x[y == 0].T, "o", color=DATA, ms=4, mec="white", mew=0.5)
    ax.plot(*x[y == 1].T, "^", color=MEAN, ms=4, mec="white", mew=0.5)
figure.suptitle("Two moons: probability, and doubt that rows would remove")
plt.show()
