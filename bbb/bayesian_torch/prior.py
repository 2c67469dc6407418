"""The prior that the buffers of Bayesian-Torch's layers hold."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.networks import nn
from bbb.priors.normal import Normal
from bbb.torch_states import Read, arrays_of


def prior_of(network: nn.Layer, found: Read, names: Sequence[str] | None = None) -> Normal:
    """Return the prior of the layers: two numbers where all weights share them, else trees like the parameters.

    Raises:
        InputError: if a Gaussian comes without its prior, or a standard deviation is not positive.
    """
    trees = found.log_std, found.prior_mean, found.prior_std
    for slot, name, log_std, mean, std in arrays_of(network, names, *trees):
        if log_std is not None and (mean is None or std is None):
            expected = f"a prior, or the buffers of the prior of '{slot.prefix}{name}' in the state dict"
            do = "Pass prior=bbb.priors.Normal(0.0, 1.0), or model.state_dict() | dict(model.named_buffers())."
            fail(InputError, expected, "neither", do)
    return Normal(_shortened(found.prior_mean, 0.0), _shortened(found.prior_std, 1.0))


def _shortened(tree: Tree, absent: float) -> Tree:
    """Return one number if all arrays of a tree hold it, else a tree with a number for each array that is constant."""
    values = {value for array in jax.tree.leaves(tree) for value in np.unique(array)}
    if len(values) == 1:
        return float(values.pop())
    return jax.tree.map(lambda array: absent if array is None else _number(array), tree, is_leaf=_is_none)


def _number(array: np.ndarray) -> float | jax.Array:
    """Return the one number of a constant array, or the array."""
    return float(array.flat[0]) if array.size and (array == array.flat[0]).all() else jnp.asarray(array)


def _is_none(leaf: Tree) -> bool:
    return leaf is None
