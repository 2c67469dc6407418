"""The distance of rows from those that were learned from, in the features of the linearised network."""

import dataclasses
from typing import Any

import jax
import numpy as np

from bbb import checks, display
from bbb.core.rows import count_rows
from bbb.curvature.api import STRUCTURES, laplace
from bbb.data import rows_for
from bbb.decide.abstention.strangeness import check_one_output, of_rows
from bbb.likelihoods.gaussian import Gaussian
from bbb.model import BNN, check_model
from bbb.predictive.closed_form import form_of
from bbb.predictive.evaluation import padded_tiles
from bbb.predictive.finite import check_finite
from bbb.predictive.plan import plan_of
from bbb.tracing import purity


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FeatureDistance(display.Displayed):
    """The distance of rows from reference rows, in the features of a linearised network: call it with rows.

    Attributes:
        model: the network with Σ as the covariance of its weights: see `feature_distance`.
        rows: how many reference rows it holds.
        memory: bound on the working memory of a call.
    """

    model: BNN
    rows: int
    memory: int | str

    def __call__(self, x: Any) -> np.ndarray:
        """Return the distance of each row of x, (rows,), above 0: far rows are unlike the reference rows.

        Raises:
            InputError, ShapeError, NonFiniteInputError: for rows that do not fit the network, before anything else.
            NonFiniteOutputError: if a distance is NaN or infinite; it names the first row.
        """
        checks.outside("a FeatureDistance", x=x)
        plan = plan_of(jax.random.key(0), self.model, x, 1, "independent", self.memory, "moments")  # without draws
        limit, squares = checks.memory(self.memory), []
        for k in range(self.model.members):
            moments, _ = form_of(self.model.member(k), plan.x, limit)
            squares.append(np.concatenate([np.asarray(moments(part)[1])[:n] for part, n in padded_tiles(plan)]))
        found = np.mean(squares, axis=0)
        check_finite(self.model, "the squares of the feature distance", found)
        return np.sqrt(of_rows(found).sum(axis=1))

    def _table_shown(self) -> display.Table:
        covariance = type(self.model.posterior.component(0)).__name__
        return display.Table(
            "FeatureDistance", [("from", display.counted(self.rows, "row")), ("covariance", covariance)]
        )


def feature_distance(
    key: jax.Array, model: BNN, reference: Any, *, structure: str = "kron", memory: int | str = "512MB"
) -> FeatureDistance:
    """Return the distance from reference rows in the features of the linearised network, a function of rows.

    The features of a row x are the derivatives of the outputs f_k in the random weights at the posterior's mean,
    φ_k(x) = ∂f_k(x)/∂w. With Λ the curvature of the prior there, and x_n the reference rows,

        d(x)² = Σ_k φ_k(x)ᵀ·Σ·φ_k(x),        Σ⁻¹ = Λ + Σ_n Σ_k φ_k(x_n)·φ_k(x_n)ᵀ

    the Mahalanobis norm of the features in their own second moments, which the prior keeps from being singular. It is
    the standard deviation that f would have under noise of variance 1, so a row whose features point where those of no
    reference row do is far, up to what the prior allows. Unlike the disagreement of the draws it does not depend on the
    labels, nor on how certain of its classes the network is: a row between two classes is not far for that. Only the
    mean of the posterior is used, so that a point estimate and a mean-field posterior have this distance too. Of an
    ensemble it is the root mean square over the members.

    Args:
        key: one typed JAX key, as of `bbb.laplace`, which makes Σ.
        model: trained, of one output; of several, pass `model.head(path)`.
        reference: (rows, ...), finite: the rows that were learned from, or some of them.
        structure: of Σ, as of `bbb.laplace`; "full" is the formula itself, for networks of few weights.
        memory: bound on the working memory, here and in the calls of what is returned.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, a prior without
            curvature, or too little memory, before anything is computed.
        NonFiniteOutputError: if a derivative is NaN or infinite; it names the first row.

    Source: Immer et al. 2021, arXiv 2008.08400, for the linearised network as a Gaussian model of these features; Lee
    et al. 2018, arXiv 1807.03888, for Mahalanobis distances as scores, there of the activations of layers.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> distance = bbb.decide.feature_distance(jax.random.key(3), model, task.x)
        >>> distance(task.x_test[:3]).shape
        (3,)
    """
    checks.key(key)
    check_model(model)
    checks.word("structure", structure, STRUCTURES)
    checks.outside("feature_distance", key=key, model=model, reference=reference)
    check_one_output(model)
    rows = rows_for(model, "reference", reference)
    outputs = purity.output_shape(model.apply, model.posterior.component(0).params, rows)
    noisy = dataclasses.replace(model, likelihood=Gaussian(1.0))
    fitted = laplace(key, noisy, rows, np.zeros(outputs.shape, outputs.dtype), structure=structure, memory=memory)
    return FeatureDistance(fitted, count_rows(rows), memory)
