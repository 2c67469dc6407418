"""A small model, and its export."""

import jax
import numpy as np

import bbb

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(11, 2))
DRAWS = 60


def model_of(likelihood=None, outputs=1, seed=0, std=0.2):
    network = bbb.nn.sequential(bbb.nn.linear(2, 6), bbb.nn.tanh, bbb.nn.linear(6, outputs))
    return bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(seed)),
        prior=bbb.priors.Normal(),
        likelihood=likelihood or bbb.likelihoods.Gaussian(0.3, learn=True),
        std=std,
    )


def exported(folder, model, x=X, **options):
    bbb.serving.export(folder / "m.bbb", model, x, **{"draws": DRAWS, "platforms": ["cpu"], **options})
    return bbb.serving.load_exported(folder / "m.bbb")
