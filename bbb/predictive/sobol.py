"""Standard normal numbers at scrambled Sobol points, which spread more evenly than independent ones.

The mean of a smooth function over n such points has an error that falls nearly as n⁻³ᐟ² where that of independent
draws falls as n⁻¹ᐟ² (Owen 1997, Ann. Statist. 25, 1541), in as far as the function hangs on few of the numbers at a
time. The points themselves are those of Joe and Kuo (2008, SIAM J. Sci. Comput. 30, 2635), as SciPy has them; they are
scrambled by a hash in the manner of Owen (Burley 2020, J. Comput. Graph. Tech. 9(4), 1; Laine and Karras 2011), with
a seed for each dimension from the key: each number alone is uniform, whatever the point.
"""

import itertools
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from bbb.core.noise import at_least_float32, normal_of_word, words
from bbb.core.tree import Tree

MOST_DIMENSIONS = 21_201
"""How many random numbers a point may have: as many as SciPy has direction numbers for."""


@lru_cache(maxsize=8)
def direction_numbers(dimensions: int, bits: int) -> np.ndarray:
    """Return the words, (bits, dimensions), whose exclusive or over the bits of i is point i of a net of 2^bits.

    SciPy gives points in the order of the Gray code, in which number 2^(b+1) − 1 has bit b alone.
    """
    from scipy.stats import qmc  # noqa: PLC0415 (which takes long to import, and few need)

    sequence, passed, found = qmc.Sobol(dimensions, scramble=False, bits=32), 0, []
    for at in (2 ** (b + 1) - 1 for b in range(bits)):
        sequence.fast_forward(at - passed)
        found.append(sequence.random(1)[0] * 2.0**32)
        passed = at + 1
    return np.array(found, np.float64).reshape(bits, dimensions).astype(np.uint32)


def sobol_normal(key: jax.Array, point: jax.Array, like: Tree, directions: jax.Array) -> Tree:
    """Return the standard normals of one point, a tree like `like`, each leaf in its own dtype.

    Points 0 to 2^bits − 1 under one key are a net; under different keys they are independent.

    Args:
        key: of the scrambling.
        point: its number, ().
        like: tree of arrays or their shapes, of as many elements as there are dimensions.
        directions: (bits, dimensions), from `direction_numbers`.
    """
    leaves, structure = jax.tree.flatten(like)
    bits, dimensions = directions.shape
    chosen = (jnp.where((point >> b) & 1, directions[b], np.uint32(0)) for b in range(bits))
    flat = jnp.zeros(dimensions, np.uint32)
    for word in chosen:
        flat = flat ^ word
    flat = _scrambled(flat, words(key, dimensions))
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    parts = [flat[end - leaf.size : end].reshape(leaf.shape) for leaf, end in zip(leaves, ends, strict=True)]
    normals = [_normal(part, leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, normals)


def _normal(of: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Map words to standard normals: each the quantile at the midpoint of one of 2²⁴ or, in float64, 2³² intervals."""
    wide: Any = at_least_float32(dtype)
    if wide == jnp.float32:
        return normal_of_word(of).astype(dtype)
    return jax.scipy.special.ndtri((of.astype(wide) + 0.5) * 2.0**-32)


FACTORS = (np.uint32(0x3D20ADEA), np.uint32(0x05526C56), np.uint32(0x53A22864))
"""The even factors of the hash (Burley 2020, listing 2, after Vegdahl's search)."""


def _scrambled(of: jax.Array, seeds: jax.Array) -> jax.Array:
    """Flip each bit of a word, or not, by a hash of the seed and of the bits above it: a nested uniform scramble."""
    x = _reversed(of)
    x = x ^ (x * FACTORS[0])
    x = x + seeds
    x = x * ((seeds >> np.uint32(16)) | np.uint32(1))
    for factor in FACTORS[1:]:
        x = x ^ (x * factor)
    return _reversed(x)


def _reversed(x: jax.Array) -> jax.Array:
    """Return words with their bits in the opposite order."""
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = ((x >> np.uint32(width)) & np.uint32(mask)) | ((x & np.uint32(mask)) << np.uint32(width))
    return lax.shift_left(x, np.uint32(16)) | lax.shift_right_logical(x, np.uint32(16))
