r"""Error bars for any JAX network: Bayes by backprop.

    import bbb, jax, optax

    task = bbb.tasks.regression(seed=0)
    network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.relu, bbb.nn.linear(20, 1))
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 3.0),
        likelihood=bbb.likelihoods.Gaussian(std=0.5, learn=True),
    )
    model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=8_000, optimizer=optax.adam(1e-2))
    band = bbb.predict(jax.random.key(2), model, task.x_test, draws=10_000)
    print(model, history, band, sep="\n")

What most programs need:

    bayesianize   replace the weights of a network by Gaussians: returns a `BNN`
    fit           train it; returns the model and its `History`
    predict       summarise the predictions for each row: means, standard deviations and intervals, of f and of y
    draws         return the raw draws that `predict` summarises
    laplace       give a trained model the posterior of the curvature at its means
    log_evidence  compare priors, noises and networks without data held out
    tune          find the prior's scales and the noise by it, alone or alternating with training
    diagnose      find what is wrong with a training and its predictions
    audit         hold its band against that of Markov chains
    prior_predict show what a model says before it has seen data
    conformal     calibrate its intervals on rows held out, so that they hold what they promise
    update        learn on from new rows: the posterior is their prior
    thompson      draw whole functions, one for each draw of the weights
    save, load    write a model to a file, and read it
    BNN           a Bayesian neural network: apply, posterior, prior and likelihood
    MeanField     the posterior: a mean and a log_std for every weight
    nn            small layers, for those who bring no network of their own

The rest is found in its package: `posteriors`, `priors`, `likelihoods`, `forwards`, `networks`, `moments`,
`objectives`, `curvature`, `train`, `tuning`, `predictive`, `mcmc`, `mixture`, `metrics`, `evaluate`, `decide`, `plots`,
`io`, `serving`, `torchbnn`, `bayesian_torch`, `blitz`, `tasks`, `errors`; in `tables`; and in `bbb.sklearn` and
`bbb.report`, with the extras of these names.
"""

from bbb.storage import signals as _signals

_signals.leave_on_interrupt()  # before all that takes long; of a program that imports this library it changes nothing

from typing import Any

from bbb import (
    bayesian_torch,
    blitz,
    curvature,
    decide,
    errors,
    evaluate,
    forwards,
    io,
    likelihoods,
    mcmc,
    metrics,
    mixture,
    moments,
    networks,
    objectives,
    plots,
    posteriors,
    predictive,
    priors,
    serving,
    tasks,
    torchbnn,
    train,
    tuning,
)
from bbb._version import __version__ as __version__
from bbb.curvature import laplace, log_evidence
from bbb.decide import audit, conformal, prior_predict, thompson, update
from bbb.evaluate import diagnose
from bbb.io import load, save
from bbb.model import BNN, bayesianize
from bbb.networks import nn
from bbb.posteriors import MeanField
from bbb.predictive import draws, predict
from bbb.train import fit
from bbb.tuning import tune

__all__ = [
    "BNN",
    "MeanField",
    "audit",
    "bayesian_torch",
    "bayesianize",
    "blitz",
    "conformal",
    "curvature",
    "decide",
    "diagnose",
    "draws",
    "errors",
    "evaluate",
    "fit",
    "forwards",
    "io",
    "laplace",
    "likelihoods",
    "load",
    "log_evidence",
    "mcmc",
    "metrics",
    "mixture",
    "moments",
    "networks",
    "nn",
    "objectives",
    "plots",
    "posteriors",
    "predict",
    "predictive",
    "prior_predict",
    "priors",
    "save",
    "serving",
    "tasks",
    "thompson",
    "torchbnn",
    "train",
    "tune",
    "tuning",
    "update",
]


def __getattr__(name: str) -> Any:
    """Return a package that few programs need, or that needs an extra, when it is first asked for."""
    if name in ("report", "sklearn", "tables"):
        import importlib  # noqa: PLC0415

        return importlib.import_module(f"bbb.{name}")
    raise AttributeError(f"module 'bbb' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what help and completion show: the names that most programs need, and the packages with the rest."""
    return [*__all__, "__all__", "__doc__", "__version__"]
