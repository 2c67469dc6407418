"""The Bayesian neural network: a network, a posterior over its weights, a prior and a likelihood.

A network is a function `apply(params, x) -> outputs`. One that behaves otherwise in training, such as one with batch
normalisation or dropout, is an object that has besides

    train(params, x, key) -> (outputs, updates)    updates: a tree like params, None where nothing changes
    state(params) -> tree of bools                 True for leaves that only these updates change, such as statistics

and `fit` uses them; without `state`, no leaf is one. State may be integers. Everything else calls `apply`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from bbb import checks, display
from bbb.core import process
from bbb.core.tree import Tree, cast, is_floating, names, pytree_dataclass, widest_dtype
from bbb.errors import InputError, fail
from bbb.forwards.linearization import Linearized, linearized
from bbb.forwards.sampling import WeightSampling, weight_sampling
from bbb.likelihoods.joint import Joint, as_likelihood, head_of
from bbb.likelihoods.per_member import PerMember
from bbb.likelihoods.protocol import Likelihood, check_likelihood
from bbb.networks import adapters
from bbb.networks.protocol import by_value, refuse_hidden_state, state_of
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_random
from bbb.priors.divergence import check_fits
from bbb.priors.protocol import AnyPrior, Prior, check_prior
from bbb.tracing.canonical import canonical
from bbb.tracing.network import Apply
from bbb.where import Where, leaves_where


@pytree_dataclass(data=("posterior", "prior", "likelihood"), static=("apply", "linearized"))
class BNN(display.Displayed):
    """A Bayesian neural network, as `bayesianize` makes it; a pytree.

    Attributes:
        apply: the network, `apply(params, x) -> outputs`.
        posterior: the distribution over its parameters, such as a `MeanField`, or an `Ensemble` of several.
        prior: what the parameters were believed to be before the data.
        likelihood: what an observation looks like, given outputs.
        linearized: whether predictions are of the network linearised in its weights around the posterior's mean, as
            `dataclasses.replace(model, linearized=True)` makes them: see `bbb.forwards.linearized`. Training is of the
            network itself.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model.members, model.linearized
        (1, False)
        >>> type(model.posterior).__name__
        'MeanField'
    """

    apply: Apply
    posterior: Posterior
    prior: Prior
    likelihood: Likelihood
    linearized: bool = False

    def __post_init__(self) -> None:
        """Make arrays of the numbers of the prior and the likelihood: JAX compiles for each of the two kinds."""
        for name in ("prior", "likelihood"):
            object.__setattr__(self, name, _without_numbers(getattr(self, name), self.posterior))

    @property
    def forward(self) -> WeightSampling | Linearized:
        """The network with random weights that predictions are of: itself, or linearised around the mean."""
        return linearized(self.apply) if self.linearized else weight_sampling(self.apply)

    @property
    def members(self) -> int:
        """How many posteriors it holds: those of `fit(..., restarts=K)`, else 1."""
        return self.posterior.components

    def member(self, k: int) -> "BNN":
        """Return the model of one posterior of several, with the noise it learned.

        Raises:
            InputError: if there is no such member.
        """
        if not isinstance(k, int | np.integer) or not 0 <= k < self.members:
            fail(InputError, f"a member from 0 to {self.members - 1}", f"{k!r}", "Pass one of them.")
        if not self.posterior.is_mixture:
            return self
        likelihood: Any = self.likelihood
        if isinstance(likelihood, PerMember):
            likelihood = likelihood.of_member(k)
        return dataclasses.replace(self, posterior=self.posterior.component(k), likelihood=likelihood)

    @property
    def joint(self) -> Joint | None:
        """The likelihood of a network of several outputs, of one member if each has its own; None for one output."""
        given: Any = self.likelihood
        given = given.likelihood if isinstance(given, PerMember) else given
        return given if isinstance(given, Joint) else None

    def head(self, path: str) -> "BNN":
        """Return the model of one output of several, such as "price": with the same weights, so the same draws.

        Raises:
            InputError: for a network of one output, or a path that is none.
        """
        if self.joint is None:
            do = "Use the model itself."
            fail(InputError, "a model of several outputs, which has a tree of likelihoods", "one of one output", do)
        apply, likelihood = head_of(self.apply, self.joint, path)
        if isinstance(self.likelihood, PerMember) and jax.tree.leaves(likelihood):
            likelihood = PerMember(likelihood)
        return dataclasses.replace(self, apply=apply, likelihood=likelihood)

    def _table_shown(self) -> display.Table:
        parts = (("posterior", self.posterior), ("prior", self.prior), ("likelihood", self.likelihood))
        rows = [("network", display.network(self.apply)), *((name, display.part(value)) for name, value in parts)]
        if self.linearized:
            rows.append(("predictions", "of the network linearised in its weights around the posterior's mean"))
        return display.Table("BNN, a Bayesian neural network", rows)


INITIAL_STD = 0.02
"""The standard deviation a posterior starts with, unless told: small, so that training starts as that of the plain
network does, yet within reach of 1 in a few hundred Adam steps of 0.01 on its logarithm."""


def bayesianize(
    apply: Any,
    params: Tree = None,
    *,
    prior: AnyPrior,
    likelihood: Likelihood | Mapping[str, Likelihood] | tuple[Likelihood, ...],
    std: Tree = INITIAL_STD,
    where: Where | None = None,
    posterior: Callable[[Tree, Tree, Tree], GaussianPosterior] = MeanField.around,
) -> BNN:
    """Return a Bayesian network: the parameters of a network as Gaussians, centred on `params`.

    Args:
        apply: the network, `apply(params, x) -> outputs`; x and outputs have one leading row axis. Or another
            library's own object: a flax.linen module, a flax.nnx or equinox model, or what `haiku.transform` gave (see
            `bbb.networks.adapters`, which also has their options).
        params: its parameters, any tree of floating-point arrays; for linen the variables, for haiku the params or
            (params, state), for equinox the state if there is one, for nnx nothing.
        prior: such as `bbb.priors.Normal(0.0, 1.0)`.
        likelihood: such as `bbb.likelihoods.Gaussian(std=0.5, learn=True)`; of a network that returns a tree of arrays,
            a tree of likelihoods: see `bbb.likelihoods.Joint`.
        std: the posterior's standard deviations at the start: a number, or a tree that is a prefix of `params`.
        where: which leaves become Bayesian, by default all; the others stay point estimates, which are trained, but
            have no Gaussian. One or several glob patterns for the leaf's path or the end of it (`"kernel"`,
            `"Dense_1/*"`); a function of a path and its leaf; or a tree of bools that is a prefix of `params`. A
            network's state, such as running statistics, is never among them.
        posterior: makes the posterior of the parameters, the std and a tree of bools, such as the default
            `MeanField.around`.

    Raises:
        InputError: if a parameter is not floating point or not finite, is of float16 or was deleted, a std is not
            positive, or `where` picks nothing.
        ShapeError: if `std`, `where` or a tree of the prior is not a prefix of `params`.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model.posterior.mean["weight"].shape, model.members
        ((1, 1), 1)
    """
    process.process()
    apply, params = adapters.network(apply, params) or (apply, params)
    checks.network(apply)
    check_prior(prior)
    observation: Any = as_likelihood(likelihood)
    check_likelihood(observation)
    for name, part in (("the prior", prior), ("the likelihood", observation)):
        checks.alive(name, part)
    apply = canonical(by_value(apply), "The network")
    checks.hashable("apply", apply)
    checks.function("posterior", posterior, "Pass for example bbb.MeanField.around.")
    refuse_hidden_state(apply, params)
    state = state_of(apply, params)
    checks.parameters("params", params, state)
    start = posterior(params, std, leaves_where(where, params, state))
    check_random(start, "a model")
    check_fits(prior, start)
    dtype = widest_dtype(start.params)
    model = BNN(apply, start, _floats(prior, dtype), _floats(observation, dtype))
    check_numbers(model)
    return model


def check_model(model: Any) -> None:
    """Raise for what is not a `BNN`, or one in which nothing is random."""
    process.process()
    checks.is_a("model", model, BNN, "Pass what bbb.bayesianize or bbb.fit gave.")
    checks.alive("model", model)
    checks.boolean("linearized", model.linearized)
    check_random(model.posterior, "a model")


def check_numbers(model: BNN) -> None:
    """Raise for finite numbers that lead to infinities, in the dtype that is used: what no reader may accept either.

    A mean, and a standard deviation, must have a square; a standard deviation must not be 0, and a variance that a
    network keeps not be negative. Tracers pass.

    Raises:
        InputError: naming the leaf.
    """
    for path, leaf in zip(names(model), jax.tree.leaves(model), strict=True):
        if isinstance(leaf, jax.core.Tracer) or not is_floating(leaf) or not leaf.size:
            continue
        part, *inner = path.split("/")
        array = np.asarray(leaf)  # JAX would compile a program for each shape
        lowest, highest = float(np.min(array)), float(np.max(array))
        limits, root = jnp.finfo(leaf.dtype), math.sqrt(float(jnp.finfo(leaf.dtype).max))
        least, most = -math.inf, math.inf
        if part == "posterior" and inner[model.posterior.is_mixture] in model.posterior.logarithms:
            least, most = math.log(float(limits.smallest_subnormal)), math.log(root)
        elif part == "posterior":
            least, most = (0.0 if inner[-1] == "running_var" else -root), root
        elif part == "likelihood" and inner and inner[-1] in _LOGARITHMS:
            least, most = math.log(float(limits.smallest_subnormal)), math.log(root)
        if not (least <= lowest and highest <= most):
            bad = lowest if lowest < least else highest
            do = "It leads to infinities or zeros: train the model again with data and a start of moderate size."
            fail(InputError, f"'{path}' to be from {least:.4g} to {most:.4g}", f"{bad:g}", do)


_LOGARITHMS = ("log_std", "log_scale", "log_df_above_2", "log_dispersion")
"""What likelihoods of the library hold the logarithm of."""


def _without_numbers(part: Any, posterior: Posterior) -> Any:
    """Return a part of a model whose numbers are arrays of the parameters' dtype."""

    def is_number(leaf: Any) -> bool:
        return isinstance(leaf, bool | int | float | np.generic) or (isinstance(leaf, jax.Array) and leaf.weak_type)

    if not any(map(is_number, jax.tree.leaves(part))):
        return part
    dtype = widest_dtype(posterior.params)
    return jax.tree.map(lambda leaf: cast(leaf, dtype) if is_number(leaf) else leaf, part)


def _floats(tree: Tree, dtype: DTypeLike) -> Tree:
    return jax.tree.map(lambda leaf: cast(leaf, dtype), tree)
