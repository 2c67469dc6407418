"""
A search for the highest point
==============================

Which x gives the largest y, if every answer is expensive? Three were measured. A band
of 95 % says where y could still be larger, and the next question (dotted line) is
where the expected improvement on the best so far is largest. Each answer changes the
band. The first two questions go to the wide parts, and the fourth to the top of the
true curve (dashed), which the network does not know.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, DOTS, MEAN, TARGET

x = np.linspace(-2, 2, 161)[:, None]
y = np.sin(3 * x) + x / 2
network = bbb.nn.sequential(bbb.nn.linear(1, 30), bbb.nn.tanh, bbb.nn.linear(30, 1))
params, noise = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.05)
prior = bbb.priors.Normal(0.0, 3.0)
start = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(start.apply))
rows, shown = [10, 80, 150], []
for key in jax.random.split(jax.random.key(1), 6):
    # What was not measured counts 0 times.
    measured = {"sample_weight": np.bincount(rows, minlength=len(x))}
    how = {"objective": at_mean, "progress": False} | measured
    model = bbb.laplace(key, bbb.fit(key, start, x, y, **how)[0], x, y, **measured)
    gain = bbb.decide.expected_improvement(key, model, x, best=y[rows].max())
    shown.append((rows, bbb.predict(key, model, x).f.interval(0.95), gain.argmax()))
    rows = [*rows, int(gain.argmax())]

style = {"figsize": (6, 4.2), "dpi": 200, "sharex": True, "sharey": True}
figure, panels = plt.subplots(2, 3, layout="constrained", **style)
for i, (ax, (known, ends, chosen)) in enumerate(zip(panels.flat, shown, strict=True)):
    ax.fill_between(x[:, 0], *np.hstack(ends).T, color=BAND, alpha=0.5, linewidth=0)
    ax.plot(x, y, "--", color=TARGET)
    ax.plot(x[known], y[known], "o", color=DATA, **DOTS)
    ax.axvline(x[chosen], color=MEAN, linestyle=":")
    ax.set(title=f"question {i + 1}", ylim=(-3, 3))
figure.suptitle("A search for the highest point")
plt.show()
