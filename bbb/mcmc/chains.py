"""Chains side by side in one compiled program: a warm-up that finds each its step, then the draws that are kept."""

import dataclasses
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bbb.core.jit import jit
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.mcmc.target import Target
from bbb.tracing.convolutions import channels_last

FIRST_STEP = 0.01
"""The step that the warm-up starts from, in standard deviations of the prior."""


LENGTHS = np.uint32(2**32 - 1)
"""What is folded into the key for the lengths of trajectories: a number that no chain has."""


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How a chain moves.

    Attributes:
        kind: "hmc", trajectories of about `most` steps; or "nuts", which turn back by themselves, after 2^most at most.
        most: see `kind`.
    """

    kind: str
    most: int

    def kernel(self) -> Any:
        """Return blackjax's transition of one chain."""
        return getattr(blackjax(), self.kind).build_kernel()

    def length(self, key: jax.Array) -> dict[str, Any]:
        """Return the argument that says how long a trajectory is; of "hmc" by chance, for all chains alike.

        Lengths of half to one and a half times `most` keep a trajectory from returning to where it began; one for all
        chains leaves none of them waiting.

        Source: Neal 2011, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, §5.3.2.
        """
        if self.kind == "nuts":
            return {"max_num_doublings": self.most}
        half = self.most // 2
        return {"num_integration_steps": jax.random.randint(key, (), self.most - half, self.most + half + 1)}


class Draws(NamedTuple):
    """What chains gave; leaves (draws, chains, ...) but for `step_size`, (chains,).

    Attributes:
        position: of each draw, (draws, chains, d).
        f: the function at the watched rows.
        acceptance: the mean probability that a trajectory is accepted.
        divergences: how many trajectories the integration of which failed.
        steps: how many steps of integration there were.
        step_size: of each chain, in standard deviations of the prior.
    """

    position: jax.Array
    f: jax.Array
    acceptance: jax.Array
    divergences: jax.Array
    steps: jax.Array
    step_size: jax.Array


def blackjax() -> ModuleType:
    """Return the library of samplers.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import blackjax  # noqa: PLC0415 - an extra, and it touches a device
    except ImportError:
        do = "Run pip install blackjax; or, in a clone of bbb, pip install '.[mcmc]'."
        fail(InputError, "the package blackjax", "an environment without it", do)
    return blackjax


def sample(
    key: jax.Array,
    target: Target,
    starts: jax.Array,
    fixed: Tree,
    accept: float,
    *,
    sampler: Sampler,
    warmup: int,
    draws: int,
    thin: int,
    large: bool,
) -> Draws:
    """Run a chain from each start, (chains, d); `fixed` holds the other leaves of each, with a leading axis of chains.

    Chain c's chance is that of `fold_in(key, c)`: it does not depend on how many others there are.
    """
    how: dict[str, Any] = {"sampler": sampler, "warmup": warmup, "draws": draws, "thin": thin}
    # whatever the user allows: the library of samplers promotes dtypes and ranks
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return _sample(key, target, starts, fixed, jnp.asarray(accept, starts.dtype), **how, large=large)


@partial(jit, static_argnames=("sampler", "warmup", "draws", "thin"))
@channels_last
def _sample(
    key: jax.Array,
    target: Target,
    starts: jax.Array,
    fixed: Tree,
    accept: jax.Array,
    *,
    sampler: Sampler,
    warmup: int,
    draws: int,
    thin: int,
) -> Draws:
    chains, d = starts.shape
    kernel, unit = sampler.kernel(), jnp.ones(d, starts.dtype)
    keys = jax.vmap(lambda c: jax.random.fold_in(key, c))(jnp.arange(chains, dtype=jnp.uint32))
    lengths = jax.random.fold_in(key, LENGTHS)

    def move(states: Any, steps: jax.Array, i: jax.Array) -> tuple[Any, Any]:
        """Move all chains by one trajectory, number i."""
        length = sampler.length(jax.random.fold_in(lengths, i))

        def one(key: jax.Array, state: Any, step: jax.Array, rest: Tree) -> tuple[Any, Any]:
            density = partial(target.log_density, fixed=rest)
            return kernel(jax.random.fold_in(key, i), state, density, step, unit, **length)

        return jax.vmap(one)(keys, states, steps, fixed)

    init = getattr(blackjax(), sampler.kind).init
    states = jax.vmap(lambda at, rest: init(at, partial(target.log_density, fixed=rest)))(starts, fixed)
    states, steps = _warmed(move, states, accept, warmup)

    def kept(states: Any, i: jax.Array) -> tuple[Any, tuple[jax.Array, ...]]:
        def again(states: Any, j: jax.Array) -> tuple[Any, tuple[jax.Array, ...]]:
            states, info = move(states, steps, warmup + i * thin + j)
            return states, (info.acceptance_rate, info.is_divergent, info.num_integration_steps)

        states, (accepted, diverged, many) = lax.scan(again, states, jnp.arange(thin, dtype=jnp.int32))
        f = jax.vmap(target.function)(states.position, fixed)
        count = jnp.broadcast_to(jnp.asarray(many, jnp.int32), accepted.shape)
        return states, (states.position, f, jnp.mean(accepted, 0), jnp.sum(diverged, 0), jnp.sum(count, 0))

    position, f, acceptance, divergences, many = lax.scan(kept, states, jnp.arange(draws, dtype=jnp.int32))[1]
    return Draws(position, f, acceptance, divergences, many, steps)


def _warmed(move: Any, states: Any, accept: jax.Array, warmup: int) -> tuple[Any, jax.Array]:
    """Move chains until each has its step: (chains,), of the acceptance that is wanted, by dual averaging.

    The metric stays that of the prior: a covariance of a few hundred draws of one chain, which follow each other, is
    too noisy for a better one.

    Source: Hoffman & Gelman 2014, arXiv 1111.4246, §3.2.
    """
    from blackjax.adaptation.step_size import dual_averaging_adaptation  # noqa: PLC0415 - see `blackjax`

    begin, update, end = dual_averaging_adaptation(accept)
    averages = jax.vmap(begin)(jnp.full(accept.shape + states.logdensity.shape, FIRST_STEP, accept.dtype))

    def step(carried: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
        states, averages = carried
        states, info = move(states, jnp.exp(averages.log_step_size), i)
        return (states, jax.vmap(update)(averages, info.acceptance_rate)), None

    (states, averages), _ = lax.scan(step, (states, averages), jnp.arange(warmup, dtype=jnp.int32))
    return states, jax.vmap(end)(averages)
