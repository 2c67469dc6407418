"""The program of an exported predictive, as it is written: from a key, weights and rows to a summary of each row."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jax import lax

from bbb.core.tree import Tree, count
from bbb.errors import BBBError, InputError
from bbb.forwards.select import Forward
from bbb.model import BNN
from bbb.posteriors.protocol import Posterior
from bbb.predictive.estimates import summarise
from bbb.predictive.plan import NOISE_ELEMENTS, drawn_of
from bbb.serving.about import About
from bbb.tracing.convolutions import for_cpu

AT_ONCE = 64
"""How many draws an accelerator evaluates at once; a core takes one after the other, which stays in its cache."""


def program_of(model: BNN, x: Tree, about: About, platforms: tuple[str, ...]) -> jax_export.Exported:
    """Return the program: key data, leaves of posterior and likelihood, leaves of x -> leaves of a `Summary`.

    The tree of x is not part of it, so that a file is read without the classes of the tree.
    """
    leaves, structure = jax.tree.flatten((model.posterior, model.likelihood))
    x_leaves, x_structure = jax.tree.flatten(x)
    ps = tuple(about.quantiles)
    _, _, dependent = drawn_of(model.posterior, about.draws)

    def predictive(key_data: jax.Array, leaves: tuple[jax.Array, ...], x: Tree) -> tuple[jax.Array, ...]:
        posterior, likelihood = jax.tree.unflatten(structure, leaves)
        key = jax.random.wrap_key_data(key_data, impl=about.key)
        rows = jax.tree.unflatten(x_structure, jax.tree.leaves(x))
        outputs = outputs_of(key, model.forward, posterior, rows, about.draws)
        y_ps = () if about.classes else ps
        found = summarise(likelihood, outputs, group=dependent, moments_too=True, f_ps=ps, y_ps=y_ps)
        return tuple(jax.tree.leaves(found))

    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=about.key)))
    specs = tuple(jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    size = jax_export.symbolic_shape("rows")
    shapes = [
        leaf.shape if shared else (*size, *leaf.shape[1:]) for leaf, shared in zip(x_leaves, about.shared, strict=True)
    ]
    rows = about.argument(
        [jax.ShapeDtypeStruct(shape, leaf.dtype) for shape, leaf in zip(shapes, x_leaves, strict=True)]
    )
    try:
        return jax_export.export(jax.jit(predictive), platforms=platforms)(key, specs, rows)
    except BBBError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"Expected a network that is one program for any number of rows on {', '.join(platforms)}, got "
            f"{type(error).__name__}: {reason} Let it decide nothing by the number of rows, use operations that JAX "
            "exports, or pass fewer platforms."
        ) from error


def outputs_of(key: jax.Array, forward: Forward, posterior: Posterior, x: Tree, draws: int) -> jax.Array:
    """Return draws 0, 1, … of the network at x, (draws, rows, ...): number for number those of `bbb.draws`."""
    like, members = posterior.component(0), posterior.components
    chunks = math.ceil(draws / max(1, NOISE_ELEMENTS // count(like.params)))
    chunk = math.ceil(draws / chunks)  # draws whose noise is drawn at once

    def one(drawn: tuple[Tree, jax.Array]) -> jax.Array:
        noise, k = drawn
        return forward.evaluate(noise, posterior.component(k), x)

    def some(first: jax.Array) -> jax.Array:
        index = first + jnp.arange(chunk, dtype=jnp.int32)
        noise = jax.vmap(lambda i: like.noise(jax.random.fold_in(key, i)))(index)
        together = partial(lax.map, one, batch_size=AT_ONCE)
        return lax.platform_dependent((noise, index % members), cpu=partial(lax.map, for_cpu(one)), default=together)

    outputs = lax.map(some, jnp.arange(0, chunks * chunk, chunk, dtype=jnp.int32))
    return outputs.reshape(-1, *outputs.shape[2:])[:draws]
