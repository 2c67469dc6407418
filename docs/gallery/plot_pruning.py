"""
Nineteen weights of twenty can go
=================================

Each weight of a classifier of digits has a mean and a standard deviation. Most means
are small beside their standard deviation: the prediction does not depend on them.
Removed in the order of that ratio, 95 % of the weights go before the accuracy falls.
The rest, the dark bars, hold what the network has learned.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import bbb
from bbb.plots.style import BAND, MEAN

x, y = load_digits(return_X_y=True)
x, new, y, labels = x[:1200] / 16, x[1200:] / 16, y[:1200], y[1200:]
network = bbb.nn.sequential(bbb.nn.linear(64, 100), bbb.nn.relu, bbb.nn.linear(100, 10))
params, likelihood = network.init(jax.random.key(0)), bbb.likelihoods.Categorical()
prior = bbb.priors.Normal(0.0, 0.3)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=likelihood)
objective = bbb.train.Objective(forward=bbb.forwards.local_reparam(model.apply))
how = {"steps": 2_000, "batch_size": 128, "objective": objective, "progress": False}
model, _ = bbb.fit(jax.random.key(1), model, x, y, **how)


def accuracy(model):
    made = bbb.predict(jax.random.key(2), model, new, draws=100)
    return 100 * bbb.metrics.accuracy(labels, made.y.probabilities)


shares = np.array([0, 0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99])
q, left = model.posterior, bbb.evaluate.pruning_curve(model, shares, accuracy)
ratios = jax.tree.map(lambda mean, std: abs(mean / std).ravel(), q.mean, q.std)
ratios = np.sort(np.concatenate(jax.tree.leaves(ratios)))
lower, higher = np.split(ratios, [int(0.95 * len(ratios))])

figure, (top, bottom) = plt.subplots(2, figsize=(6, 4.4), dpi=200, layout="tight")
top.hist([lower, higher], np.geomspace(0.003, 30, 70), stacked=True, color=(BAND, MEAN))
top.set(xscale="log", xlabel="|mean| / sd of a weight", ylabel="weights")
bottom.plot(100 * shares, left, "o-", color=MEAN)
bottom.set(xlabel="weights removed, the lowest ratios first, %", ylabel="accuracy, %")
figure.suptitle("Accuracy stays while 95 % of the weights are removed")
plt.show()
