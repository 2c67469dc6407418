"""How near a variational posterior is to the true one, by importance weights; and predictions of rows left out."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from bbb import checks, display
from bbb.core.jit import jit
from bbb.core.rows import count_rows, map_rows, some_rows
from bbb.data import data_for
from bbb.decide.model_checks.arguments import check_one_output, fits_memory, least_draws
from bbb.decide.model_checks.pareto import BAD, GOOD, arviz, log_sum, smoothed
from bbb.decide.model_checks.prior import with_held_prior
from bbb.errors import InputError, NonFiniteOutputError, fail
from bbb.likelihoods.per_member import PerMember
from bbb.likelihoods.protocol import log_prob_of_draws
from bbb.mcmc.target import log_prior
from bbb.model import BNN
from bbb.predictive.evaluation import draws as draws_of
from bbb.predictive.plan import check_rows, drawn_of
from bbb.tracing import purity

ROWS = 256
"""Rows of which all draws are held at once; where rows meet, all."""


LEAST = 100
"""Draws that the tail of the weights can be fitted to."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Importance(display.Displayed):
    """Importance weights of draws of a variational posterior; printed, they say in words how far it can be trusted.

    Attributes:
        k_hat: the shape of the tail of the weights: below 0.5 the posterior is near, above 0.7 it is not.
        log_weights: (draws,), smoothed, of which the weights sum to 1; draw i is draw i of `bbb.draws` with this key.
        ess: how many independent draws of the true posterior the weighted draws are worth.
        log_evidence: the estimate of log p(y) by the weights, in nats: but for chance no less than the ELBO, and to be
            trusted where k_hat is below 0.7.
        draws: how many.
        problems: sentences about what is bad and what to do; empty if nothing is.
    """

    k_hat: float
    log_weights: np.ndarray
    ess: float
    log_evidence: float
    draws: int
    problems: tuple[str, ...] = ()

    def _table_shown(self) -> display.Table:
        kind = "near the true one" if self.k_hat <= GOOD else "usable with weights" if self.k_hat <= BAD else "not near"
        rows = [
            ("k-hat", f"{self.k_hat:.2f}: the posterior is {kind}"),
            ("worth", f"{self.ess:,.0f} draws of the true posterior"),
            ("log evidence", f"{self.log_evidence:.5g} nats"),
        ]
        found = [("look at" if i == 0 else "", problem) for i, problem in enumerate(self.problems)]
        return display.Table(f"Importance weights of {display.counted(self.draws, 'draw')}", [*rows, *found])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LeaveOneOut(display.Displayed):
    """How well each row is predicted by the others; printed, it says in words which rows are not known.

    Attributes:
        elpd: the expected log predictive density of all rows, each given the others, in nats: higher is better.
        se: its standard error, from how much rows differ.
        p_loo: by how much it is below the log score of the rows that were seen: how many parameters the data determine.
        pointwise: (rows,), the parts of `elpd`.
        k_hat: (rows,), the shape of the tail of each row's weights: above 0.7 its part is not to be trusted.
        draws: how many.
        problems: sentences about what is bad and what to do; empty if nothing is.
    """

    elpd: float
    se: float
    p_loo: float
    pointwise: np.ndarray
    k_hat: np.ndarray
    draws: int
    problems: tuple[str, ...] = ()

    def _table_shown(self) -> display.Table:
        rows = [
            ("elpd", f"{self.elpd:.5g} ± {self.se:.2g} nats"),
            ("p_loo", f"{self.p_loo:.3g} parameters"),
            ("k-hat", f"{np.max(self.k_hat):.2f} at worst, {np.median(self.k_hat):.2f} at the median row"),
        ]
        found = [("look at" if i == 0 else "", problem) for i, problem in enumerate(self.problems)]
        title = f"Leave-one-out of {display.counted(len(self.pointwise), 'row')}, from {self.draws:,} draws"
        return display.Table(title, [*rows, *found])


def psis(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    draws: int = 4_000,
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
) -> Importance:
    """Judge a variational posterior by the importance weights p(y | x, w)·p(w)/q(w) of its draws.

    If it is the true posterior all weights are equal. The heavier the tail of the weights, the further it is: k-hat is
    the shape of a Pareto distribution fitted to it. In networks of many weights it is above 0.7 as a rule, also where
    the band is good, as hidden units may be exchanged and weights trade off: `audit` compares bands.

    Needs arviz-stats: `pip install '.[arviz]'` in a clone.

    Args:
        key: one typed JAX key; draw i is that of `bbb.draws` with this key.
        model: trained; linearised, its posterior is judged as one of the linearised network. A prior whose scales
            follow from the posterior counts at those.
        x: (rows, ...), all data it was trained on.
        y: observed there.
        draws: of the weights, at least 100.
        rows: "apart", or "together" for a network whose rows meet: see `bbb.predict`.
        memory: bound on the working memory.
        mesh: devices to spread draws and rows over.

    Raises:
        InputError: if arviz-stats is not installed.
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit; a prior without a
            density; a posterior that holds its draws, or whose members have noise or a linearisation of their own.
        NonFiniteOutputError: if a weight is NaN.

    Source: Yao et al. 2018, arXiv 1802.02538; Vehtari et al. 2024, arXiv 1507.02646.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> found = bbb.decide.psis(jax.random.key(2), model, task.x, task.y, draws=200)
        >>> found.draws, found.log_weights.shape
        (200, (200,))
    """
    checks.outside("psis", key=key, model=model, x=x, y=y)
    if getattr(getattr(model, "posterior", None), "holds_draws", False):
        do = "Ask the report of bbb.mcmc how far its chains agree; bbb.decide.loo takes them too."
        fail(InputError, "a posterior with a density, for psis", "draws, which are points", do)
    run = _Run.of("psis", key, model, x, y, draws, rows, memory, mesh)
    ratios = run.log_ratios + run.log_likelihood
    _check(ratios)
    log_weights, k_hat = smoothed(ratios[None])
    found = Importance(
        k_hat=float(k_hat[0]),
        log_weights=log_weights[0],
        ess=float(np.exp(-log_sum(2 * log_weights[0]))),
        log_evidence=float(log_sum(ratios)) - float(np.log(run.draws)),
        draws=run.draws,
    )
    return dataclasses.replace(found, problems=tuple(_problems(found.k_hat)))


def loo(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    draws: int = 4_000,
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
) -> LeaveOneOut:
    """Estimate how well each row is predicted by a model of all other rows, without training it again.

    The draws of the posterior get the weights of `psis`, which correct it, over the likelihood of the row, which leaves
    it out. Draws of `bbb.mcmc` need no correction. Where k-hat is above 0.7 the estimate of that row is not to be
    trusted; where the posterior itself is far from the true one this is so of all rows: hold rows out instead.

    Args:
        key: as for `psis`, and so are the others.
        model: as for `psis`, or one of `bbb.mcmc`.
        x: as for `psis`.
        y: observed there.
        draws: of the weights, at least 100; of a posterior that holds its draws, those.
        rows: as for `psis`.
        memory: as for `psis`.
        mesh: as for `psis`.

    Raises:
        InputError: if arviz-stats is not installed.
        KeyTypeError, InputError, ShapeError, NonFiniteInputError, NonFiniteOutputError: as `psis`.

    Source: Vehtari et al. 2017, arXiv 1507.04544; of a variational posterior, Magnusson et al. 2019, arXiv 1904.10679.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> found = bbb.decide.loo(jax.random.key(2), model, task.x, task.y, draws=200)
        >>> found.pointwise.shape
        (20,)
    """
    checks.outside("loo", key=key, model=model, x=x, y=y)
    run = _Run.of("loo", key, model, x, y, draws, rows, memory, mesh)
    base = run.log_ratios + (0 if model.posterior.holds_draws else run.log_likelihood)
    _check(base)
    of_all, k_of_all = smoothed(base[None])  # of draws that are held, all alike
    parts = [_left_out(base, of_all, block) for block in run.blocks()]
    pointwise, seen, k_hat = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = LeaveOneOut(
        elpd=float(np.sum(pointwise)),
        se=float(np.sqrt(len(pointwise)) * np.std(pointwise, ddof=1)) if len(pointwise) > 1 else float("inf"),
        p_loo=float(np.sum(seen - pointwise)),
        pointwise=pointwise,
        k_hat=k_hat,
        draws=run.draws,
    )
    return dataclasses.replace(found, problems=(*_problems(float(k_of_all[0])), *_problems_of_rows(k_hat)))


def _left_out(base: np.ndarray, of_all: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return elpd, log score and k-hat of rows, (rows,) each, of log p(y | draw), (draws, rows)."""
    log_weights, k_hat = smoothed(base[None] - block.T)
    return log_sum(log_weights + block.T), log_sum(of_all + block.T), k_hat


@dataclasses.dataclass(frozen=True)
class _Run:
    """The draws of a model, and its data in blocks of rows.

    Attributes:
        log_ratios: (draws,), log p(w) − log q(w) in nats; 0 of draws that are held.
        log_likelihood: (draws,), log p(y | x, w) of all rows.
        blocks: yields log p(y | x, w), (draws, rows), of one block of rows after the other.
        draws: how many.
    """

    log_ratios: np.ndarray
    log_likelihood: np.ndarray
    blocks: Callable[[], Iterator[np.ndarray]]
    draws: int

    @classmethod
    def of(
        cls, verb: str, key: Any, model: Any, x: Any, y: Any, draws: Any, rows: str, memory: Any, mesh: Any
    ) -> "_Run":
        """Check everything, draw, and evaluate the data once."""
        checks.key(key)
        check_one_output(model, verb)
        draws = least_draws(draws, LEAST, "to fit the tail of the weights to")
        check_rows(rows, "draws", mesh)
        arviz()
        held = model.posterior.holds_draws
        model = model if held else with_held_prior(model, verb)
        _check_members(model, verb)
        x, y = data_for(model, x, y, several=True)
        draws = _enough_held(model, draws)
        size = count_rows(y) if rows == "together" else min(count_rows(y), ROWS)
        left = fits_memory(_bytes_held(model, x, draws, size), f"{draws:,} draws at {size:,} rows", memory)
        evaluate = partial(draws_of, key, model, draws=draws, rows=rows, memory=left, mesh=mesh)
        blocks = _kept(partial(_blocks, model.likelihood, evaluate, x, y, size), 16 * draws * len(y) <= left)
        total = sum((np.sum(block, axis=1) for block in blocks()), np.zeros(draws))
        ratios = np.zeros(draws) if held else np.asarray(_log_ratios(key, model, draws=draws), np.float64)
        return cls(ratios, total, blocks, draws)


def _enough_held(model: BNN, draws: int) -> int:
    """Return how many draws are made of a posterior, or how many it holds.

    Raises:
        InputError: if it holds too few.
    """
    made, _, _ = drawn_of(model.posterior, draws)
    if made < LEAST:
        do = "Pass more draws to bbb.mcmc."
        fail(InputError, f"a posterior of at least {LEAST} draws", f"one that holds {made}", do)
    return made


def _bytes_held(model: BNN, x: Any, draws: int, size: int) -> int:
    """Return what the outputs and the log-likelihoods of all draws of a block of rows take, in bytes."""
    outputs = purity.output_shape(model.apply, model.posterior.component(0).params, x)
    of_row = math.prod(outputs.shape[1:])
    return draws * size * (2 * of_row * outputs.dtype.itemsize + 40)


def _kept(blocks: Callable[[], Iterator[np.ndarray]], keeps: bool) -> Callable[[], Iterator[np.ndarray]]:
    """Return a function that yields blocks that are held, if they fit the memory, or evaluates them again."""
    if not keeps:
        return blocks
    held = list(blocks())
    return lambda: iter(held)


def _blocks(
    likelihood: Any, evaluate: Callable[..., jax.Array], x: Any, y: jax.Array, size: int
) -> Iterator[np.ndarray]:
    """Yield log p(y | draw) in nats, (draws, rows), of blocks of rows; the last is padded, and cut again."""
    x, observed, n = map_rows(np.asarray, x), np.asarray(y), len(y)
    for start in range(0, n, size):
        index = np.minimum(np.arange(start, start + size), n - 1)
        nats = _log_probs(likelihood, jax.device_put(observed[index]), evaluate(some_rows(x, index)))
        yield np.asarray(nats, np.float64)[:, : n - start]


@jit
def _log_probs(likelihood: Any, y: jax.Array, outputs: jax.Array) -> jax.Array:
    return log_prob_of_draws(likelihood, y, outputs)


@partial(jit, static_argnames=("draws",))
def _log_ratios(key: jax.Array, model: BNN, *, draws: int) -> jax.Array:
    """Return log p(w) − log q(w) of each draw, (draws,), one after the other."""
    posterior = jax.tree.map(jnp.asarray, model.posterior)

    def one(i: jax.Array) -> jax.Array:
        member = posterior.component(i % posterior.components)
        weights = member.weights(member.noise(jax.random.fold_in(key, i)))
        return log_prior(model.prior, posterior.random_leaves(weights)) - posterior.log_prob(weights)

    return jax.lax.map(one, jnp.arange(draws, dtype=jnp.int32))


def _check_members(model: BNN, verb: str) -> None:
    """Raise for members that have no posterior in common.

    Raises:
        InputError: saying what each has of its own.
    """
    own = "a noise" if isinstance(model.likelihood, PerMember) else "a linearisation" if model.linearized else ""
    if model.members > 1 and own and not model.posterior.holds_draws:
        do = "Take one of them, model.member(k)."
        fail(InputError, f"one posterior, for {verb}", f"{model.members} members, each with {own} of its own", do)


def _check(ratios: np.ndarray) -> None:
    if not np.isfinite(ratios).all():
        got = f"{np.sum(~np.isfinite(ratios)):,} of {len(ratios):,} that are not"
        fail(NonFiniteOutputError, "finite log weights of all draws", got, "Train the model again, or in float64.")


def _problems(k_hat: float) -> Iterator[str]:
    """Say that a posterior is far from the true one, and what to do."""
    if not k_hat <= BAD:
        yield (
            f"k-hat is {k_hat:.2f}, above {BAD}: the posterior is far from the true one, and no weights correct it. "
            "Compare bands by bbb.decide.audit; for a posterior that is nearer, use bbb.laplace or bbb.mcmc.hmc."
        )


def _problems_of_rows(k_hat: np.ndarray) -> Iterator[str]:
    """Say how many rows are not known."""
    bad = ~(k_hat <= BAD)
    if bad.any():
        worst = int(np.argmax(np.where(np.isnan(k_hat), np.inf, k_hat)))
        yield (
            f"k-hat is above {BAD} for {np.sum(bad):,} of {display.counted(len(k_hat), 'row')}, the worst row {worst} "
            f"with {k_hat[worst]:.2f}: how they are predicted by the others is not known. Train without them to see."
        )
