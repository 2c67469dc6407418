"""
Ten thousand networks and their band
====================================

Ten thousand networks are drawn from what 500 noisy observations of a quintic leave
open. The dark band is three standard deviations of the networks, the pale one three
standard deviations of a new observation, whose noise was learned with the weights.
The dots are observations that no network has seen. The pale band is a statement about
them, and it holds.
"""

import jax
import matplotlib.pyplot as plt

import bbb
from bbb.plots.style import BAND, DATA, MEAN, TARGET

task = bbb.tasks.regression(seed=0)
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.tanh, bbb.nn.linear(20, 1))
params = network.init(jax.random.key(0))
apply = bbb.networks.standardize(network.apply, task.x, task.y)
prior, noise = bbb.priors.Normal(0.0, 2.0), bbb.likelihoods.Gaussian(0.5, learn=True)
model = bbb.bayesianize(apply, params, prior=prior, likelihood=noise)
objective = bbb.train.Objective(forward=bbb.forwards.local_reparam(model.apply))
how = {"steps": 6_000, "objective": objective, "progress": False}
model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
band = bbb.predict(jax.random.key(2), model, task.x_test, draws=10_000)

figure, ax = plt.subplots(figsize=(6, 4.2), dpi=200, layout="constrained")
x = task.x_test[:, 0]
for part, share, name in (
    (band.y, 0.3, "a new observation"),
    (band.f, 0.9, "networks"),
):
    ends = (end[:, 0] for end in part.sigma_interval(3))
    style = {"alpha": share, "linewidth": 0, "label": f"±3 sd of {name}"}
    ax.fill_between(x, *ends, color=BAND, zorder=2 + share, **style)
ax.plot(x, task.y_test, ".", color=DATA, markersize=4, zorder=2.5, label="never seen")
ax.plot(x, band.f.mean, color=MEAN, linewidth=1, zorder=3, label="mean of networks")
ax.plot(x, task.clean_test, "--", color=TARGET, zorder=4, label="true curve")
ax.set_title("Ten thousand networks, and what they say of observations")
ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.1, 0))
plt.show()
