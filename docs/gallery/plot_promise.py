"""
An interval that holds what it promises
=======================================

This model is wrong: it believes that the noise is the same everywhere, and small. Its
own interval (lines) promises nine observations of ten, and holds fewer than half of
the new ones. A thousand rows that it was not trained on say by how much to widen it.
The calibrated interval (band) holds nine of ten, and keeps its promise at every
level. It is a promise about all rows together: this band is still too wide on the
left and too narrow on the right.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, MEAN

rng, levels = np.random.default_rng(2), np.arange(1, 10) / 10
x = np.concatenate([rng.uniform(-2, 2, 1500), np.linspace(-2, 2, 2500)])[:, None]
y = np.sin(2 * x) + 0.1 * np.exp(0.6 * (x + 2)) * rng.standard_normal(x.shape)
(x, x_held, new), (y, y_held, seen) = (np.split(all_, [500, 1500]) for all_ in (x, y))
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
params, prior = network.init(jax.random.key(0)), bbb.priors.Normal(0.0, 1.0)
wrong = bbb.likelihoods.Gaussian(0.1)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=wrong)
model, _ = bbb.fit(jax.random.key(1), model, x, y, progress=False)
key, how = jax.random.key(2), {"levels": tuple(levels), "method": "moments"}
own = bbb.predict(key, model, new, **how).y.interval
mended = bbb.conformal(key, model, x_held, y_held, **how).interval
of_own = [bbb.metrics.coverage(seen, *own(p)) for p in levels]
of_mended = [bbb.metrics.coverage(seen, *mended(new, p)) for p in levels]

figure, (left, right) = plt.subplots(1, 2, figsize=(6, 4), dpi=200, layout="tight")
left.plot(new, seen, ".", color=DATA, markersize=1.5)
left.fill_between(new[:, 0], *np.hstack(mended(new, 0.9)).T, color=BAND, alpha=0.5)
left.plot(new, np.hstack(own(0.9)), color=MEAN)
right.plot((0, 1), (0, 1), "k:", label="promised")
right.plot(levels, of_own, "o-", color=MEAN, label="its own")
right.plot(levels, of_mended, "s-", color=BAND, label="calibrated")
right.set(xlabel="promised", ylabel="share of new observations inside")
right.legend(frameon=False)
figure.suptitle("A wrong interval, and one that holds what it promises")
plt.show()
