"""The network linearised in its weights around the posterior's mean: draws of it, and its moments in closed form.

    h(w) = f(m) + J(m)·(w − m)        m: the posterior's mean; w: a draw; J: the derivative in the random weights

Draws take one forward-mode derivative in the direction w − m, moments one reverse-mode derivative for each output of a
row: the Jacobian itself is never made.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Jaxpr  # type: ignore[attr-defined,unused-ignore]

from bbb import checks
from bbb.core.jit import jit
from bbb.core.noise import SMALL, at_least_float32
from bbb.core.rows import apart, as_row, count_rows, one_row, put_back, some_rows
from bbb.core.shapes import from_shapes
from bbb.core.tree import Tree, count, is_floating, is_none
from bbb.errors import InputError, fail
from bbb.forwards.calls import NetworkForward
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_posterior
from bbb.tracing.convolutions import channels_last
from bbb.tracing.interpreter import inner_programs
from bbb.tracing.memory import activation_bytes
from bbb.tracing.network import Apply

CORE_BYTES, ACCELERATOR_BYTES = 2**20, 2**26
"""Most memory that the gradients of moments take at once, unless that of one output of one row takes more: a core is
fastest with what stays in its cache, an accelerator wants many, and so do the matrices of a posterior whose weights
depend on each other, which are read once for all of them."""


LARGE = 2**23
"""Numbers of gradients up to which moments of weights that depend on each other are compiled as a small program, which
takes half the time: matrix products, which a library does, are most of it."""


@dataclasses.dataclass(frozen=True)
class Linearized(NetworkForward):
    """One draw of the weights, shared by all rows, in the linearised network: see `linearized`."""

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> Tree:
        """Run the linearised network with the weights that the noise makes; of a mixture, around its component's mean.

        Raises:
            InputError: if JAX cannot differentiate the network in forward mode.
        """
        mean = posterior.weights(_silenced(noise)) if posterior.is_mixture else posterior.params
        return self._around(mean, posterior.weights(noise), posterior, x)

    def at(self, params: Tree, posterior: Posterior, x: jax.Array) -> Tree:
        """Run the network, linearised around the mean of a posterior that is not a mixture, with given weights.

        Raises:
            InputError: if JAX cannot differentiate the network in forward mode.
        """
        return self._around(posterior.params, params, posterior, x)

    def moments(self, posterior: GaussianPosterior, x: Tree, at_once: int | None = None) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the variance of the outputs at x, each of the outputs' shape, without draws.

        Exact for a Gaussian posterior whose weights are affine in standard normal noise ε: the outputs are then
        Gaussian of mean f(m), and their variance is the sum of the squares of their derivatives in ε, which is the
        diagonal of J·Σ·Jᵀ.

        Args:
            posterior: one Gaussian.
            x: (rows, ...), of a network that answers each row by itself.
            at_once: bytes that gradients may take at once; by default 64 MiB, and for independent weights on a CPU
                1 MiB. Each takes what the network's own arrays for a row do, forwards and backwards, and two numbers
                for each weight; those of as many outputs and rows as fit are computed together. Besides, a `FullRank`
                of d weights takes d² numbers.

        Raises:
            InputError: for a posterior that is not one Gaussian, or a network that JAX cannot differentiate.

        Source: Immer et al. 2021, arXiv 2008.08400, eq. 8, with the covariance as the square of what maps ε to w.
        """
        check_gaussian(posterior)
        checks.arrays("x", x)
        together = self.together(posterior, x, moments_bytes(posterior) if at_once is None else at_once)
        large = count(posterior.params) * min(together, count_rows(x)) > (SMALL if posterior.factorises else LARGE)
        return _moments(posterior, x, apply=self.apply, together=together, large=large)

    def together(self, posterior: GaussianPosterior, x: Tree, at_once: int) -> int:
        """Return how many gradients of moments take so many bytes.

        Raises:
            InputError: for a network that JAX cannot differentiate in reverse mode.
        """
        row = one_row(x)
        noise = from_shapes(_noise_shapes, self.apply, posterior)
        each = _bytes_of_gradient(self.apply, posterior, row)
        each += 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(noise))
        return max(1, at_once // max(1, each))

    def _around(self, mean: Tree, params: Tree, posterior: Posterior, x: jax.Array) -> Tree:
        moved = _random(posterior, mean)
        direction = jax.tree.map(lambda w, m: w - m, _random(posterior, params), moved)
        has_aux = getattr(self.apply, "has_aux", False)  # a training mode's new state, which is that at the mean

        def both(moved: Tree, direction: Tree) -> Tree:
            return jax.jvp(_of_random(self.apply, mean, x), (moved,), (direction,), has_aux=has_aux)

        if _waits_for_reverse_mode(jax.make_jaxpr(both)(moved, direction).jaxpr):
            do = "Define its derivative by jax.custom_jvp."
            expected = "a network that JAX can differentiate in its weights in forward mode, to linearise it"
            fail(InputError, expected, "one with a jax.custom_vjp", do)
        outputs, change, *aux = both(moved, direction)
        outputs = jax.tree.map(_sum, outputs, change)
        return (outputs, *aux) if has_aux else outputs


def linearized(apply: Apply) -> Linearized:
    """Return the network linearised in its weights around the posterior's mean, with random weights.

    `linearized(apply)(key, posterior, x)` is f(m) + J(m)·(w − m) for the draw w that `weight_sampling` has of the key,
    which for a network that is linear in its weights is the same. Point estimates, and leaves that are not floating
    point, are what they are. Of a Gaussian posterior the outputs are exactly Gaussian, and `moments` gives their mean
    and variance. A draw takes up to three times the arithmetic of one of `weight_sampling`; many draws of one compiled
    program share what does not depend on the draw.

    Source: Khan et al. 2019, arXiv 1906.01930, §3; as the predictive of a posterior, Immer et al. 2021, arXiv
    2008.08400, eq. 8 ("GLM predictive").

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> forward = bbb.forwards.linearized(model.apply)
        >>> forward(jax.random.key(1), model.posterior, task.x).shape
        (20, 1)
    """
    return Linearized(apply)


def moments_bytes(posterior: GaussianPosterior) -> int:
    """Return the memory that the gradients of moments take at once, unless told."""
    in_cache = jax.default_backend() == "cpu" and posterior.factorises
    return CORE_BYTES if in_cache else ACCELERATOR_BYTES


def check_gaussian(posterior: Any) -> None:
    """Raise for what is not one Gaussian, of which alone a linearised network has moments.

    Raises:
        InputError: saying what came.
    """
    check_posterior(posterior)
    if not isinstance(posterior, GaussianPosterior):
        do = "Use draws instead, or the moments of each component."
        fail(InputError, "one Gaussian posterior, for moments", f"a {type(posterior).__name__}", do)


@dataclasses.dataclass(frozen=True)
class _Gradient:
    """The gradient of one output of one row, whose arrays are counted."""

    apply: Apply

    def __call__(self, posterior: Posterior, row: Tree) -> Tree:
        outputs, back = _pulled(self.apply, posterior, posterior.params, row)
        return back(jnp.ones_like(outputs))


@partial(jit, static_argnames=("apply", "together"))
@channels_last
def _moments(posterior: GaussianPosterior, x: Tree, *, apply: Apply, together: int) -> tuple[jax.Array, jax.Array]:
    """Compute mean and variance, with so many gradients at a time."""
    mean = posterior.params
    noiseless = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), _noise_shapes(apply, posterior))
    _, to_noise = jax.vjp(lambda e: _random(posterior, posterior.weights(e)), noiseless)

    rows, shared = apart(x)

    def of_row(row: Tree) -> tuple[jax.Array, jax.Array]:
        one = put_back(as_row(row), shared)
        outputs, back = _pulled(apply, posterior, mean, one)

        def variance(i: jax.Array) -> jax.Array:
            chosen = (jnp.arange(outputs.size) == i).astype(outputs.dtype).reshape(outputs.shape)
            return _sum_of_squares(to_noise(*back(chosen)), outputs.dtype)

        found = _in_batches(variance, jnp.arange(outputs.size), together)
        return outputs[0], found.reshape(outputs.shape[1:])

    size = jax.eval_shape(apply, mean, some_rows(x, slice(1))).size
    return _in_batches(of_row, rows, max(1, together // max(1, size)))


def _in_batches(function: Callable[[Tree], Any], each: Tree, most: int) -> Any:
    """Return `function` of each, stacked, of so many at once: alike in all batches, so that one body is compiled."""
    n = count_rows(each)
    if n <= most:
        return jax.vmap(function)(each)
    batches = math.ceil(n / most)
    size = math.ceil(n / batches)

    def batched(array: jax.Array) -> jax.Array:
        last = jnp.broadcast_to(array[-1:], (batches * size - n, *array.shape[1:]))
        return jnp.concatenate([array, last]).reshape(batches, size, *array.shape[1:])

    found = lax.map(jax.vmap(function), jax.tree.map(batched, each))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], found)


def _pulled(apply: Apply, posterior: Posterior, mean: Tree, x: Tree) -> tuple[jax.Array, Callable[..., Tree]]:
    """Return the outputs at the mean, and what takes their cotangents to those of the weights that are random."""
    return jax.vjp(_of_random(apply, mean, x), _random(posterior, mean))


def _of_random(apply: Apply, mean: Tree, x: Tree) -> Callable[[Tree], Tree]:
    """Return the network as a function of the leaves that are random alone."""

    def outputs(moved: Tree) -> Tree:
        return apply(jax.tree.map(lambda w, m: m if w is None else w, moved, mean, is_leaf=is_none), x)

    return outputs


def _random(posterior: Posterior, params: Tree) -> Tree:
    """Return the leaves of `params` that are random and floating point, with None in the place of the others."""
    random = posterior.random_leaves(params)
    return jax.tree.map(lambda leaf: leaf if is_floating(leaf) else None, random)


def _noise_shapes(apply: Apply, posterior: Posterior) -> Tree:
    """Return the shapes and dtypes of the noise of a draw."""
    del apply  # what is cached for shapes is asked of a network
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda posterior, key: posterior.noise(key), posterior, key)


def _silenced(noise: Tree) -> Tree:
    """Return the noise without what is random around 0; the choice of a component stays."""
    return jax.tree.map(lambda e: jnp.zeros_like(e) if is_floating(e) else e, noise)


def _sum(output: jax.Array, change: jax.Array) -> jax.Array:
    """Add what linearisation adds; of outputs that are not floating point, nothing."""
    return output + change if is_floating(output) else output


def _sum_of_squares(gradient: Tree, dtype: Any) -> jax.Array:
    wide = at_least_float32(dtype)
    squares = [jnp.sum(jnp.square(leaf.astype(wide))) for leaf in jax.tree.leaves(gradient)]
    return sum(squares, jnp.zeros((), wide)).astype(dtype)


def _waits_for_reverse_mode(program: Jaxpr) -> bool:
    """Return whether a derivative holds that of a `jax.custom_vjp`, which JAX refuses only when it compiles it."""
    return any(
        equation.primitive.name == "custom_lin"
        or any(_waits_for_reverse_mode(inner.jaxpr) for inner in inner_programs(equation))
        for equation in program.eqns
    )


def _bytes_of_gradient(apply: Apply, posterior: Posterior, row: Tree) -> int:
    """Count the arrays of the gradient of one output of one row.

    Raises:
        InputError: if JAX cannot differentiate the network in reverse mode.
    """
    try:
        return activation_bytes(_Gradient(apply), posterior, row)
    except ValueError as error:
        if "everse-mode" not in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            "Expected a network that JAX can differentiate in its weights in reverse mode, for moments, "
            f"got one that it cannot: {reason} "
            'Use draws instead (method="draws"), or loops whose number of steps does not depend on data.'
        ) from error
