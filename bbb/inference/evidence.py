"""The prior and the noise of a trained model by the evidence, for methods that start at its means.

The means of the evidence lower bound are those of a posterior that is wider at the data, and many of their weights have
vanished with it; the prior that is best for them is another one, and so is the noise. Both are found with the means, in
rounds of training to the maximum a posteriori and a step of the scales after each.

How often the scales move decides what is found: with a step after every 50 of training, the evidence of networks of 50
units ended 15 to 130 nats above that of a step after every 500, on Friedman 1 and with 20 useless columns of
`benchmarks.tabular`: there the means had followed the noise before the scales could say so.

Source: MacKay 1992, Neural Comput. 4, 448; Immer et al. 2021, arXiv 2104.04975, algorithm 1; a standard deviation for
each column of x, automatic relevance determination, Neal 1996, Bayesian Learning for Neural Networks, §1.2.3.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from bbb.core.ability import implements
from bbb.core.tree import count
from bbb.data import rows_for
from bbb.model import BNN
from bbb.posteriors.verbs import marginals
from bbb.priors.normal import Normal
from bbb.priors.protocol import SupportsFitting
from bbb.tracing import purity
from bbb.tuning.api import tune

STEPS = 50
"""Steps of training before each step of the scales."""


MAX_MULTIPLICATIONS = 5 * 10**9
"""Of one Gauss-Newton matrix, up to which rounds take seconds to a minute or two."""


class Evidence(NamedTuple):
    """A model by the evidence.

    Attributes:
        model: at the means, the prior and the noise of the round of the largest evidence.
        loss: (rounds,), minus the evidence at the end of each, in nats.
    """

    model: BNN
    loss: np.ndarray


def by_evidence(
    key: jax.Array, model: BNN, x: Any, y: Any, structure: str, steps: int, sample_weight: Any = None
) -> Evidence | None:
    """Return the model at the means, the prior and the noise of the largest evidence that was found.

    None for what this does not fit: a structure other than "full", a prior that is not a `Normal` and does not become
    one, or a Gauss-Newton matrix that takes too long.

    Args:
        key: one typed JAX key.
        model: trained, or at its start.
        x: (rows, ...), the data.
        y: observed there.
        structure: of the Laplace posterior that fits in memory.
        steps: of training, of which each round takes `STEPS`.
        sample_weight: (rows,), how often each row counts; None for once.

    Raises:
        InputError, NonFiniteOutputError, NonFiniteLossError: as `bbb.tune`.
    """
    prior: Any = model.prior
    if implements(prior, SupportsFitting):
        prior = prior.fitted(marginals(model.posterior.component(0), "a posterior by the evidence"))
    if structure != "full" or not isinstance(prior, Normal) or multiplications(model, x) > MAX_MULTIPLICATIONS:
        return None
    model, rounds = dataclasses.replace(model, prior=prior), math.ceil(steps / STEPS)
    each = min(steps, STEPS)
    how: Any = {"rounds": rounds, "steps": each, "updates": 1, "per": "column", "progress": False}
    found, record = tune(key, model, x, y, sample_weight=sample_weight, **how)
    ends = np.flatnonzero(np.diff(record.round, append=rounds + 1))
    return Evidence(found, -record.evidence[ends])


def multiplications(model: BNN, x: Any) -> int:
    """Return how many multiplications a Gauss-Newton matrix of all weights takes, in rows or in weights."""
    one = model.member(0)
    params = one.posterior.params
    rows = rows_for(one, "x", x)
    outputs = math.prod(purity.output_shape(one.apply, params, rows).shape)
    weights = count(one.posterior.random_leaves(params))
    return outputs * weights * min(outputs, weights)
