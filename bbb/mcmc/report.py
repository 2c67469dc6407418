"""Whether chains can be trusted: figures, and sentences about what is bad and what to do."""

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bbb import display
from bbb.core.jit import jit
from bbb.mcmc.chains import Draws, Sampler

RHAT, WORST_RHAT = 1.01, 1.05
"""The R-hat that the median row may have, and the worst one of many, whose figure is high by chance as well.

Source: Vehtari et al. 2021, arXiv 1903.08008, §2.1: 1.01.
"""


FEWEST, FAR, REFUSED, AT_LIMIT = 100, 1.0, 0.5, 0.05
"""The least effective sample size; the distance of a chain from the others, in standard deviations; the least
acceptance; and the largest share of trajectories that "nuts" cuts off."""


MOST_WEIGHTS = 1_000
"""How many weights the diagnostics look at; of more, as many that are spread evenly."""


MOST_APART = 1e6
"""The largest distance of a chain that is given: of one whose draws are all alike it is unbounded."""


class Diagnostics(NamedTuple):
    """R-hat and effective sample sizes of some quantities, (quantities,) each.

    Attributes:
        rhat: rank-normalised, of split chains: 1 where chains agree.
        ess_bulk: the effective sample size of the bulk.
        ess_tail: of the 5 % and the 95 % quantile, the lesser.
    """

    rhat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Report(display.Displayed):
    """What `bbb.mcmc` says of its chains; printed, it says in words what is bad.

    Hidden units may be exchanged without a change of the function, so that chains which agree on every function differ
    in weights: what counts is the R-hat of f, and that of the weights is information.

    Attributes:
        chains: how many.
        draws: how many of each were kept.
        warmup: trajectories of each before them.
        f: `Diagnostics` of the function at the watched rows, of every output.
        weights: of up to 1,000 weights.
        acceptance: (chains,), the mean probability that a trajectory is accepted.
        divergences: (chains,), how many trajectories could not be integrated.
        step_size: (chains,), in standard deviations of the prior.
        steps: (chains,), the mean number of steps of a trajectory.
        apart: (chains,), how far the mean of f of a chain is from the median of those of all, in standard deviations of
            the draws of one chain: the root mean square over the watched rows.
        problems: sentences, each about something that is bad and what to do; empty if nothing is.
    """

    chains: int
    draws: int
    warmup: int
    f: Diagnostics
    weights: Diagnostics
    acceptance: np.ndarray
    divergences: np.ndarray
    step_size: np.ndarray
    steps: np.ndarray
    apart: np.ndarray
    problems: tuple[str, ...] = ()

    def _table_shown(self) -> display.Table:
        title = f"{display.counted(self.chains, 'chain')} of {self.draws:,} draws, after {self.warmup:,} to warm up"
        f, acceptance = self.f, f"{float(np.mean(self.acceptance)):.2f}"
        rows = [
            ("R-hat of f", f"{_worst(f.rhat):.3f} at worst, {np.median(f.rhat):.3f} at the median row"),
            ("ESS of f", f"{np.min(f.ess_bulk):,.0f} at worst, {np.median(f.ess_bulk):,.0f} at the median row"),
            ("ESS of its tails", f"{np.min(f.ess_tail):,.0f} at worst"),
            ("R-hat of weights", f"{np.median(self.weights.rhat):.3f} at the median; hidden units may be exchanged"),
            ("acceptance", f"{acceptance}, {display.counted(int(np.sum(self.divergences)), 'divergence')}"),
            ("trajectory", f"{np.mean(self.steps):.0f} steps of {display.span(self.step_size)} prior sd"),
        ]
        bad = [("look at" if i == 0 else "", problem) for i, problem in enumerate(self.problems)]
        return display.Table(title, [*rows, *(bad or [("look at", "nothing: the chains agree")])])


def report_of(drawn: Draws, sampler: Sampler, warmup: int, thin: int) -> Report:
    """Return the report of what chains gave."""
    draws, chains, d = drawn.position.shape
    weights = drawn.position[:, :, np.unique(np.linspace(0, d - 1, min(d, MOST_WEIGHTS)).astype(int))]
    f = drawn.f.reshape(draws, chains, -1)
    of_f, of_weights = _diagnostics(f, weights)
    count = draws * thin
    found = Report(
        chains=chains,
        draws=draws,
        warmup=warmup,
        f=of_f,
        weights=of_weights,
        acceptance=np.asarray(jnp.mean(drawn.acceptance, axis=0)),
        divergences=np.asarray(jnp.sum(drawn.divergences, axis=0)),
        step_size=np.asarray(drawn.step_size),
        steps=np.asarray(jnp.sum(drawn.steps, axis=0)) / count,
        apart=_apart(np.asarray(f, float)),
    )
    cut = sampler.kind == "nuts" and float(np.mean(np.asarray(drawn.steps) >= thin * (2**sampler.most - 1)))
    return dataclasses.replace(found, problems=tuple(_problems(found, sampler, count, float(cut))))


def _diagnostics(*quantities: jax.Array) -> list[Diagnostics]:
    """Return the diagnostics of several arrays of quantities, (draws, chains, quantities) each, by blackjax.

    All are of one program: to compile it takes as long as the chains' own.
    """
    together = jnp.swapaxes(jnp.concatenate([part.astype(quantities[0].dtype) for part in quantities], axis=2), 0, 1)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = [np.asarray(part, float).reshape(-1) for part in _of_chains(together)]
    ends = np.cumsum([part.shape[2] for part in quantities])[:-1]
    return [Diagnostics(*parts) for parts in zip(*(np.split(part, ends) for part in found), strict=True)]


@jit
def _of_chains(quantities: jax.Array) -> tuple[jax.Array, ...]:
    from blackjax import diagnostics  # noqa: PLC0415 - an extra

    return diagnostics.rhat(quantities), diagnostics.ess_bulk(quantities), diagnostics.ess_tail(quantities)


def _apart(f: np.ndarray) -> np.ndarray:
    """Return how far each chain's mean is from the median of all means, in standard deviations of its draws."""
    means, within = f.mean(axis=0), np.sqrt(f.var(axis=0).mean(axis=0))
    off = np.abs(means - np.median(means, axis=0))
    away = off / np.maximum(within, off / MOST_APART + np.finfo(float).tiny)  # of a chain that never moved, the most
    return np.sqrt(np.mean(np.square(away), axis=1))


def _worst(rhat: np.ndarray) -> float:
    """Return the largest R-hat, NaN if one is: of what does not move it is not known."""
    return float(np.max(rhat))


def _problems(found: Report, sampler: Sampler, count: int, cut: float) -> Iterator[str]:
    """Say what is bad, and what to do."""
    yield from _about_trajectories(found, sampler, count, cut)
    worst, middle = _worst(found.f.rhat), float(np.median(found.f.rhat))
    if not (worst <= WORST_RHAT and middle <= RHAT):
        yield (
            f"The chains do not agree: R-hat of f is {worst:.3g} at worst and {middle:.3g} at the median row, where "
            f"{WORST_RHAT} and {RHAT} would do. Pass more warmup and draws, or longer trajectories."
        )
    for chain in np.flatnonzero(~(found.apart <= FAR)):
        yield (
            f"Chain {chain} stays apart: its mean of f is {found.apart[chain]:.3g} of its standard deviations away, as "
            "in another mode. Pass more warmup and draws; if it stays there, its share of the draws is that of its "
            "start, not of its probability."
        )
    least = float(min(np.min(found.f.ess_bulk), np.min(found.f.ess_tail)))
    if not least >= FEWEST:
        needed = f"draws={math.ceil(found.draws * FEWEST / least / 10) * 10:,} or more" if least > 1 else "more draws"
        yield (
            f"The draws are worth few: {least:.0f} independent ones at the worst row, where {FEWEST} would do. "
            f"Pass {needed}, or thin=2 to keep as many."
        )


def _about_trajectories(found: Report, sampler: Sampler, count: int, cut: float) -> Iterator[str]:
    diverged = int(np.sum(found.divergences))
    if diverged:
        yield (
            f"{diverged:,} of {count * found.chains:,} trajectories diverged: where the density bends sharply, "
            "draws are missing. Pass accept=0.95, for smaller steps, or more warmup."
        )
    for chain in np.flatnonzero(~(found.acceptance >= REFUSED)):
        yield (
            f"Chain {chain} rejects what it tries: its acceptance is {found.acceptance[chain]:.2f}. "
            "Pass more warmup, for a step that fits, or train its start for longer."
        )
    if cut > AT_LIMIT:
        yield (
            f"{cut:.0%} of trajectories end at 2^{sampler.most} steps before they turn. "
            f"Pass doublings={sampler.most + 1}, or take bbb.mcmc.hmc, which has no need of a turn."
        )
