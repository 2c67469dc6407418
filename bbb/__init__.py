"""Error bars for any JAX network: Bayes by backprop."""

from bbb import adapters as adapters
from bbb import likelihood as likelihood
from bbb import metrics as metrics
from bbb import nn as nn
from bbb import objective as objective
from bbb import plot as plot
from bbb import prior as prior
from bbb import tasks as tasks
from bbb import torchbnn as torchbnn
from bbb._check import BBBError as BBBError
from bbb._check import InputError as InputError
from bbb._check import KeyTypeError as KeyTypeError
from bbb._check import ModelFileError as ModelFileError
from bbb._check import NonFiniteInputError as NonFiniteInputError
from bbb._check import NonFiniteLossError as NonFiniteLossError
from bbb._check import QuantileError as QuantileError
from bbb._check import ShapeError as ShapeError
from bbb._check import TableError as TableError
from bbb._check import WriteError as WriteError
from bbb.checkpoint import load as load
from bbb.checkpoint import read_metadata as read_metadata
from bbb.checkpoint import save as save
from bbb.explain import Explanation as Explanation
from bbb.explain import Route as Route
from bbb.explain import explain as explain
from bbb.fit import History as History
from bbb.fit import fit as fit
from bbb.forward import flipout as flipout
from bbb.forward import local_reparam as local_reparam
from bbb.forward import weight_sampling as weight_sampling
from bbb.model import BNN as BNN
from bbb.model import bayesianize as bayesianize
from bbb.objective import negative_elbo as negative_elbo
from bbb.posterior import MeanField as MeanField
from bbb.posterior import log_prob as log_prob
from bbb.posterior import sample as sample
from bbb.predict import draws as draws
from bbb.predict import predict as predict
from bbb.prior import kl as kl
from bbb.summary import Interval as Interval
from bbb.summary import Marginal as Marginal
from bbb.summary import Predictive as Predictive

__version__ = "0.1.0"
