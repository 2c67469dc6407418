"""
Digits that are no digits
=========================

A classifier of handwritten digits has to choose a digit for every image, whatever it
shows. Its entropy says how unsure it is. Of new digits, of digits on their side, of
two digits laid over one another and of digits whose pixels are shuffled, three each
are shown: those at the quartiles of the entropy. Two at once and shuffled pixels are
noticed. Digits on their side are not, although they are no digits either: a low
entropy is no proof.
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
model, _ = bbb.fit(jax.random.key(1), model, x, y, objective=at_mean, progress=False)
model = bbb.laplace(jax.random.key(2), model, x, y, structure="last_layer")
turned = np.rot90(new.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
both, shuffled = (new + rng.permutation(new)) / 2, rng.permuted(new, axis=1)
images = np.concatenate([new, turned, both, shuffled])
entropy = bbb.predict(jax.random.key(3), model, images, draws=300).y.entropy.total
order = entropy.reshape(4, 297).argsort(axis=1)[:, [74, 148, 222]]
shown = (order + 297 * np.arange(4)[:, None]).ravel()

style = {"figsize": (6, 4), "dpi": 200, "sharex": True, "layout": "constrained"}
figure, (top, bottom) = plt.subplots(2, 1, height_ratios=(1, 4), **style)
strip = np.pad(images[shown].reshape(12, 8, 8), ((0, 0), (1, 1), (1, 1)))
top.imshow(np.hstack(strip), cmap="Greys", aspect="auto")
top.set(title="New digits, and images that are none: how unsure?", yticks=[])
bottom.bar(np.arange(4.5, 120, 10), entropy[shown], width=8, color=MEAN)
names = "new digits", "on their side", "two at once", "shuffled"
bottom.set(xticks=np.arange(14.5, 120, 30), xticklabels=names, ylabel="entropy, nats")
plt.show()
