"""Pruning: weights that the posterior does not tell from 0 are set to 0.

Source: Blundell et al. 2015, arXiv 1505.05424, the pruning of the MNIST classifier by signal-to-noise ratio.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from bbb import checks
from bbb.core.tree import Tree, is_none
from bbb.errors import InputError, ShapeError, fail
from bbb.model import BNN, check_model
from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_gaussians, marginals

Pruned = TypeVar("Pruned", GaussianPosterior, Ensemble)


def signal_to_noise(posterior: Posterior) -> Tree:
    """Return the signal-to-noise ratio of every weight, `10·log10(|mean|/std)`, in decibels.

    Returns:
        A tree like `posterior.params`, of NumPy arrays in float64; −inf where a mean is 0, None for a point estimate.
        Of an ensemble, arrays have a leading axis of members.

    Raises:
        InputError: for what is not a Gaussian posterior.

    Example:
        >>> import bbb, jax
        >>> params = {"weight": jax.numpy.ones((2, 3)), "bias": jax.numpy.zeros(2)}
        >>> ratio = bbb.evaluate.signal_to_noise(bbb.MeanField.around(params, std=0.1))
        >>> float(ratio["weight"].max().round(1))  # decibels
        10.0
    """
    check_gaussians(posterior, "signal_to_noise")
    checks.untraced("signal_to_noise", posterior=posterior)
    alone = marginals(posterior, "signal_to_noise")

    def leaf(log_std: Tree, mean: Tree) -> np.ndarray | None:
        if log_std is None:
            return None
        size, log_std = np.abs(np.asarray(mean, np.float64)), np.asarray(log_std, np.float64)
        with np.errstate(divide="ignore"):
            return 10 * (np.log(size) - log_std) / np.log(10)

    return jax.tree.map(leaf, alone.log_std, alone.mean, is_leaf=is_none)


def prune(posterior: Pruned, fraction: float) -> Pruned:
    """Set the share `fraction` of the weights with the lowest signal-to-noise ratio to 0, over the whole network.

    Each member of an ensemble is a network of its own, and loses its own share: member k of what is returned is what
    pruning member k alone would give. With one threshold over all, a member that is less sure of its weights would
    lose more of them.

    A pruned weight has mean 0 exactly, and the least std whose square its dtype holds (1e-19 in float32): it moves no
    prediction, and sampling, densities, closed forms, gradients and files still work, as they would not with a std of
    0. Its KL to a prior, of 43 nats in float32 for a unit normal, says how far that std was lowered and no more.
    Training on from here would widen it again.

    Args:
        posterior: the trained posterior, or an ensemble of them; point estimates are left as they are, and not counted.
        fraction: from 0 to 1; round(fraction · weights) weights are pruned, of each member.

    Raises:
        InputError: for a fraction outside [0, 1], or what is not a Gaussian posterior.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> posterior = bbb.MeanField.around({"weight": jnp.array([0.5, 1.0, -2.0])}, std=0.1)
        >>> bbb.evaluate.prune(posterior, 1 / 3).mean["weight"].tolist()
        [0.0, 1.0, -2.0]
    """
    check_gaussians(posterior, "prune")
    checks.outside("prune", posterior=posterior, fraction=fraction)
    _check_fraction(fraction)
    mask = _lowest(signal_to_noise(posterior), fraction, posterior.components)
    return posterior.pruned(mask)


def pruning_curve(model: BNN, fractions: Sequence[float] | np.ndarray, measure: Callable[[BNN], Any]) -> np.ndarray:
    """Measure a model at each fraction of pruned weights: (fractions,), such as its accuracy.

    Args:
        model: the trained model; of an ensemble, each member loses that fraction.
        fractions: shares of the weights, rising, from 0 to 1, such as (0, 0.5, 0.75, 0.9).
        measure: a function of a model, such as
            `lambda model: metrics.accuracy(y, bbb.predict(key, model, x).y.probabilities)`.

    Raises:
        InputError: for fractions outside [0, 1] or out of order, before any is measured.
    """
    check_model(model)
    checks.outside("pruning_curve", model=model, fractions=fractions)
    checks.function("measure", measure, "Pass a function of a model that gives a number.")
    if np.ndim(fractions) != 1:
        do = "Pass for example (0, 0.5, 0.75, 0.9)."
        fail(ShapeError, "fractions in a list", f"{fractions!r}", do)
    for fraction in fractions:
        _check_fraction(fraction)
    if len(fractions) == 0 or any(later <= earlier for earlier, later in itertools.pairwise(fractions)):
        got, do = str([float(fraction) for fraction in fractions]), "Pass for example (0, 0.5, 0.75, 0.9)."
        fail(InputError, "fractions in rising order, at least one", got, do)
    trained: Any = model.posterior
    posteriors = (prune(trained, fraction) for fraction in fractions)
    return np.array([float(measure(dataclasses.replace(model, posterior=pruned))) for pruned in posteriors])


def _lowest(ratios: Tree, fraction: float, members: int) -> Tree:
    """Mark the share `fraction` of all elements that is lowest, of each member: a tree of bools like `ratios`."""
    leaves, structure = jax.tree.flatten(ratios)
    if not leaves:
        return ratios
    flat = np.concatenate([leaf.reshape(members, -1) for leaf in leaves], axis=1)
    marked = np.zeros(flat.shape, bool)
    lowest = np.argsort(flat, axis=1, kind="stable")[:, : round(fraction * flat.shape[1])]
    np.put_along_axis(marked, lowest, True, axis=1)
    parts = np.split(marked, np.cumsum([leaf.size // members for leaf in leaves])[:-1], axis=1)
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def _check_fraction(fraction: float) -> None:
    checks.not_negative("fraction", fraction)
    if fraction > 1:
        do = "Pass for example fraction=0.75."
        fail(InputError, "a fraction from 0 to 1", f"{fraction:g}", do)
