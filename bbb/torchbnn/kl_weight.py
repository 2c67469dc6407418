"""The meaning of torchbnn's `kl_weight`."""

import dataclasses
import math
from typing import Any

from bbb import checks
from bbb.errors import InputError, fail


def check_options(loss: Any, reduction: Any) -> None:
    """Check the names of a loss and of a reduction of torchbnn.

    Raises:
        InputError: if one is unknown.
    """
    if not checks.is_word(loss, ("mse", "cross_entropy")):
        fail(InputError, 'loss to be "mse" or "cross_entropy"', repr(loss), "Pass one of them.")
    if not checks.is_word(reduction, ("mean", "sum")):
        fail(InputError, 'reduction to be "mean" or "sum"', repr(reduction), "Pass one of them.")


@dataclasses.dataclass(frozen=True)
class KLWeight:
    """The meaning of a kl_weight of torchbnn; `str` explains it in words.

    Attributes:
        loss: "mse" or "cross_entropy".
        noise_std: the standard deviation of the Gaussian noise that the cost assumes, in units of y; None for classes.
        temperature: the factor of the KL in the equivalent negative ELBO. It is 1 for "mse", where every kl_weight
            corresponds to some noise; below 1, for "cross_entropy", the posterior is colder (more certain) than the
            Bayesian one.
        advice: the equivalent code in bbb.
    """

    loss: str
    noise_std: float | None
    temperature: float
    advice: str

    def __str__(self) -> str:
        """Return the meaning and the equivalent code in words."""
        if self.noise_std is not None:
            meaning = f"an ELBO whose observations have Gaussian noise of std {self.noise_std:.4g} (in units of y)"
        else:
            meaning = f"an ELBO whose KL is multiplied by {self.temperature:.4g}"
        return f"This kl_weight means {meaning}. {self.advice}"


def explain_kl_weight(
    kl_weight: float,
    num_data: int,
    outputs: int,
    weights: int,
    loss: str = "mse",
    reduction: str = "mean",
) -> KLWeight:
    """Return the meaning of kl_weight in loss + kl_weight·BKLLoss, and the equivalent code in bbb.

    With c = kl_weight/P (reduction "mean") or kl_weight ("sum"), N rows and D outputs per row,

        MSE + c·KL  = c·(N·D·MSE/(2v) + KL)     where v = c·N·D/2: a negative ELBO with noise of variance v
        CE + c·KL   = (N·CE + c·N·KL)/N         a negative ELBO with its KL multiplied by c·N

    Args:
        kl_weight: a positive number.
        num_data: N, the number of rows of the whole data set.
        outputs: D, the number of outputs per row; not used for "cross_entropy".
        weights: P, the number of Gaussian weights (pairs of a mean and a log sigma); not used for "sum".
        loss: "mse" or "cross_entropy".
        reduction: BKLLoss's reduction, "mean" or "sum".

    Raises:
        InputError: if kl_weight is not positive, a count is below 1, or the loss or the reduction is unknown.

    Example:
        >>> import bbb
        >>> round(
        ...     float(
        ...         bbb.torchbnn.explain_kl_weight(0.01, num_data=500, outputs=1, weights=3001).noise_std
        ...     ),
        ...     3,
        ... )
        0.029
    """
    check_options(loss, reduction)
    kl_weight = checks.one_number("kl_weight", kl_weight)
    for name, value in (("num_data", num_data), ("outputs", outputs), ("weights", weights)):
        checks.positive_integer(name, value)
    each = kl_weight / weights if reduction == "mean" else kl_weight
    if loss == "mse":
        std = math.sqrt(each * num_data * outputs / 2)
        return KLWeight(
            loss,
            std,
            1.0,
            f"The same in bbb: fit(...) with likelihood=bbb.likelihoods.Gaussian({std:.4g}). If the noise of the data "
            "differs, the band says nothing about observations: write bbb.likelihoods.Gaussian(std, learn=True).",
        )
    temperature = each * num_data
    return KLWeight(
        loss,
        None,
        temperature,
        f"The same in bbb: fit(..., objective=bbb.train.Objective(kl_weight={temperature:.4g})) with "
        "likelihood=bbb.likelihoods.Categorical(). "
        "The Bayesian posterior has kl_weight=1.",
    )


def implied_noise_std(kl_weight: float, num_data: int, outputs: int, weights: int) -> float:
    """Compute the std of the noise that MSE + kl_weight·KL/P assumes, in units of y: √(kl_weight·N·D/(2P)).

    A negative ELBO with Gaussian noise of variance v is N·D·MSE/(2v) + KL + constant. Multiplied by kl_weight/P, its
    MSE has the factor 1 where v = kl_weight·N·D/(2P), for N rows, D outputs per row and P Gaussian weights.

    Raises:
        InputError: if kl_weight is not positive, or a count is below 1.

    Example:
        >>> import bbb
        >>> round(float(bbb.torchbnn.implied_noise_std(0.01, num_data=500, outputs=1, weights=3001)), 3)
        0.029
    """
    return float(explain_kl_weight(kl_weight, num_data, outputs, weights).noise_std)  # type: ignore[arg-type]
