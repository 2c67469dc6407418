"""The predictive: many draws of the network in one compiled program, and their summary."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh

from bbb import checks
from bbb.core.ability import implements
from bbb.core.tree import Tree
from bbb.devices import hosts
from bbb.errors import InputError, fail
from bbb.forwards.linearization import check_gaussian
from bbb.likelihoods.protocol import SupportsGaussianNoise, check_predicts, check_quantiles
from bbb.model import BNN, check_model
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.predictive.closed_form import closed_form
from bbb.predictive.estimates import Estimate, Moments, stretch
from bbb.predictive.evaluation import of_heads, tiles
from bbb.predictive.finite import check_finite, check_summary
from bbb.predictive.plan import NETS, check_draws, check_held, check_rows, placed, placed_over, plan_of
from bbb.predictive.running import join, marginal_of, summaries
from bbb.predictive.summary import ClassMarginal, Predictive, lone_column, resolved, tails

if TYPE_CHECKING:
    from bbb.predictive.plan import Plan


def predict(
    key: jax.Array,
    model: BNN,
    x: Any,
    *,
    method: str | None = None,
    draws: int | str = 10_000,
    tolerance: float | None = None,
    sampling: str = "independent",
    levels: Sequence[float] = (),
    quantiles: Sequence[float] = (),
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
    partition: Tree = None,
) -> Any:
    """Summarise the predictive distribution at each row of x.

    Draw i is `model.forward(fold_in(key, i), model.posterior, x)`: the same weights for every row, and the same numbers
    for every setting of `memory`. A row has the same answer alone, among others and in another order, up to rounding:
    other numbers of rows may be other programs. Only the error of a quantile of y may move by a few hundredths of
    itself, where the draws make separate peaks. Of an ensemble of K members, draw i is of member i % K, and each has as
    many: `draws` is rounded up to a multiple of K. A posterior that holds its draws, as that of `bbb.mcmc` does, has no
    others: each is evaluated once, whatever `draws` is, and errors are those of batch means.

    Args:
        key: one typed JAX key.
        model: the Bayesian network.
        x: (rows, ...), finite; any number of rows. Or a tree of such arrays, as the network takes it: see `fit`.
        method: "draws"; "last_layer", draws of all layers but the last, which is integrated out in closed form, so that
            fewer draws give the same error; or "moments", no draws at all: see `bbb.moments.moments` for what is exact.
            Both closed forms need a Gaussian likelihood. The quantiles of "moments" are those of a Gaussian of that
            mean and std. Of a linearised model (`BNN.linearized`) "moments" is exact, and so are its quantiles but for
            those of an ensemble; each output of a row takes one reverse-mode derivative. "last_layer" is refused there.
            The default is "draws"; but "moments", which reads neither `key` nor `draws`, for a linearised model of one
            Gaussian posterior and a Gaussian likelihood, where nothing asks for draws: no draws="auto",
            sampling="antithetic" or "sobol", rows="together", mesh or partition.
        draws: how many draws of the weights; or "auto", as many as `tolerance` needs.
        tolerance: with "auto", the largest Monte Carlo standard error allowed at any row, in units of y, of the means,
            the standard deviations and the quantiles asked for, of f and of y.
        sampling: "independent" draws; or "antithetic" ones, where draw 2i + 1 mirrors draw 2i (its noise has the other
            sign). Mirrored draws estimate means better, and spreads a little worse; the errors given account for it.
            Of an ensemble of K, the second K draws of each 2K mirror the first. Or "sobol", for a Gaussian posterior of
            at most 21,201 random numbers a draw: scrambled Sobol points, which fill the space of the weights evenly
            (randomised quasi-Monte Carlo; Owen 1997, Ann. Statist. 25, 1541). They come in 8 to 15 nets of a power of
            two, to which `draws` is rounded up; errors are those of the means of the nets. The smaller the network, the
            more is gained: of 10,000 draws, each was worth 1,100 independent ones for the mean of a network of 61
            weights and 11 for its std, 7 for the mean of 1,021 weights, and no more than one for that of 3,001
            (`python -m benchmarks.sampling`).
        levels: intervals that will be wanted, such as (0.95,). Needed where the draws are too many to keep.
        quantiles: likewise, single quantiles, such as (0.1, 0.9).
        rows: "apart", where the network answers each row by itself, which lets rows be cut into tiles; or "together",
            for one whose rows meet, such as by a mean over rows: all rows at once, without padding, by draws and
            without a mesh.
        memory: bound on the working memory, in bytes or such as "512MB": of draws, weights and the network's own
            arrays, which are counted before anything is computed. Draws are kept, so that any quantile can be asked
            for later, if they fit in a quarter of it. With a mesh, each device may take as much.
        mesh: devices to spread the draws over, along an axis "draws", and the rows, along an axis "rows"; either may be
            absent. Without one, all devices of this process share the draws. Draws and quantiles are the same numbers
            on any mesh. One of several hosts is called alike in all their processes, and so is a quantile that is asked
            for later; each gets all of the answer.
        partition: for parameters too large for one device, a tree, of `jax.sharding.PartitionSpec`, that is a prefix of
            the parameters; its names are further axes of the mesh. Sums are then cut, and results the same to rounding.

    Returns:
        A `Predictive`; of a network of several outputs, a tree of them like the likelihoods': each from the same draws.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        InputError, ShapeError: for a mesh of other axes, or a partition that does not fit.
        InputError: if "auto" would need more than `MAX_DRAWS` draws.
        NonFiniteOutputError: if an answer is NaN or infinite in the dtype of the outputs; it names the first row.
        HostError: if another process of several is lost, as far as JAX reports that.
        UnknownPrimitiveError: if a closed form does not know an operation of the network.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, steps=20, progress=False)
        >>> band = bbb.predict(jax.random.key(2), model, task.x, draws=100)
        >>> band.f.mean.shape, band.y.interval(0.95).lower.shape
        ((20, 1), (20, 1))
        >>> bool((band.y.std > band.f.std).all())
        True
    """
    check_model(model)
    if model.joint is not None:
        how: dict[str, Any] = {"method": method, "draws": draws, "tolerance": tolerance, "sampling": sampling}
        how |= {"levels": levels, "quantiles": quantiles, "rows": rows, "memory": memory}
        how |= {"mesh": mesh, "partition": partition}
        return of_heads(partial(predict, key, x=x, **how), model)
    traceable = "model.forward or bbb.moments.moments(model.apply)"
    checks.outside("predict", traceable, key=key, model=model, x=x, tolerance=tolerance)
    over_draws: dict[str, Any] = {"draws": draws, "tolerance": tolerance, "sampling": sampling, "rows": rows}
    over_draws |= {"mesh": mesh, "partition": partition}
    wanted, method = checked_options(model, method=method, levels=levels, quantiles=quantiles, **over_draws)
    if method == "moments":
        return closed_form(model, plan_of(key, model, x, 1, sampling, memory, method), checks.memory(memory))
    over = placed_over(mesh, partition)
    laid = model if over is None else placed(model, over, partition)

    def with_draws(count: int) -> Predictive:
        plan = plan_of(key, model, x, count, sampling, memory, method, over, rows)
        with hosts.joined(over):
            return _predict(key, laid, plan, tuple(sorted({resolved(p, plan.outputs.dtype) for p in wanted})))

    if draws != "auto":
        return with_draws(draws)  # type: ignore[arg-type]
    return _until(with_draws, float(tolerance), wanted, even=sampling == "sobol")  # type: ignore[arg-type]


def checked_options(
    model: BNN,
    *,
    method: Any,
    draws: Any,
    tolerance: Any,
    sampling: Any,
    levels: Any,
    quantiles: Any,
    rows: Any,
    mesh: Any,
    partition: Any,
) -> tuple[list[float], str]:
    """Check the options of `predict` against a model of one output; return the quantiles they ask for, and the method.

    Raises:
        InputError: for an option that does not fit the model or the others.
    """
    wanted = [p for level in checks.levels("level", levels) for p in tails(level)]
    wanted += checks.levels("quantile", quantiles)
    check_predicts(model.likelihood, "predict", bool(wanted))
    plain = checks.is_word(sampling, ("independent",)) and checks.is_word(rows, ("apart",))
    one_device = mesh is None and partition is None
    method = _method_of(method, model, plain and one_device and not checks.is_word(draws, ("auto",)))
    check_draws(draws, tolerance, sampling)
    check_held(model.posterior, method, draws, sampling)
    check_rows(rows, method, mesh)
    if method == "moments":
        if draws == "auto":
            fail(InputError, "no tolerance with a closed form", f"{tolerance:g}", "Leave both out.")
        if not one_device:
            fail(InputError, "no mesh with a closed form", "one", 'Leave it out, or pass method="draws".')
    return wanted, method


FIRST_DRAWS, MAX_DRAWS = 1_000, 1_024_000
"""Where draws="auto" begins, and where it gives up."""


MIN_BEYOND, MAX_FIRST_DRAWS = 5, 64_000
"""How many draws its first guess has beyond each quantile that is wanted, unless they were more than so many in all."""


METHODS = ("draws", "last_layer", "moments")


def has_exact_moments(model: BNN) -> bool:
    """Return whether predictions are exact without draws: of a linearised model and a Gaussian posterior and noise."""
    gaussian = isinstance(model.posterior, GaussianPosterior) and implements(model.likelihood, SupportsGaussianNoise)
    return model.linearized and gaussian


def _method_of(method: Any, model: BNN, may_be_closed: bool) -> str:
    """Return the method that is asked for, after checking it, or the default: a closed form that assumes nothing."""
    adds_noise = implements(model.likelihood, SupportsGaussianNoise)
    if method is None:
        return "moments" if may_be_closed and has_exact_moments(model) else "draws"
    if not checks.is_word(method, METHODS):
        fail(InputError, f"method to be one of {', '.join(METHODS)}", repr(method), "Pass one of them.")
    if method != "draws" and not adds_noise:
        got, do = f"{type(model.likelihood).__name__} with method={method!r}", 'Pass method="draws".'
        fail(InputError, "a likelihood that adds Gaussian noise to the outputs", got, do)
    if model.linearized and method == "last_layer":
        do = 'Pass method="moments", which is exact, or dataclasses.replace(model, linearized=False).'
        fail(InputError, "draws or moments of a linearised model", f"method={method!r}", do)
    if model.linearized and method == "moments":
        check_gaussian(model.posterior.component(0))
    if not (model.linearized or model.posterior.holds_draws) and method != "draws":
        _check_factorises(model.posterior.component(0), method)
    return str(method)


def _check_factorises(posterior: Any, method: str) -> None:
    """Raise for a posterior whose weights depend on each other, for which there is no closed form.

    Raises:
        InputError: naming the method that there is for it.
    """
    if not getattr(posterior, "factorises", False):
        expected = f"a posterior of independent weights, such as a MeanField, for {method}"
        got = f"a {type(posterior).__name__}, whose weights depend on each other"
        fail(InputError, expected, got, 'Pass method="draws".')


def _until(
    with_draws: Callable[[int], Predictive], tolerance: float, wanted: Sequence[float], *, even: bool
) -> Predictive:
    """Draw until every Monte Carlo error is within the tolerance: a first guess, then what it says is needed.

    Numbers of draws are 1,000 times a power of two, so that few programs are compiled. More draws hold the fewer.
    The error of a quantile is itself an estimate: it counts with twice its own noise on top, and the first guess has a
    few draws beyond each quantile, so that no error that happens to be small ends the search. Each error of even
    draws, of Sobol points, comes from the means of few nets and counts likewise; it may fall as fast as n⁻³ᐟ².
    """
    farthest = min((min(p, 1 - p) for p in wanted), default=0.5)
    draws = FIRST_DRAWS
    while draws * farthest < MIN_BEYOND and draws < MAX_FIRST_DRAWS:
        draws *= 2
    while True:
        predictive = with_draws(draws)
        known = 1 / math.sqrt(2 * NETS) if even else 0.0
        noise = [known, known, *(max(known, stretch(p, predictive.draws).noise) for p in wanted)]
        errors = [
            (float(np.max(error)), share)
            for marginal in (predictive.f, predictive.y)
            for error, share in zip(marginal.mcse(wanted), noise, strict=False)  # classes have one error alone
        ]
        worst = max(error for error, _ in errors)
        surely = max(error * (1 + 2 * share) for error, share in errors)
        if surely <= tolerance or (draws == MAX_DRAWS and worst <= tolerance):
            return predictive
        needed = draws * (worst / tolerance) ** (2 / 3 if even else 2)
        if needed > MAX_DRAWS:
            fail(
                InputError,
                f"a tolerance that {MAX_DRAWS:,} draws can reach",
                f"{tolerance:g}, which needs about {needed:,.0f} (the worst error of {draws:,} draws is {worst:.3g})",
                "Pass a larger tolerance.",
            )
        draws = min(MAX_DRAWS, draws * 2 ** max(1, math.ceil(math.log2(needed / draws))))


def _predict(key: jax.Array, model: BNN, plan: "Plan", ps: tuple[float, ...]) -> Predictive:
    """Evaluate tile by tile, keep what fits, and join what each tile gave."""
    kept, parts = [], []
    for pieces, rows in tiles(key, model, plan):
        parts.append(summaries(model, plan, pieces, rows, moments_too=True, f_ps=ps, y_ps=ps))
        if plan.keeps:
            kept.append((pieces, rows))
        del pieces  # before the next tile is evaluated, not after
    found = join(parts)
    check_summary(model, found)

    def later(which: str) -> Any:
        def compute(p: float) -> Estimate:
            if which == "y":
                check_quantiles(model.likelihood, "a quantile of y")
            asked = {f"{which}_ps": (p,)}
            again = join([summaries(model, plan, pieces, rows, **asked) for pieces, rows in kept])
            found = getattr(again, f"{which}_quantiles")[0]
            check_finite(model, f"the quantiles of {which}", found[0])
            return found

        return compute if plan.keeps else None

    f = marginal_of(found.f, plan.draws, dict(zip(ps, found.f_quantiles, strict=True)), later("f"))
    if isinstance(found.y, Moments):
        y: Any = marginal_of(found.y, plan.draws, dict(zip(ps, found.y_quantiles, strict=True)), later("y"))
    else:
        y = ClassMarginal(**found.y._asdict(), draws=plan.draws)
    return Predictive(f, y, plan.draws, plan.method, x=lone_column(plan.x))
