"""Markov chain Monte Carlo from trained members: draws of the posterior itself, for up to some 10,000 weights.

    model, history = bbb.fit(key, model, x, y, ..., restarts=bbb.train.Restarts(8, network.init))
    sampled, report = bbb.mcmc.hmc(key, model, x, y, draws=200, warmup=300)
    print(report)                                           # says in words what is wrong with the chains, if anything
    band = bbb.predict(key, sampled, x_test)

Needs blackjax: `pip install blackjax`; or, in a clone of bbb, `pip install '.[mcmc]'`.
"""

from bbb.mcmc.api import hmc, nuts
from bbb.mcmc.report import Report

__all__ = ["Report", "hmc", "nuts"]
