"""Ascent of the evidence in the scales, as one compiled program: it never falls."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bbb.core.jit import jit
from bbb.core.tree import Tree
from bbb.curvature.evidence import evidence, log_joint
from bbb.curvature.problem import Form, Problem
from bbb.tracing.convolutions import channels_last
from bbb.tuning.scales import Groups, Scales, flat, unflat, with_std

MOST = 2.0
"""The largest change of any logarithm of a scale in one update."""


SHORTEST = 1e-4
"""The share of a step below which no shorter one is tried."""


class Members(NamedTuple):
    """What the problems of several members do not share; leaves have a leading axis of members."""

    params: Tree
    random: Tree
    likelihood: Tree


class Path(NamedTuple):
    """The updates of an ascent, the start first; of the `steps + 1` entries, those after `updates` are 0.

    Attributes:
        scales: (steps + 1, scales), each as one vector.
        nats: the evidence of all members, (steps + 1,).
        updates: how many updates were made.
        fine: whether each row of data of each member had a finite Gauss-Newton at the start.
    """

    scales: jax.Array
    nats: jax.Array
    updates: jax.Array
    fine: jax.Array


class _State(NamedTuple):
    """Where an ascent stands: BFGS, with `inverse` the estimate of minus the inverse Hessian of the evidence.

    `unit` is the estimate that it began with, and `begun` says whether the start was measured.
    """

    at: jax.Array
    nats: jax.Array
    slope: jax.Array
    inverse: jax.Array
    unit: jax.Array
    share: jax.Array
    path: Path
    tries: jax.Array
    begun: jax.Array
    going: jax.Array


@partial(jit, static_argnames=("groups", "form", "structure", "steps"))
@channels_last
def ascend(
    problem: Problem,
    members: Members,
    std: Tree,
    start: Scales,
    *,
    groups: Groups,
    form: Form,
    structure: str,
    steps: int,
) -> Path:
    """Raise the evidence of all members by at most `steps` updates of BFGS, each of which raises it.

    The first is MacKay's, of whose size the later ones start. One that does not raise the evidence is made shorter.
    It ends where the next one promises less than the rounding of the evidence.

    Source: MacKay 1992, "Bayesian interpolation", Neural Comput. 4, 415, eq. 4.9: 1/std² = γ/|w|², with γ the effective
    number of weights; Nocedal & Wright 2006, Numerical Optimization, chapter 6.
    """
    total = partial(_total, problem, members, std, start, groups)
    measure = partial(total, partial(evidence, form=form, structure=structure, near=True))
    first = flat(start)
    joint = jax.grad(lambda vector: total(lambda one: (log_joint(one), ()), vector)[0])(first)
    counts = _counts(start, groups, problem, members, form)

    def body(state: _State) -> _State:
        """Try an update; the first time measure the start, so that the long program of the evidence is in it once."""
        (direction, gain), share, begins = _direction(state), state.share, ~state.begun
        at = state.at + share * direction
        nats, pulled, fine = jax.vjp(measure, at, has_aux=True)
        last = state.begun & (state.path.updates + 1 == steps)  # nobody asks for its slope, which takes as long
        slope = lax.cond(last, lambda: jnp.zeros_like(at), lambda: pulled(jnp.ones_like(nats))[0])
        up = begins | ((nats >= state.nats) & jnp.isfinite(nats) & jnp.isfinite(slope).all())
        i = state.path.updates + (up & state.begun).astype(jnp.int32)
        path = Path(
            scales=state.path.scales.at[i].set(jnp.where(up, at, state.at)),
            nats=state.path.nats.at[i].set(jnp.where(up, nats, state.nats)),
            updates=i,
            fine=jnp.where(begins, fine, state.path.fine),
        )
        unit = jnp.where(begins, _inverse(counts, joint, slope), state.unit)
        inverse = jnp.where(up & state.begun, _updated(state.inverse, at - state.at, state.slope - slope), unit)
        tiny = 4 * jnp.finfo(nats.dtype).eps * (1 + jnp.abs(nats))
        going = jnp.where(up, i < steps, share / 4 > SHORTEST) & (gain > tiny) & (state.tries < 3 * steps)
        return _State(
            at=jnp.where(up, at, state.at),
            nats=jnp.where(up, nats, state.nats),
            slope=jnp.where(up, slope, state.slope),
            inverse=inverse,
            unit=unit,
            share=jnp.where(up, jnp.ones_like(share), share / 4),
            path=path,
            tries=state.tries + state.begun.astype(jnp.int32),
            begun=jnp.ones_like(begins),
            going=jnp.where(begins, jnp.isfinite(nats), going),
        )

    before = _before(first, jax.eval_shape(measure, first), steps)
    return lax.while_loop(lambda state: state.going, body, before).path


def _before(first: jax.Array, measured: tuple[jax.ShapeDtypeStruct, ...], steps: int) -> _State:
    """Return the state before the start is measured, whose slope is 0, so that nothing moves."""
    (nats, fine), count = (jnp.zeros(part.shape, part.dtype) for part in measured), len(first)
    none, still, square = jnp.zeros((), jnp.int32), jnp.zeros_like(first), jnp.zeros((count, count), first.dtype)
    path = Path(jnp.zeros((steps + 1, count), first.dtype), jnp.zeros(steps + 1, nats.dtype), none, fine)
    one = jnp.ones((), first.dtype)
    return _State(first, nats, still, square, square, one, path, none, jnp.zeros((), bool), jnp.ones((), bool))


def _total(
    problem: Problem,
    members: Members,
    std: Tree,
    start: Scales,
    groups: Groups,
    of_problem: Callable[[Problem], tuple[jax.Array, Tree]],
    vector: jax.Array,
) -> tuple[jax.Array, Tree]:
    """Return the sum over the members of a number of nats under scales as one vector, and the rest of each member."""
    scales = unflat(vector, start)
    prior = with_std(problem.prior, groups.scaled(std, scales.log_factors, problem.random))

    def of_member(part: tuple[Members, Tree]) -> tuple[jax.Array, Tree]:
        member, learned = part
        replaced: Any = {
            "params": member.params,
            "random": member.random,
            "likelihood": member.likelihood if learned is None else learned,
        }
        return of_problem(dataclasses.replace(problem, prior=prior, **replaced))

    nats, rest = lax.map(of_member, (members, scales.likelihoods))
    return jnp.sum(nats), rest


def _direction(state: _State) -> tuple[jax.Array, jax.Array]:
    """Return the step, of at most `MOST` in each scale, and the gain of nats that it promises."""
    direction = state.inverse @ state.slope
    upward = (direction @ state.slope > 0) & jnp.isfinite(direction).all()
    direction = jnp.where(upward, direction, state.unit @ state.slope)
    gain = 0.5 * direction @ state.slope
    return direction * jnp.minimum(1, MOST / jnp.max(jnp.abs(direction))), gain


def _updated(inverse: jax.Array, moved: jax.Array, fell: jax.Array) -> jax.Array:
    """Return the BFGS update of the inverse by a step and by how much the slope fell along it.

    Source: Nocedal & Wright 2006, Numerical Optimization, eq. 6.17.
    """
    curved = moved @ fell
    fine = curved > 1e-8 * jnp.linalg.norm(moved) * jnp.linalg.norm(fell)
    rho = 1 / jnp.where(fine, curved, 1)
    left = jnp.eye(len(moved), dtype=moved.dtype) - rho * jnp.outer(moved, fell)
    return jnp.where(fine, left @ inverse @ left.T + rho * jnp.outer(moved, moved), inverse)


def _counts(start: Scales, groups: Groups, problem: Problem, members: Members, form: Form) -> jax.Array:
    """Return how many weights, or observations, each scale belongs to."""
    dtype = start.log_factors.dtype
    count = jax.tree.leaves(members.params)[0].shape[0]
    weights = count * groups.weights(problem.random).astype(dtype)
    observations = jnp.sum(problem.real) * form.outputs  # of rows as often as they count
    shares = [count / leaf.size for leaf in jax.tree.leaves(start.likelihoods) for _ in range(leaf.size)]
    return jnp.concatenate([weights, observations * jnp.asarray(shares, dtype)])


def _inverse(counts: jax.Array, joint: jax.Array, slope: jax.Array) -> jax.Array:
    """Return the inverse that BFGS starts with: diagonal, of which the first step is MacKay's.

    The slope of the log density of y and the weights in the logarithm of a scale is a − n, for n of them whose squares
    in units of the scale sum to a; that of the evidence is a − γ, with γ ≤ n what the data determine of the weights, or
    the observations less what the weights took. MacKay's step, to where a = γ, is ½·log(a/γ). Where that is none, as of
    what is no scale, the step of expectation maximisation is taken, of slope/(2n), to first order.
    """
    a = counts + joint
    gamma = a - slope
    fine = (a > 0) & (gamma > 0)
    ratio = jnp.where(fine, a / jnp.where(fine, gamma, 1), 1)
    near = jnp.abs(slope) < 1e-2 * a  # where the logarithm would be all rounding
    step = jnp.where(near, 0.5 / jnp.where(fine, a, 1), 0.5 * jnp.log(ratio) / jnp.where(near | ~fine, 1, slope))
    return jnp.diag(jnp.where(fine, step, 0.5 / counts))
