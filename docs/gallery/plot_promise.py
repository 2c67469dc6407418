"""
An interval that holds what it promises
=======================================

This model is wrong: it believes that the noise is the same everywhere, and small. Its
own interval (lines) promises nine observations of ten, and holds fewer than half of the
new ones. A thousand rows that it was not trained on say by how much to widen it. The
calibrated interval (band) holds nine of ten, and keeps its promise at every level. It is
a promise about all rows together: this band is still too wide on the left and too narrow
on the right.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, MEAN

rng, levels = np.random.default_rng(2), np.arange(1, 10) / 10
x = rng.uniform(-2, 2, (4000, 1))
x[1500:].sort(axis=0)
y = np.sin(2 * x) + 0.1 * np.exp(0.6 * (x + 2)) * rng.standard_normal(x.shape)
learned, held, new = np.split(np.arange(4000), [500, 1500])
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
params, wrong = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.1)
prior = bbb.priors.Normal(0.0, 1.0)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=wrong)
model, _ = bbb.fit(jax.random.key(1), model, x[learned], y[learned], progress=False)
how = {"levels": tuple(levels), "method": "moments"}
repaired = bbb.conformal(jax.random.key(2), model, x[held], y[held], **how)
own = bbb.predict(jax.random.key(2), model, x[new], **how).y
shares = {"its own": [own.interval(level) for level in levels]}
shares["calibrated"] = [repaired.interval(x[new], level) for level in levels]

figure, (left, right) = plt.subplots(1, 2, figsize=(6, 4), dpi=200, layout="constrained")
left.plot(x[new], y[new], ".", color=DATA, markersize=1.5)
ends = (end[:, 0] for end in shares["calibrated"][-1])
left.fill_between(x[new, 0], *ends, color=BAND, alpha=0.5, linewidth=0)
left.plot(x[new], np.hstack(shares["its own"][-1]), color=MEAN)
left.set(xlabel="x", ylabel="y")
right.plot((0, 100), (0, 100), "k:", label="promised")
for (name, ends), style in zip(shares.items(), (MEAN, BAND), strict=True):
    inside = [100 * bbb.metrics.coverage(y[new], *pair) for pair in ends]
    right.plot(100 * levels, inside, "o-", color=style, label=name)
right.set(xlabel="promised, %", ylabel="of new observations inside, %")
right.legend(frameon=False)
figure.suptitle("An interval that holds what it promises")
plt.show()
