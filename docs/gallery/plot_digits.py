"""
Digits that are no digits
=========================
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import bbb
from bbb.plots.style import BAND, MEAN

images, y = load_digits(return_X_y=True)
images, rng = images / 16, np.random.default_rng(0)
network = bbb.nn.sequential(bbb.nn.linear(64, 50), bbb.nn.relu, bbb.nn.linear(50, 10))
params, likelihood = network.init(jax.random.key(0)), bbb.likelihoods.Categorical()
prior = bbb.priors.Normal(0.0, 0.7)
model = bbb.bayesianize(network.apply, params, prior=prior, likelihood=likelihood)
objective = bbb.train.Objective(forward=bbb.forwards.at_mean(model.apply))
how = {"steps": 1_000, "batch_size": 128, "objective": objective, "progress": False}
model, _ = bbb.fit(jax.random.key(1), model, images[:1500], y[:1500], **how)
model = bbb.laplace(jax.random.key(1), model, images[:1500], y[:1500], structure="last_layer")
new = images[1500:]
kinds = {
    "digits": new,
    "sideways": np.rot90(new.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64),
    "two at once": (new + rng.permutation(new)) / 2,
    "shuffled pixels": rng.permuted(new, axis=1),
    "noise": rng.uniform(0,1,new.shape),
}
all_={}
for k, v in kinds.items():
    e = bbb.predict(jax.random.key(2), model, v, draws=500).y.entropy
    all_[k]=e
    print(k, *(np.round([np.median(a), np.mean(a)],2) for a in (e.total, e.aleatoric, e.epistemic)), flush=True)

plt.subplots()
