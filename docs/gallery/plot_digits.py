"""
Digits that are no digits
=========================

A classifier of handwritten digits has to choose a digit for every image. Its entropy
says how unsure it is: little for three new digits, more for two of them laid over one
another, and most for their pixels in another order. The epistemic part is what the
last layer does not know; the rest is doubt between the digits themselves. Digits on
their side are no digits either, but they are hardly noticed: a low entropy is no
proof.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import bbb
from bbb.plots.style import MEAN

x, y = load_digits(return_X_y=True)
x, new, y = x[:1500] / 16, x[1500:] / 16, y[:1500]
network = bbb.nn.sequential(bbb.nn.linear(64, 50), bbb.nn.relu, bbb.nn.linear(50, 10))
params, likelihood = network.init(jax.random.key(0)), bbb.likelihoods.Categorical()
prior, rng = bbb.priors.Normal(0.0, 0.7), np.random.default_rng(0)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=likelihood)
at_mean = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
how = {"steps": 1_000, "batch_size": 128, "objective": at_mean, "progress": False}
model, _ = bbb.fit(jax.random.key(1), model, x, y, **how)
model = bbb.laplace(jax.random.key(2), model, x, y, structure="last_layer")
turned = np.rot90(new.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
kinds = {"digits": new, "on their side": turned}
kinds["two at once"] = (new + rng.permutation(new)) / 2
kinds["shuffled"] = rng.permuted(new, axis=1)
images = np.concatenate([kind[:3] for kind in kinds.values()])
entropy = bbb.predict(jax.random.key(3), model, images, draws=2_000).y.entropy.total

style = {"figsize": (6, 4), "dpi": 200, "sharex": True, "layout": "constrained"}
figure, (top, bottom) = plt.subplots(2, 1, height_ratios=(1, 4), **style)
strip = np.pad(images.reshape(12, 8, 8), ((0, 0), (1, 1), (1, 1)))
top.imshow(np.hstack(strip), cmap="Greys", aspect="auto")
top.set(title="Digits that are no digits", yticks=[])
bottom.bar(np.arange(4.5, 120, 10), entropy, width=8, color=MEAN)
bottom.set(xticks=np.arange(14.5, 120, 30), xticklabels=kinds, ylabel="entropy, nats")
plt.show()
