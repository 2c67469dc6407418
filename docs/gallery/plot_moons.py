"""
Where two moons leave doubt
===========================

Circles and triangles are two classes, and the left panel has the probability of a circle
at every place. It is near one half along the whole border, but for two reasons. Where
the moons meet, the rows themselves are mixed, and the right panel is pale: more rows
would not help there. Far from all rows the networks disagree about where the border
runs, and this epistemic part of the entropy, the dark wedges, is what more rows would
remove.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from sklearn.datasets import make_moons

import bbb
from bbb.plots.style import BAND, DATA, MEAN

x, y = make_moons(150, noise=0.15, random_state=0)
nn = bbb.nn
layers = nn.linear(2, 20), nn.tanh, nn.linear(20, 20), nn.tanh, nn.linear(20, 2)
network = nn.sequential(*layers)
params, likelihood = network.init(jax.random.key(0)), bbb.likelihoods.Categorical()
prior = bbb.priors.Normal(0.0, 0.7)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=likelihood)
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
how = {"steps": 1_000, "objective": at_mean, "progress": False}
model, _ = bbb.fit(jax.random.key(1), model, x, y, **how)
model = bbb.laplace(jax.random.key(2), model, x, y)
ends = (-2.4, 3.4, -2.0, 2.5)
square = np.meshgrid(np.linspace(*ends[:2], 80), np.linspace(*ends[2:], 80))
plane = np.stack(square, axis=-1).reshape(-1, 2)
made = bbb.predict(jax.random.key(3), model, plane, draws=300).y
maps = {
    "Probability of a circle": (made.probabilities[:, 0], (MEAN, "white", DATA)),
    "Epistemic entropy, nats": (made.entropy.epistemic, ("white", BAND, MEAN)),
}

style = {"figsize": (6, 4.2), "dpi": 200, "sharey": True, "layout": "constrained"}
figure, panels = plt.subplots(1, 2, **style)
for ax, (title, (values, colors)) in zip(panels, maps.items(), strict=True):
    shades = LinearSegmentedColormap.from_list(title, colors)
    drawn = ax.contourf(*square, values.reshape(80, 80), 20, cmap=shades)
    figure.colorbar(drawn, label=title, orientation="horizontal", ticks=[0, 0.2, 0.5, 1])
    for label, marker in enumerate("o^"):
        ax.plot(*x[y == label].T, f"w{marker}", color=(DATA, MEAN)[label], mec="white")
figure.suptitle("Where two moons leave doubt")
plt.show()
