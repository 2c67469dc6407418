"""What a model says before it has seen data: its prior predictive."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bbb import checks, display
from bbb.core.ability import implements
from bbb.core.tree import Tree, is_none, map_present, per_leaf, pytree_dataclass
from bbb.errors import InputError, fail
from bbb.mcmc.target import check_density, joined, log_prior
from bbb.model import BNN, check_model
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.predictive.api import predict
from bbb.priors.normal import Normal
from bbb.priors.protocol import SupportsDrawing, SupportsFitting


def prior_predict(
    key: jax.Array,
    model: BNN,
    x: Any,
    *,
    draws: int = 10_000,
    levels: Sequence[float] = (),
    quantiles: Sequence[float] = (),
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
) -> Any:
    """Summarise what a model predicts at each row of x before it has seen data: with weights from its prior.

    A prior is fit for its task where this band holds what is thought possible, and little else. The noise of y is that
    of the model as it is: at its start before training, as it was learned after it.

    Args:
        key: one typed JAX key; draws are those of `bbb.draws(key, at_prior(model), x)`.
        model: the Bayesian network, trained or not.
        x: (rows, ...), finite; as for `bbb.predict`.
        draws: how many draws of the weights.
        levels: intervals that will be wanted, such as (0.95,); see `bbb.predict` for these and what follows.
        quantiles: likewise, single quantiles.
        rows: "apart", or "together" for a network whose rows meet.
        memory: bound on the working memory.
        mesh: devices to spread draws and rows over.

    Returns:
        A `Predictive`, as `bbb.predict` returns it; of a network of several outputs, a tree of them.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, or a prior that
            cannot be drawn from: before any draw.
        NonFiniteOutputError: if an answer is NaN or infinite.

    Source: Gabry et al. 2019, arXiv 1709.01449, §3.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> band = bbb.prior_predict(jax.random.key(1), model, task.x, draws=100)
        >>> band.f.std.shape
        (20, 1)
    """
    checks.outside("prior_predict", key=key, model=model, x=x)
    how: dict[str, Any] = {"draws": draws, "levels": levels, "quantiles": quantiles}
    return predict(key, at_prior(model), x, method="draws", rows=rows, memory=memory, mesh=mesh, **how)


def at_prior(model: BNN) -> BNN:
    """Return a model as it was before it saw data: its posterior is its prior.

    `bbb.predict`, `bbb.draws` and all else that needs draws alone take it as any other. It is never linearised: far
    from one set of weights, a network is not near a line. Weights that are no random variables are those of the model,
    and a prior whose scales follow from the posterior counts at those scales. Of an ensemble, both, and the noise, are
    those of its first member.

    Raises:
        InputError: for what is no model, or a prior that cannot be drawn from.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> type(bbb.decide.at_prior(model).posterior).__name__
        'MeanField'
    """
    check_model(model)
    model = with_held_prior(model.member(0), "at_prior")
    posterior, prior = model.posterior, model.prior
    like = posterior.random_leaves(posterior.params)
    if isinstance(prior, Normal):
        drawn: Posterior = _gaussians(prior, posterior.params, like)
    else:
        _check_drawing(prior)
        fixed = jax.tree.map(lambda leaf, all_: all_ if leaf is None else None, like, posterior.params, is_leaf=is_none)
        drawn = FromPrior(prior, jax.tree.map(jnp.asarray, like), fixed)
    return dataclasses.replace(model, posterior=drawn, linearized=False)


def with_held_prior(model: BNN, verb: str) -> BNN:
    """Return the model with a prior of its own density: scales that follow from a Gaussian posterior are held.

    Raises:
        InputError: for a prior without a density, or whose scales follow from a posterior that is not Gaussian.
    """
    one = model.posterior.component(0)
    if implements(model.prior, SupportsFitting) and isinstance(one, GaussianPosterior):
        model = dataclasses.replace(model, prior=model.prior.fitted(one.marginals()))
    check_density(model.prior, verb)
    return model


def _check_drawing(prior: Any) -> None:
    """Raise for a prior that cannot be drawn from.

    Raises:
        InputError: naming what it lacks.
    """
    if not implements(prior, SupportsDrawing):
        do = "Take one of bbb.priors, or add sample_params(key, params), as bbb.priors.Prior describes it."
        expected = "a prior with `sample_params`, which at_prior needs"
        fail(InputError, expected, f"a {type(prior).__name__} without", do)


def _gaussians(prior: Normal, params: Tree, like: Tree) -> MeanField:
    """Return the Gaussians of a prior over the leaves of `like` that are not None; the rest are those of `params`."""
    means, stds = per_leaf("prior mean", prior.mean, like), per_leaf("prior std", prior.std, like)

    def mean(m: Any, leaf: Any) -> jax.Array:
        return jnp.asarray(leaf) if m is None else jnp.broadcast_to(m, leaf.shape)

    log_stds = jax.tree.map(lambda s, leaf: jnp.broadcast_to(jnp.log(s), leaf.shape), stds, like)
    return MeanField(jax.tree.map(mean, means, params, is_leaf=is_none), log_stds)


@pytree_dataclass(data=("prior", "like", "fixed"))
class FromPrior(display.Displayed, Posterior):
    """The distribution of a prior in the place of a posterior: draws alone, for a prior that is not Gaussian.

    Attributes:
        prior: one with `sample_params`.
        like: the leaves that are random, None in the place of the rest: shapes and dtypes count.
        fixed: the rest, with None in the place of what is random.
    """

    is_trainable = False

    prior: Any
    like: Tree
    fixed: Tree

    @property
    def params(self) -> Tree:
        """A tree that draws are like."""
        return joined(self.like, self.fixed)

    def noise(self, key: jax.Array) -> jax.Array:
        """Return a seed of the draw, (2,): its mirror image is another, so that antithetic draws are independent."""
        return jax.random.bits(key, (2,), np.uint32)

    def weights(self, noise: jax.Array) -> Tree:
        """Return the draw of a seed."""
        key = jax.random.wrap_key_data(noise, impl="threefry2x32")
        return joined(self.prior.sample_params(key, self.like), self.fixed)

    def log_prob(self, params: Tree) -> jax.Array:
        """Return log p(params), in nats: a scalar."""
        return log_prior(self.prior, self.random_leaves(params))

    def random_leaves(self, params: Tree) -> Tree:
        """Return the leaves of `params` that are random, with None in the others' place."""
        return map_present(lambda _, leaf: leaf, self.like, params)

    def with_params(self, params: Tree) -> "FromPrior":
        """Return the same distribution with the point estimates of `params`."""
        return FromPrior(self.prior, self.random_leaves(params), map_present(lambda _, leaf: leaf, self.fixed, params))

    def _table_shown(self) -> display.Table:
        weights = display.counted(sum(map(display.size, jax.tree.leaves(self.like))), "weight")
        return display.Table(f"The prior of {weights}", [("prior", display.part(self.prior))])
