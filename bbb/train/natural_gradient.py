"""IVON, a natural-gradient optimiser of independent Gaussians, for `fit(..., optimizer=bbb.train.ivon())`.

With the gradient G of the negative ELBO in nats, P = 1/std² the precision of a weight, ρ = 1 − beta2, and α the
learning rate, a step is

    P ← P·(1 + ρ·Gₛ + ½·ρ²·Gₛ²)        Gₛ the gradient in log_std
    m ← m − α·(average of Gₘ)/P         Gₘ the gradient in the mean

These are the steps of the paper in other words. Its Hessian estimate ĥ of the mean loss, for n rows and a prior
N(0, 1/(n·δ)), is g·(w − m)·P: because w = m + ε/√P, the gradient in log_std that training computes anyway is
n·ĥ/P from the data and n·δ/P − 1 from the KL. With P = n·(h + δ), P·Gₛ is therefore n·(ĥ − h), and its update of h is
that of P above. So nothing but the gradient is needed: any prior with a KL, any forward (a `local_reparam` has the same
expectation and less noise), any number of draws and any weight of the KL. `log_std` itself is the optimiser's memory
of the curvature.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bbb import checks
from bbb.core.tree import Tree, is_none, map_present
from bbb.errors import InputError, fail, short_repr
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior

OTHERS = optax.adam(1e-2)
"""What trains the parameters that have no Gaussian, unless another optimizer is passed."""


class IVONState(NamedTuple):
    """Steps done, the average of the gradient in the random means, and the state of the others' optimiser."""

    step: jax.Array
    average: Tree
    others: Tree


def ivon(
    learning_rate: float | Callable[[jax.Array], Any] = 0.3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.99,
    clip: float = 1.0,
    others: optax.GradientTransformation = OTHERS,
) -> optax.GradientTransformation:
    """Return the improved variational online Newton optimiser, for a model whose posterior is a `MeanField`.

    A step of a mean is in units of its own variance, so that one learning rate serves weights of any scale, and of a
    quadratic loss 1 is Newton's step. Standard deviations stay positive without a bound on the step. The average is of
    the gradient of the whole bound, where the paper leaves the prior's part out of it and adds it afterwards: at
    beta1 = 0 there is no difference.

    Args:
        learning_rate: α above, a number or a schedule from the step to one: the paper's α·(h₀ + δ).
        beta1: the memory of the average of the means' gradients: at least 0, below 1.
        beta2: the memory of the precisions, likewise. They follow the curvature of the last 1/(1 − beta2) steps.
        clip: the largest step of a mean before the learning rate, in its standard deviations; math.inf for the paper's
            own steps, which diverge where a precision has not yet grown to the curvature.
        others: what trains leaves that are point estimates, and the likelihood's noise if that is learned.

    Raises:
        InputError: for a number outside its range, or `others` that is not an optimiser; by `fit`, for a posterior that
            is not a `MeanField`.

    Source: Shen et al. 2024, arXiv 2402.17641, Algorithm 1; the step that keeps P positive is Lin et al. 2020, arXiv
    2002.10060, §4.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> how = {"steps": 20, "progress": False, "optimizer": bbb.train.ivon()}
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> history.loss.shape
        (20,)
    """
    checks.outside("ivon", learning_rate=learning_rate, beta1=beta1, beta2=beta2, clip=clip)
    if not callable(learning_rate):
        checks.one_number("learning_rate", learning_rate)
    _check_memory("beta1", beta1)
    _check_memory("beta2", beta2)
    if not (isinstance(clip, float) and clip == math.inf):
        checks.one_number("clip", clip)
    checks.has("others", others, ("init", "update"), "optax.adam(1e-2)")

    def init(params: Tree) -> IVONState:
        random, rest = _divided(params)
        return IVONState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, random), others.init(rest))

    def update(gradient: Tree, state: IVONState, params: Tree) -> tuple[Tree, IVONState]:
        slopes, rest_slopes = _divided(gradient)
        _, rest = _divided(params)
        count = state.step + 1
        average = jax.tree.map(lambda old, new: beta1 * old + (1 - beta1) * new, state.average, slopes)
        rate = learning_rate(state.step) if callable(learning_rate) else learning_rate

        def moved(posterior: MeanField, slope: MeanField, mean: Tree) -> MeanField:
            wider = jax.tree.map(lambda g: -0.5 * jnp.log1p(_series((1 - beta2) * g)), slope.log_std)

            def step(more: jax.Array, s: jax.Array, g: jax.Array) -> jax.Array:
                std = jnp.exp(s + more)
                corrected = g / (1 - beta1 ** count.astype(g.dtype))
                return (-rate * std * jnp.clip(std * corrected, -clip, clip)).astype(g.dtype)

            return MeanField(map_present(step, wider, posterior.log_std, mean), wider)

        rest_updates, rest_state = others.update(rest_slopes, state.others, rest)
        random_updates = [
            moved(posterior, slope, mean)
            for posterior, slope, mean in zip(_posteriors(params), _posteriors(gradient), average, strict=True)
        ]
        return _joined(rest_updates, random_updates), IVONState(count, average, rest_state)

    return optax.GradientTransformation(init, update)


def _series(a: jax.Array) -> jax.Array:
    """Return a + ½·a², above −1 whatever a is."""
    return a + 0.5 * jnp.square(a)


def _is_posterior(node: Tree) -> bool:
    return isinstance(node, Posterior)


def _posteriors(tree: Tree) -> list[MeanField]:
    """Return the posteriors of what is trained.

    Raises:
        InputError: if there is none, or one that is not a `MeanField`.
    """
    found = [node for node in jax.tree.leaves(tree, is_leaf=_is_posterior) if _is_posterior(node)]
    wrong = [type(node).__name__ for node in found if not isinstance(node, MeanField)]
    if wrong or not found:
        got = f"a {wrong[0]}" if wrong else "parameters without a posterior"
        do = "Train another posterior by optax.adam(1e-2)."
        fail(InputError, "a MeanField, whose weights are independent, to train by ivon", got, do)
    return found


def _divided(tree: Tree) -> tuple[list[Tree], Tree]:
    """Return the means of the Gaussians of each posterior, and the tree of all that has none, with None elsewhere."""
    random = [posterior.random_leaves(posterior.mean) for posterior in _posteriors(tree)]

    def rest(node: Tree) -> Tree:
        if not _is_posterior(node):
            return node
        points = jax.tree.map(lambda s, m: m if s is None else None, node.log_std, node.mean, is_leaf=is_none)
        return MeanField(points, jax.tree.map(lambda _: None, node.log_std))

    return random, jax.tree.map(rest, tree, is_leaf=_is_posterior)


def _joined(rest: Tree, random: list[MeanField]) -> Tree:
    """Return the updates of everything, from those of what has no Gaussian and of each posterior's Gaussians."""
    left = iter(random)

    def node(points: Tree) -> Tree:
        if not _is_posterior(points):
            return points
        update = next(left)
        mean = jax.tree.map(lambda u, p: p if u is None else u, update.mean, points.mean, is_leaf=is_none)
        return MeanField(mean, update.log_std)

    return jax.tree.map(node, rest, is_leaf=_is_posterior)


def _check_memory(name: str, value: Any) -> None:
    array = checks.real(name, value)
    if array.ndim or not 0 <= float(array) < 1:
        fail(
            InputError, f"{name} to be one number of at least 0 and below 1", short_repr(value), "Pass for example 0.9."
        )
