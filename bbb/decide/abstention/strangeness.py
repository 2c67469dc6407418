"""Scores of rows that are unlike those that were learned from, by which they can be told from usual ones."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bbb import checks
from bbb.core.ability import implements
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsClasses
from bbb.model import BNN, check_model
from bbb.predictive.api import predict

OF_CLASSES = {"mutual_information": "epistemic", "entropy": "total"}
"""The scores that are entropies of classes, and which part of `ClassMarginal.entropy` each is."""


KINDS = (*OF_CLASSES, "std")


def ood_scores(
    key: jax.Array,
    model: BNN,
    x: Any,
    *,
    kind: str = "mutual_information",
    draws: int = 1000,
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Return how strange each row of x is to the model, (rows,), at least 0: the higher, the less like its data.

    ======================  ===================================================================  =======
    kind                    score                                                                of
    ======================  ===================================================================  =======
    `"mutual_information"`  H[E p] − E H[p], nats: the disagreement of the draws of the weights  classes
    `"entropy"`             H[E p], nats: and what is uncertain whatever the weights are         classes
    `"std"`                 √Σ_k Var f_k: the root of the sum of the squares of `f.std`          any
    ======================  ===================================================================  =======

    with p the probabilities and f_k output k of the function of a draw. Of several classes a row the entropies are
    means over them. For a distance from the data, which asks nothing of the posterior's width, see `feature_distance`.

    Args:
        key: one typed JAX key.
        model: trained, of one output; of several, pass `model.head(path)`.
        x: (rows, ...), finite, as for `bbb.predict`.
        kind: one of the above.
        draws: how many draws of the weights.
        rows: "apart", or "together" for a network whose rows meet, as of `bbb.predict`.
        memory: bound on the working memory, as of `bbb.predict`.
        mesh: devices that share the draws, as of `bbb.predict`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw: also
            for an entropy of a model of numbers.
        NonFiniteOutputError: if an output is NaN or infinite; it names the first row.

    Source: Houlsby et al. 2011, arXiv 1112.5745, eq. 2; Smith & Gal 2018, arXiv 1803.08533, for both as scores.

    Example:
        >>> import bbb, jax
        >>> x, y = jax.numpy.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, 0, 1, 1]
        >>> layer = bbb.nn.linear(1, 2)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Categorical()}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> usual = bbb.decide.ood_scores(jax.random.key(1), model, x, draws=100)
        >>> strange = bbb.decide.ood_scores(jax.random.key(1), model, 10 * x, draws=100)
        >>> 0 <= bbb.metrics.auroc(usual, strange) <= 1
        True
    """
    check_model(model)
    checks.word("kind", kind, KINDS)
    check_one_output(model)
    if kind in OF_CLASSES and not implements(model.likelihood, SupportsClasses):
        got = f"kind={kind!r} for {type(model.likelihood).__name__}"
        fail(InputError, "a score of numbers", got, 'Pass kind="std", or see feature_distance.')
    made = predict(key, model, x, method="draws", draws=draws, rows=rows, memory=memory, mesh=mesh)
    if kind == "std":
        return np.sqrt(of_rows(np.square(made.f.std)).sum(axis=1))
    return of_rows(np.asarray(getattr(made.y.entropy, OF_CLASSES[kind]))).mean(axis=1)


def check_one_output(model: BNN) -> None:
    """Check that a model has one output, of which a row has one score.

    Raises:
        InputError: naming its outputs.
    """
    if model.joint is not None:
        paths = ", ".join(model.joint.paths)
        do = "Pass model.head(path) for one of them."
        fail(InputError, "a model of one output", f"one of {paths}", do)


def of_rows(values: np.ndarray) -> np.ndarray:
    """Return values of rows, (rows, ...), as (rows, values of a row)."""
    return values.reshape(len(values), -1)
