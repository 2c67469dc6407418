"""`hmc` and `nuts`: from a trained model to draws of its posterior."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.jit import jit
from bbb.core.noise import SMALL, at_least_float32
from bbb.core.rows import count_rows
from bbb.core.tree import Tree, count, is_none, widest_dtype
from bbb.data import data_for, rows_for, weights_for
from bbb.errors import InputError, fail
from bbb.likelihoods.per_member import PerMember
from bbb.mcmc import chains as chains_module
from bbb.mcmc.chains import Draws, Sampler
from bbb.mcmc.report import Report, report_of
from bbb.mcmc.target import Target, check_density, scale_of
from bbb.model import BNN, check_model
from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.point import Point
from bbb.tracing import purity
from bbb.tracing.memory import activation_bytes

WATCHED = 200
"""Rows of the data at which chains are compared, unless told; of more, as many that are spread evenly."""


FEWEST_DRAWS = 4
"""Two in each half of a chain, which is what R-hat compares."""


def hmc(
    key: jax.Array,
    model: BNN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    draws: int = 200,
    warmup: int = 300,
    chains: int | None = None,
    steps: int = 100,
    thin: int = 1,
    accept: float = 0.8,
    watch: ArrayLike | None = None,
    memory: int | str = "2GB",
    sample_weight: ArrayLike | None = None,
) -> tuple[BNN, Report]:
    """Sample the posterior by Hamiltonian Monte Carlo, from chains that start at trained weights.

    The target is the posterior itself: the likelihood of all rows times the prior, of all random weights. Point
    estimates stay what they are, and so do the likelihood's learned parameters: of members with noise of their own, at
    the mean of the members' (of logarithms, where those are learned). A chain that starts at a mode needs a few hundred
    trajectories to leave it, where one from the prior needs thousands.

    The result's posterior is an `Ensemble` of points, one for each draw that was kept, with draw j of chain c at place
    j · chains + c. `predict`, `draws`, `save` and `export` take it as any other, and evaluate each once; errors are
    those of batch means.

    Args:
        key: one typed JAX key; it decides everything. What chain c does is a function of it, c and its start.
        model: trained, best `fit(..., restarts=8)` at the mean: its members are where chains start.
        x: (rows, ...), the data it was trained on, all of which is evaluated at every step. Rows may meet.
        y: observed there.
        draws: how many to keep of each chain.
        warmup: trajectories of each before them, in which it leaves its start and finds its step.
        chains: how many; by default the members of the model, or 4 of one posterior. Chain c starts at the mean of
            member c % members, and beyond the members' number at a draw of it; of a linearised model, at the mean.
        steps: of a trajectory, on average: from half to one and a half times as many. In units of the prior the step is
            found to be some 0.005 for 80 rows of little noise, so that 100 steps are half a standard deviation.
        thin: trajectories for each draw that is kept.
        accept: the acceptance that steps are chosen for; nearer to 1 they are smaller.
        watch: rows, (n, ...), at which the function of the chains is compared; by default up to 200 of x. Rows between
            the data, where chains mix more slowly, say more.
        memory: bound on the working memory, such as "2GB": of the draws, thrice; the watched function; and gradients.
        sample_weight: (rows,), finite and at least 0: how often each row counts, as in `fit`; by default once.

    Returns:
        The model of the draws, and the `Report` on the chains.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, a prior without a
            density of its own, too little memory, or a density at the start that is not finite: before any draw.
        InputError: if blackjax is not installed.

    Source: Neal 2011, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo; for networks, Izmailov
    et al. 2021, arXiv 2104.14421.
    """
    sampler = Sampler("hmc", checks.positive_integer("steps", steps))
    data, options = _Rows(x, y, watch, sample_weight), _Options(draws, warmup, chains, thin, accept, memory)
    return _sampled("hmc", key, model, data, sampler, options)


def nuts(
    key: jax.Array,
    model: BNN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    draws: int = 200,
    warmup: int = 300,
    chains: int | None = None,
    doublings: int = 8,
    thin: int = 1,
    accept: float = 0.8,
    watch: ArrayLike | None = None,
    memory: int | str = "2GB",
    sample_weight: ArrayLike | None = None,
) -> tuple[BNN, Report]:
    """Sample the posterior by the no-U-turn sampler, from chains that start at trained weights.

    As `hmc`, but that trajectories double their length until they turn back. In networks they seldom do before their
    limit, and every chain waits for the longest, so that `hmc` is the first choice.

    Args:
        key: as for `hmc`.
        model: as for `hmc`.
        x: as for `hmc`.
        y: as for `hmc`.
        draws: as for `hmc`.
        warmup: as for `hmc`.
        chains: as for `hmc`.
        doublings: of a trajectory, at most, from 1 to 15: 2^doublings − 1 steps.
        thin: as for `hmc`.
        accept: as for `hmc`.
        watch: as for `hmc`.
        memory: as for `hmc`.
        sample_weight: as for `hmc`.

    Returns:
        The model of the draws, and the `Report` on the chains.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: as `hmc`.

    Source: Hoffman & Gelman 2014, arXiv 1111.4246; multinomial, as Betancourt 2017, arXiv 1701.02434, §A.3.
    """
    sampler = Sampler("nuts", checks.positive_integer("doublings", doublings, maximum=15))
    data, options = _Rows(x, y, watch, sample_weight), _Options(draws, warmup, chains, thin, accept, memory)
    return _sampled("nuts", key, model, data, sampler, options)


class _Rows(NamedTuple):
    """The data, and rows to watch, as a user gave them."""

    x: Any
    y: Any
    watch: Any
    sample_weight: Any


class _Options(NamedTuple):
    """What both samplers take."""

    draws: int
    warmup: int
    chains: int | None
    thin: int
    accept: float
    memory: int | str

    def checked(self) -> "_Options":
        """Return the options as plain numbers.

        Raises:
            InputError: naming the one that is none.
        """
        draws = checks.positive_integer("draws", self.draws)
        if draws < FEWEST_DRAWS:
            do = f"Pass draws={FEWEST_DRAWS} or more: the halves of a chain are compared."
            fail(InputError, f"draws of at least {FEWEST_DRAWS}", f"{draws}", do)
        chains = None if self.chains is None else checks.positive_integer("chains", self.chains)
        warmup, thin = (checks.positive_integer(name, getattr(self, name)) for name in ("warmup", "thin"))
        accept = checks.probability("accept", self.accept, example=0.8)
        return _Options(draws, warmup, chains, thin, accept, checks.memory(self.memory))


def _sampled(
    verb: str, key: jax.Array, model: BNN, data: _Rows, sampler: Sampler, options: _Options
) -> tuple[BNN, Report]:
    """Check everything, run the chains, and make a model and a report of their draws."""
    checks.key(key)
    options = options.checked()
    check_model(model)
    checks.outside(verb, key=key, model=model, **data._asdict())
    if model.posterior.holds_draws:
        do = "Pass the model that the chains started from; with more draws, or another key."
        fail(InputError, f"a model that was trained, for {verb}", f"{model.members:,} draws, which are points", do)
    check_density(model.prior, verb)
    x, y = data_for(model, data.x, data.y, several=True)
    weights = weights_for(model, data.sample_weight, count_rows(y))
    chains = options.chains or (model.members if model.members > 1 else 4)
    starts, fixed = _starts(key, model, chains)
    target = dataclasses.replace(_target(model, x, y, data.watch), sample_weight=weights)
    _check_memory(model, target, chains, options)
    chains_module.blackjax()
    at = jax.vmap(target.position)(starts)
    _check_start(target, at, fixed, model.members)
    how: dict[str, Any] = {"warmup": options.warmup, "draws": options.draws, "thin": options.thin}
    large = count(target.like) * chains > SMALL
    drawn = chains_module.sample(key, target, at, fixed, options.accept, sampler=sampler, **how, large=large)
    return _model_of(model, target, drawn, fixed), report_of(drawn, sampler, options.warmup, options.thin)


def _starts(key: jax.Array, model: BNN, chains: int) -> tuple[Tree, Tree]:
    """Return the random leaves where chains start, and the others; each with a leading axis of chains."""
    posterior, members = jax.tree.map(jnp.asarray, model.posterior), model.members

    def start(c: int) -> tuple[Tree, Tree]:
        one = posterior.component(c % members)
        at_mean = c < members or model.linearized
        params = one.params if at_mean else one.weights(one.noise(jax.random.fold_in(key, c)))
        random = one.random_leaves(params)
        fixed = jax.tree.map(lambda leaf, whole: whole if leaf is None else None, random, params, is_leaf=is_none)
        return random, fixed

    random, fixed = zip(*map(start, range(chains)), strict=True)
    return tuple(jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts) for parts in (random, fixed))


def _target(model: BNN, x: jax.Array, y: jax.Array, watch: ArrayLike | None) -> Target:
    """Return what is sampled: with the mean of the members' likelihoods, where they have several."""
    one = model.posterior.component(0)
    like = one.random_leaves(one.params)
    likelihood: Any = model.likelihood
    if isinstance(likelihood, PerMember):
        likelihood = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), likelihood.likelihood)
    dtype = at_least_float32(widest_dtype(like))
    if watch is None:
        rows = count_rows(y)
        watched = jnp.asarray(np.unique(np.linspace(0, rows - 1, min(rows, WATCHED)).round().astype(np.int32)))
    else:
        watched = rows_for(model, "watch", watch)
        purity.output_shape(model.apply, one.params, watched)
    scale = scale_of(model.prior, like, dtype)
    return Target(model.apply, like, scale, model.prior, likelihood, x, y, watched, watch is None)


def _check_memory(model: BNN, target: Target, chains: int, options: _Options) -> None:
    """Raise if draws and gradients take more than the memory that is given; nothing is computed."""
    params, itemsize = model.posterior.component(0).params, target.scale.dtype.itemsize
    outputs = purity.output_shape(model.apply, params, target.x)
    kept = chains * options.draws
    of_function = count_rows(target.watched) * math.prod(outputs.shape[1:])
    held = kept * (3 * count(params) + 6 * of_function) * itemsize
    needed = held + chains * (4 * activation_bytes(model.apply, params, target.x) + 20 * len(target.scale) * itemsize)
    limit = int(options.memory)
    if needed > limit:
        what = f"{kept:,} draws of {count(params):,} weights and gradients of {chains:,} chains"
        do = "Pass more memory, or fewer draws, each of which may be worth more with thin=10."
        fail(InputError, f"memory of at least {needed:,} bytes for {what}", f"{limit:,}", do)


@jit
def _densities(target: Target, at: jax.Array, fixed: Tree) -> jax.Array:
    """Return whether density and gradient of each chain are finite: (chains,)."""

    def one(at: jax.Array, rest: Tree) -> jax.Array:
        nats, slope = jax.value_and_grad(target.log_density)(at, rest)
        return jnp.isfinite(nats) & jnp.isfinite(slope).all()

    return jax.vmap(one)(at, fixed)


def _check_start(target: Target, at: jax.Array, fixed: Tree, members: int) -> None:
    """Raise if the density, or its gradient, is NaN or infinite where a chain starts."""
    bad = np.flatnonzero(~np.asarray(_densities(target, at, fixed)))
    if len(bad):
        member = f" of member {bad[0] % members}" if members > 1 else ""
        got = f"NaN or infinity at the start of chain {bad[0]}, the weights{member}"
        fail(InputError, "a finite log density and gradient where chains start", got, "Train the model again.")


def _model_of(model: BNN, target: Target, drawn: Draws, fixed: Tree) -> BNN:
    """Return the model of the draws: draw j of chain c at place j · chains + c."""
    draws, chains, d = drawn.position.shape
    random = jax.vmap(target.random)(drawn.position.reshape(draws * chains, d))
    rest = jax.tree.map(lambda leaf: jnp.tile(leaf, (draws,) + (1,) * (leaf.ndim - 1)), fixed)
    posterior = Ensemble(Point(random, rest))
    return dataclasses.replace(model, posterior=posterior, likelihood=target.likelihood, linearized=False)
