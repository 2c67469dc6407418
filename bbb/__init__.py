r"""Error bars for any JAX network: Bayes by backprop.

    import bbb, jax, optax

    task = bbb.tasks.regression(seed=0)
    network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.relu, bbb.nn.linear(20, 1))
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.prior.Normal(0.0, 3.0),
        likelihood=bbb.likelihood.Gaussian(std=0.5, learn=True),
    )
    model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=8_000, optimizer=optax.adam(1e-2))
    band = bbb.predict(jax.random.key(2), model, task.x_test, draws=10_000)
    print(model, history, band, sep="\n")

What most programs need:

    bayesianize   replace the weights of a network by Gaussians: returns a `BNN`
    fit           train it; returns the model and its `History`
    predict       summarise what it says of each row: means, standard deviations and intervals, of f and of y
    draws         return the raw draws that `predict` summarises
    diagnose      look for what is wrong with a training and its predictions
    save, load    write a model to a file, and read it
    BNN           a Bayesian neural network: apply, posterior, prior and likelihood
    MeanField     the posterior: a mean and a log_std for every weight
    nn            small layers, for those who bring no network of their own

The rest is found by its module: `bbb.posterior`, `bbb.prior`, `bbb.likelihood`, `bbb.objective`, `bbb.schedule`,
`bbb.adapters`, `bbb.ensemble`, `bbb.mixture`, `bbb.metrics`, `bbb.plot`, `bbb.torchbnn` and `bbb.tasks`.
"""

from bbb import _signals

_signals.leave_on_interrupt()  # before all that takes long; of a program that imports this library it changes nothing

from typing import TYPE_CHECKING, Any

from bbb import adapters as adapters
from bbb import ensemble as ensemble
from bbb import likelihood as likelihood
from bbb import metrics as metrics
from bbb import mixture as mixture
from bbb import nn as nn
from bbb import objective as objective
from bbb import plot as plot
from bbb import posterior as posterior
from bbb import prior as prior
from bbb import schedule as schedule
from bbb import tasks as tasks
from bbb import torchbnn as torchbnn
from bbb._check import BBBError as BBBError
from bbb._check import ForkError as ForkError
from bbb._check import HostError as HostError
from bbb._check import InputError as InputError
from bbb._check import KeyTypeError as KeyTypeError
from bbb._check import ModelFileError as ModelFileError
from bbb._check import NonFiniteInputError as NonFiniteInputError
from bbb._check import NonFiniteLossError as NonFiniteLossError
from bbb._check import NonFiniteOutputError as NonFiniteOutputError
from bbb._check import QuantileError as QuantileError
from bbb._check import ShapeError as ShapeError
from bbb._check import TableError as TableError
from bbb._check import UnknownPrimitiveError as UnknownPrimitiveError
from bbb._check import WriteError as WriteError
from bbb._fit_each import fit_each as fit_each
from bbb._restarts import member_keys as member_keys
from bbb.checkpoint import load as load
from bbb.checkpoint import read_metadata as read_metadata
from bbb.checkpoint import save as save
from bbb.datatree import to_datatree as to_datatree
from bbb.diagnose import Diagnosis as Diagnosis
from bbb.diagnose import Finding as Finding
from bbb.diagnose import diagnose as diagnose
from bbb.explain import Explanation as Explanation
from bbb.explain import Route as Route
from bbb.explain import explain as explain
from bbb.export import Exported as Exported
from bbb.export import export as export
from bbb.export import load_exported as load_exported
from bbb.fit import fit as fit
from bbb.forward import ApproximationWarning as ApproximationWarning
from bbb.forward import flipout as flipout
from bbb.forward import local_reparam as local_reparam
from bbb.forward import weight_sampling as weight_sampling
from bbb.full_rank import FullRank as FullRank
from bbb.history import History as History
from bbb.model import BNN as BNN
from bbb.model import bayesianize as bayesianize
from bbb.moments import Closed as Closed
from bbb.moments import ClosedForm as ClosedForm
from bbb.moments import moments as moments
from bbb.objective import negative_elbo as negative_elbo
from bbb.options import Checkpointing as Checkpointing
from bbb.options import EarlyStopping as EarlyStopping
from bbb.options import Objective as Objective
from bbb.options import Placement as Placement
from bbb.options import Restarts as Restarts
from bbb.posterior import MeanField as MeanField
from bbb.posterior import log_prob as log_prob
from bbb.posterior import sample as sample
from bbb.predict import draws as draws
from bbb.predict import predict as predict
from bbb.prior import kl as kl
from bbb.pruning import prune as prune
from bbb.pruning import pruning_curve as pruning_curve
from bbb.pruning import signal_to_noise as signal_to_noise
from bbb.standardize import Standardized as Standardized
from bbb.standardize import standardize as standardize
from bbb.summary import ClassMarginal as ClassMarginal
from bbb.summary import Interval as Interval
from bbb.summary import Marginal as Marginal
from bbb.summary import Predictive as Predictive

__version__ = "0.1.0"

__all__ = [
    "BNN",
    "MeanField",
    "adapters",
    "bayesianize",
    "diagnose",
    "draws",
    "ensemble",
    "fit",
    "likelihood",
    "load",
    "metrics",
    "mixture",
    "nn",
    "objective",
    "plot",
    "posterior",
    "predict",
    "prior",
    "save",
    "schedule",
    "tasks",
    "torchbnn",
]

if TYPE_CHECKING:
    from bbb.estimator import BayesianMLPClassifier as BayesianMLPClassifier
    from bbb.estimator import BayesianMLPRegressor as BayesianMLPRegressor


def __getattr__(name: str) -> Any:
    """Return the estimators, which need scikit-learn, when they are first asked for."""
    if name in ("BayesianMLPRegressor", "BayesianMLPClassifier"):
        from bbb import estimator  # noqa: PLC0415 - an extra

        return getattr(estimator, name)
    raise AttributeError(f"module 'bbb' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what help and completion show: the names that most programs need, and where the rest is found."""
    return [*__all__, "__all__", "__doc__", "__version__"]
