"""`python -m tests.fuzz.model CORPUS -runs=100000`: see `tests.fuzz`.

An input is a file as it is, or, if it begins with `{`, the description of one in JSON, which gets the arrays of a small
model and a checksum that is right: without that, hardly an input would come past the checksum.
"""

import json
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

import bbb
from bbb.io import models
from bbb.networks import nn
from bbb.storage import arrays
from tests.fuzz import harness


def small() -> bbb.BNN:
    """A model whose file is short."""
    network = bbb.nn.sequential(bbb.nn.linear(1, 2), bbb.nn.relu, bbb.nn.linear(2, 1))
    return bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5, learn=True),
    )


WHOLE = models._pack(small(), {"columns": ["a"]})
ARRAYS = {name: np.array(array) for name, array in safetensors.numpy.load(WHOLE).items()}
ABOUT = json.loads(WHOLE[8 : 8 + int.from_bytes(WHOLE[:8], "little")])["__metadata__"]


def signed(text: str) -> bytes:
    """Return a file of this description, with the small model's arrays and a checksum that is right."""
    about = ABOUT | {"header": text, "sha256": arrays._digest(text, ARRAYS)}
    return safetensors.numpy.save(ARRAYS, metadata=about)


def read(path: Path) -> None:
    """Load a model; what is loaded has to be saved again, and to predict."""
    data = path.read_bytes()
    if data[:1] == b"{":
        try:
            path.write_bytes(signed(data.decode()))
        except UnicodeError:
            return
    try:
        model = bbb.load(path)
        assert isinstance(bbb.io.read_metadata(path), dict)
    except bbb.errors.ModelFileError as error:
        harness.check_refusal(error)
        return
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model))
    models._pack(model, {})
    outputs = jax.eval_shape(model.apply, model.posterior.mean, jax.ShapeDtypeStruct((3, 1), np.float32))
    assert outputs.shape == (3, 1)


if __name__ == "__main__":
    harness.run(read, (WHOLE, ABOUT["header"].encode(), WHOLE[:200]), [arrays, models, nn], largest=16384)
