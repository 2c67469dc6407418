"""Small models of Bayesian-Torch and BLiTZ, the same networks of `bbb.nn`, and what the libraries made of them.

What is stored stands in `tests/data/torch`: the state dicts, each model's output at its means, and the mean and the
standard deviation of many of its own draws. `python -m tests.torch_states` writes it, where both libraries are
installed.
"""

import json
from typing import NamedTuple

import numpy as np

import bbb
from bbb.networks import nn
from bbb.storage import arrays as files
from tests import ROOT

NUMBERS = ROOT / "tests" / "data" / "torch" / "torch-states.json"
DRAWS = 20_000


def dense(last_bias):
    """Two dense layers, of members named fc1 and fc2."""
    return nn.sequential(nn.linear(2, 4), nn.tanh, nn.linear(4, 1, bias=last_bias))


def images():
    """A convolution without bias, a plain normalisation, a nested one in groups, and a dense layer."""
    return nn.sequential(
        nn.conv(1, 2, 3, padding=1, bias=False),
        nn.batch_norm(2),
        nn.relu,
        nn.sequential(nn.conv(2, 2, 2, stride=2, groups=2), nn.tanh),
        nn.flatten,
        nn.linear(8, 3),
    )


class Case(NamedTuple):
    """A model of a library: its package in bbb, its network, the names of its members, and its prior."""

    package: object
    network: nn.Layer
    names: tuple | None
    prior: object

    def read(self, state_dict, **changes):
        """Read a state dict of the model."""
        given = {"prior": self.prior, "likelihood": bbb.likelihoods.Gaussian(1.0), "names": self.names, **changes}
        return self.package.from_state_dict(self.network, state_dict, **given)


CASES = {
    "bayesian-torch-dense": Case(
        bbb.bayesian_torch, dense(True), ("fc1", "fc2"), bbb.priors.Normal((0.25, (), 0.0), (0.5, (), 2.0))
    ),
    "bayesian-torch-images": Case(bbb.bayesian_torch, images(), None, bbb.priors.Normal(0.0, 1.0)),
    "blitz-dense": Case(bbb.blitz, dense(False), ("fc1", "fc2"), bbb.priors.ScaleMixture(0.25, 0.5, 0.125)),
    "blitz-images": Case(bbb.blitz, images(), None, bbb.priors.Normal(0.0, 0.5)),
}


def rows(name):
    """Return the rows that a case is compared at."""
    shape = (4, 1, 4, 4) if name.endswith("images") else (5, 2)
    return np.random.default_rng(7).normal(size=shape).astype("float32")


def state(name):
    """Return the stored state dict of a case."""
    return files.read(NUMBERS.parent / f"{name}.safetensors")


def numbers(name):
    """Return what the library made of a case, as arrays by their names."""
    return {key: np.asarray(value) for key, value in json.loads(NUMBERS.read_text())[name].items()}
