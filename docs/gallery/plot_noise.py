"""
What more data would mend, and what not
=======================================

The pale band holds new observations, and the dark one the function itself, at two
standard deviations each. Below, the variance of an observation is divided into its
two parts. The epistemic part is what the network does not know: it is large in the
gap, where a few rows would remove it. The aleatoric part is noise, which grows to the
right; there are plenty of rows there, and more of them would not help.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import bbb
from bbb.plots.style import BAND, DATA, DOTS, MEAN

rng, grid = np.random.default_rng(0), np.linspace(-3, 3, 201)
x = np.concatenate([rng.uniform(-2.8, -1, 40), rng.uniform(1, 2.8, 60)])[:, None]
y = np.sin(1.5 * x) + 0.15 * np.exp(0.5 * x) * rng.normal(size=x.shape)
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 2))
params, prior = network.init(jax.random.key(0)), bbb.priors.Normal(0.0, 1.0)
noise = bbb.likelihoods.HeteroscedasticGaussian()
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=noise)
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
model, _ = bbb.fit(jax.random.key(1), model, x, y, objective=at_mean, progress=False)
model = bbb.laplace(jax.random.key(2), model, x, y)
made = bbb.predict(jax.random.key(3), model, grid[:, None], draws=2_000)
epistemic, total = made.f.std[:, 0] ** 2, made.y.std[:, 0] ** 2
parts = {"epistemic: too few rows": epistemic, "aleatoric: noise": total - epistemic}

style = {"figsize": (6, 4.4), "dpi": 200, "sharex": True, "layout": "constrained"}
figure, (top, bottom) = plt.subplots(2, 1, **style)
for part, share in ((made.y, 0.35), (made.f, 0.9)):
    ends = np.hstack(part.sigma_interval(2)).T
    top.fill_between(grid, *ends, color=BAND, alpha=share, linewidth=0)
top.plot(x, y, "o", color=DATA, **DOTS)
top.set(title="What more data would mend, and what not", ylabel="y")
bottom.stackplot(grid, *parts.values(), colors=(MEAN, BAND), labels=parts)
bottom.legend(frameon=False, loc="upper left")
bottom.set(xlabel="x", ylabel="variance of y")
plt.show()
