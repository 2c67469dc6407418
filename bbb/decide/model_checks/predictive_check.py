"""Posterior predictive checks: whether data look like what the model gives, by p-values that are uniform if they do."""

import dataclasses
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
from bbb.decide.model_checks.arguments import check_one_output, complete_data, fits_memory, least_draws
from bbb.decide.model_checks.statistics import Statistic, check_numbers, one_likelihood, statistics_of
from bbb.errors import NonFiniteOutputError, fail
from bbb.likelihoods.protocol import check_samples
from bbb.mixture.distribution import sample_y
from bbb.model import BNN
from bbb.posteriors.ensemble import Ensemble
from bbb.predictive.evaluation import draws as draws_of
from bbb.predictive.plan import check_rows, drawn_of
from bbb.tracing import purity

CHUNK = 100
"""Replications that are made at once: a constant, so that their numbers depend on nothing else."""


REFERENCE, CHOICE, TIES, OBSERVATIONS = (np.uint32(2**32 - i) for i in (20, 21, 22, 23))
"""What is folded into the key for the outputs that discrepancies are measured from, the choice of a member, the order
of ties, and the noise of observations: numbers that no chunk has."""


LEAST = 39
"""With fewer replications no p-value is below 0.05."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PredictiveCheck(display.Displayed):
    """Observed statistics among those of data that the model made; printed, it says in words which are strange.

    Attributes:
        names: of the statistics.
        observed: (statistics,), of the data.
        replicated: (draws, statistics), of data that the model made at the same rows.
        upper: (statistics,), the probability of a replicated statistic above the observed one; ties are broken by
            chance.
        p_values: (statistics,), of both sides, 2·min(upper, 1 − upper): uniform if the model is true.
        held_out: whether the model was not trained on the rows.
        problems: sentences, each about a statistic that is strange; empty if none is.
    """

    names: tuple[str, ...]
    observed: np.ndarray
    replicated: np.ndarray
    upper: np.ndarray
    p_values: np.ndarray
    held_out: bool
    problems: tuple[str, ...] = ()

    def _table_shown(self) -> display.Table:
        kind = "rows that were held out" if self.held_out else "rows of the training, given one draw of the weights"
        least = 2 / (len(self.replicated) + 1)  # what lies below is the chance that breaks ties
        texts = [f"p < {least:.2g}" if p < least else f"p = {p:.3f}" for p in self.p_values]
        rows = [(name, f"{texts[i]}, {self._figures(i)}") for i, name in enumerate(self.names)]
        found = [("look at" if i == 0 else "", problem) for i, problem in enumerate(self.problems)]
        nothing = [("look at", "nothing: the data look like what the model gives")]
        return display.Table(f"Predictive check on {kind}", [*rows, *(found or nothing)])

    def _figures(self, i: int) -> str:
        made = self.replicated[:, i]
        return f"observed {self.observed[i]:.4g}, by the model {made.mean():.4g} ± {made.std():.2g}"


def posterior_predictive_check(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: ArrayLike,
    *,
    held_out: bool,
    statistics: Any = None,
    draws: int = 1_000,
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
) -> PredictiveCheck:
    """Compare statistics of observations with those of data that the model makes at the same rows.

    The p-values are uniform if the model is true and its posterior exact, unlike those of the usual check, which
    replicates training rows by draws of all weights and so seldom finds anything: it uses the data twice.

    - Held-out rows: each replication has weights of its own. Given the training rows, observed and replicated y are
      drawn alike, so that the rank of the one among the others is uniform.
    - Rows of the training: all replications have the same one draw of the weights from the posterior. If weights and
      data are drawn from the model, a draw of the posterior and the data are so jointly, and the data given that draw
      are like the replications. Another key is another draw, and another p-value, as uniform as this one; their means
      are not.

    A posterior that is too wide or off shows too: a small p-value says that data, model and posterior do not fit. What
    `fit` estimated as a point, such as a learned noise, counts as known, so that its p-values are a little above.

    Args:
        key: one typed JAX key; it decides everything.
        model: trained.
        x: (rows, ...).
        y: observed there.
        held_out: whether the model was not trained on these rows. There is no default: the wrong answer makes p-values
            wrong.
        statistics: names; functions of y, (rows, ...), and of the network's outputs there, (rows, ...), by JAX, of one
            number; a list of both; or a dictionary of functions by name. Names are "mean", "std", "min", "max", "zeros"
            (their share), "log_prob", of classes "shares" (of the classes from those expected), and "autocorrelation"
            (of residuals of neighbouring rows). Outputs are those of the one draw; of held-out rows the mean of those
            of draws that are not replicated. By default those that fit the likelihood.
        draws: how many replications, at least 39; rounded up to whole hundreds. Of held-out rows and a posterior that
            holds its draws, one of each.
        rows: "apart", or "together" for a network whose rows meet: see `bbb.predict`.
        memory: bound on the working memory: of 100 replications at all rows, and of the network.
        mesh: devices to spread draws and rows over.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if a statistic is NaN or infinite.

    Source: of one draw, Johnson 2007, Bayesian Anal. 2, 719, and Gosselin 2011, PLoS ONE 6, e14770; of held-out rows
    Li & Huggins 2022, arXiv 2203.15897; why the usual p-values are not uniform, Meng 1994, Ann. Statist. 22, 1142.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> how = {"held_out": False, "draws": 100}
        >>> found = bbb.decide.posterior_predictive_check(jax.random.key(2), model, task.x, task.y, **how)
        >>> len(found.names) == len(found.p_values)
        True
    """
    checks.outside("posterior_predictive_check", key=key, model=model, x=x, y=y)
    checks.key(key)
    check_one_output(model, "posterior_predictive_check")
    check_samples(model.likelihood, "posterior_predictive_check")
    held_out = checks.boolean("held_out", held_out)
    draws = least_draws(draws, LEAST, "for p-values below 0.05")
    check_rows(rows, "draws", mesh)
    x, y = complete_data(model, x, y)
    likelihood = one_likelihood(model.likelihood)
    found = statistics_of(statistics, likelihood)
    outputs = purity.output_shape(model.apply, model.posterior.component(0).params, x)
    check_numbers(found, likelihood, y, outputs)
    made, _, _ = drawn_of(model.posterior, CHUNK)
    left = fits_memory(3 * made * outputs.size * outputs.dtype.itemsize, f"{made:,} replications at all rows", memory)
    evaluate = partial(draws_of, x=x, rows=rows, memory=left, mesh=mesh)
    if held_out:
        likelihood, reference, chunks = model.likelihood, _mean_outputs(key, model, evaluate), _own_weights
    else:
        model = _at_one_draw(key, model)
        likelihood = model.likelihood
        reference, chunks = evaluate(jax.random.fold_in(key, REFERENCE), model, draws=1)[0], _same_weights
    values = partial(_values, tuple(found.values()), one_likelihood(likelihood), reference)
    observed = np.asarray(values(y[None]))[0]
    parts = chunks(key, model, likelihood, evaluate, reference, draws)
    replicated = np.concatenate([np.asarray(values(part.astype(y.dtype))) for part in parts])
    return _result(key, tuple(found), observed, replicated, held_out)


def _mean_outputs(key: jax.Array, model: BNN, evaluate: Callable[..., jax.Array]) -> jax.Array:
    """Return the mean of the outputs over draws that are not replicated, (rows, ...)."""
    return jnp.mean(evaluate(jax.random.fold_in(key, REFERENCE), model, draws=CHUNK), axis=0)


def _at_one_draw(key: jax.Array, model: BNN) -> BNN:
    """Return the model of one component of its posterior, chosen at random: of points, of that point alone."""
    k = int(jax.random.randint(jax.random.fold_in(key, CHOICE), (), 0, model.members))
    if not model.posterior.holds_draws:
        return model.member(k)
    posterior: Any = model.posterior
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf[k], leaf[k]]), posterior.members)  # one point is no posterior
    return dataclasses.replace(model, posterior=Ensemble(twice))


def _own_weights(
    key: jax.Array, model: BNN, likelihood: Any, evaluate: Callable[..., jax.Array], reference: jax.Array, draws: int
) -> Iterator[jax.Array]:
    """Yield replications, (draws, rows, ...), each with weights of its own."""
    del reference
    chunk, _, _ = drawn_of(model.posterior, CHUNK)
    for c in range(1 if model.posterior.holds_draws else -(-draws // chunk)):
        own = jax.random.fold_in(key, c)
        yield sample_y(jax.random.fold_in(own, OBSERVATIONS), likelihood, evaluate(own, model, draws=chunk))


def _same_weights(
    key: jax.Array, model: BNN, likelihood: Any, evaluate: Callable[..., jax.Array], reference: jax.Array, draws: int
) -> Iterator[jax.Array]:
    """Yield replications, (draws, rows, ...), all with the outputs of one draw of the weights."""
    del model, evaluate
    outputs = jnp.broadcast_to(reference, (CHUNK, *reference.shape))
    for c in range(-(-draws // CHUNK)):
        yield sample_y(jax.random.fold_in(jax.random.fold_in(key, c), OBSERVATIONS), likelihood, outputs)


@partial(jit, static_argnames=("statistics",))
def _of_draws(likelihood: Any, reference: jax.Array, y: jax.Array, *, statistics: tuple[Statistic, ...]) -> jax.Array:
    def one(y: jax.Array) -> jax.Array:
        return jnp.stack([statistic(likelihood, y, reference) for statistic in statistics])

    return jax.vmap(one)(y)


def _values(statistics: tuple[Statistic, ...], likelihood: Any, reference: jax.Array, y: jax.Array) -> jax.Array:
    """Return the statistics of several y, (draws, rows, ...): (draws, statistics)."""
    return _of_draws(likelihood, reference, y, statistics=statistics)


def ranks(key: jax.Array, observed: np.ndarray, replicated: np.ndarray) -> np.ndarray:
    """Return the share of replicated values, (draws, ...), above the observed, (...), as if that were one of them.

    Ties are broken by chance, and a uniform number is added between the ranks, so that the share is uniform in (0, 1)
    if observed and replicated are drawn alike.
    """
    above, same = np.sum(replicated > observed, axis=0), np.sum(replicated == observed, axis=0)
    chance = np.asarray(jax.random.uniform(key, observed.shape, np.float32, 1e-7, 1 - 1e-7), float)
    return (above + chance * (same + 1)) / (len(replicated) + 1)


def _result(
    key: jax.Array, names: tuple[str, ...], observed: np.ndarray, replicated: np.ndarray, held_out: bool
) -> PredictiveCheck:
    """Return the check of observed statistics, (statistics,), and replicated ones, (draws, statistics)."""
    bad = ~(np.isfinite(observed) & np.isfinite(replicated).all(axis=0))
    if bad.any():
        name = names[int(np.argmax(bad))]
        fail(NonFiniteOutputError, f"the statistic '{name}' to be finite", "NaN or infinity", "Leave it out.")
    upper = ranks(jax.random.fold_in(key, TIES), observed, replicated)
    p_values = 2 * np.minimum(upper, 1 - upper)
    found = PredictiveCheck(names, observed, replicated, upper, p_values, held_out)
    return dataclasses.replace(found, problems=tuple(_problems(found)))


def _problems(found: PredictiveCheck) -> Iterator[str]:
    """Say which statistics are strange, at a level of 5 % for all of them together (Bonferroni)."""
    for i, name in enumerate(found.names):
        if found.p_values[i] * len(found.names) >= 0.05:
            continue
        side = "higher" if found.upper[i] < 0.5 else "lower"
        advice = ADVICE.get((name, side), "The likelihood, the network or the posterior does not fit in this respect.")
        yield f"The observed {name} is {side} than what the model gives ({found._figures(i)}). {advice}"


ADVICE = {
    ("std", "lower"): "The noise may be too large, or the posterior too wide.",
    ("std", "higher"): "The network may be too stiff, the noise too small, or the posterior too narrow.",
    ("min", "lower"): "Tails are longer than the likelihood's: try bbb.likelihoods.StudentT.",
    (
        "max",
        "higher",
    ): "Tails are longer than the likelihood's: try bbb.likelihoods.StudentT, of counts NegativeBinomial.",
    ("zeros", "higher"): "There are more zeros than the likelihood has: try bbb.likelihoods.NegativeBinomial.",
    ("autocorrelation", "higher"): "Residuals of neighbouring rows are alike: the network misses what they share.",
    ("log_prob", "lower"): "The data are stranger than the model expects: its noise or its posterior is too narrow.",
    ("log_prob", "higher"): "The data are closer to the function than the model expects: its noise is too large.",
    ("shares", "higher"): "Classes are seen more or less often than predicted.",
}
"""What a strange statistic may come from, by its name and side."""
