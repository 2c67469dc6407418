"""Standard normal numbers in bulk, from the random words of JAX's default generator.

Noise takes half the time of a training step, and more than a quarter of that of a predictive. The generator and the
map to normals are both written out here as plain arithmetic, which XLA compiles into one vectorised loop:
`jax.random.normal` passes each round of the generator through memory on a CPU, and its inverse error function uses a
slower logarithm. `python -m benchmarks.noise` measures both.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


PARITY = np.uint32(0x1BD11BDA)
"""The constants of Threefry-2x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)."""


CENTRAL = (
    *(4.4637233e-07, -4.5055208e-06, -5.7900661e-06, 3.0735956e-04),
    *(-1.7743169e-03, -5.9061218e-03, 3.4880364e-01, 2.1233132),
)


TAIL = (1.4764974e-03, -5.0379843e-03, 8.3298571e-03, -1.0825739e-02, 1.3313886e-02, 1.4165840, 4.0064354)
"""√2·erf⁻¹(x)/x as a polynomial, highest power first: in w − 2.5 for w = −log(1 − x²) below 5, and in √w − 3 above.

The variables and the split are those of Giles ("Approximating the erfinv function", GPU Computing Gems, 2011); the
coefficients are our own fits, with a relative error below 3e-7.
"""


LOG = (0.11827482, -0.18901980, 0.20604673, -0.24881339, 0.33303300, -0.50001967, 1.0000032)
"""log(1 + m)/m as a polynomial, highest power first, for 1 + m from √½ to √2: the logarithm has an error below 2e-7."""


SQRT_HALF_BITS = np.int32(0x3F3504F3)


MANTISSA_BITS = np.int32(23)


SMALL = 2**16
"""Leaves of up to so many weights share one random draw, which compiles and runs faster than one for each of them; a
larger leaf has a draw of its own, so that it can be spread over devices."""


def standard_normal(key: jax.Array, like: Any) -> Any:
    """Draw ε ~ N(0, 1) for every element of a tree: a tree like `like`, each leaf in its own dtype."""
    leaves, structure = jax.tree.flatten(like)
    groups: dict[Any, list[int]] = {}  # leaves that share a draw: the small ones of a dtype, or a large one alone
    for i, leaf in enumerate(leaves):
        groups.setdefault((leaf.dtype, None if leaf.size <= SMALL else i), []).append(i)
    keys = jax.random.split(key, len(groups)) if len(groups) > 1 else [key] * len(groups)
    noise: list[Any] = [None] * len(leaves)
    for k, ((dtype, _), members) in zip(keys, groups.items(), strict=True):
        flat = normals(k, sum(leaves[i].size for i in members), dtype)
        if len(members) > 1:  # XLA would compute all of them anew for each leaf
            flat = lax.optimization_barrier(flat)
        ends = list(itertools.accumulate(leaves[i].size for i in members))
        for i, end in zip(members, ends, strict=True):
            noise[i] = flat[end - leaves[i].size : end].reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, noise)


def normals(key: jax.Array, size: int, dtype: DTypeLike) -> jax.Array:
    """Return `size` standard normals, (size,).

    In float32, with a key of JAX's default generator, each is a function of the first 24 bits of the corresponding word
    of `jax.random.bits`, and at most 5.4 in absolute value. In float64 and for other generators they are those of
    `jax.random.normal`. Normals of 16 bits are those of float32, rounded.
    """
    wide = at_least_float32(dtype)
    if wide != jnp.float32 or not _is_default(key) or size >= 2**32:
        return jax.random.normal(key, (size,), wide).astype(dtype)
    return normal_of_word(random_words(key, size)).astype(dtype)


def at_least_float32(dtype: DTypeLike) -> Any:
    """Return the dtype to draw noise in: in bfloat16, JAX's normals take 128 values below 2.9, with mean −0.012."""
    return dtype if jnp.finfo(dtype).bits >= 32 else np.dtype(np.float32)


def words(key: jax.Array, size: int) -> jax.Array:
    """Return `size` random words of 32 bits, (size,): those of `jax.random.bits`, of any generator."""
    return random_words(key, size) if _is_default(key) and size < 2**32 else jax.random.bits(key, (size,), np.uint32)


def _is_default(key: jax.Array) -> bool:
    """Return whether a key is of JAX's default generator."""
    return str(jax.random.key_impl(key)) == "threefry2x32"


def random_words(key: jax.Array, size: int) -> jax.Array:
    """Return the `size` words of 32 bits, (size,), of `jax.random.bits`, for a key of JAX's default generator."""
    one, two = jax.random.key_data(key)
    schedule = (one, two, one ^ two ^ PARITY)
    left, right = jnp.broadcast_to(schedule[0], (size,)), lax.iota(np.uint32, size) + schedule[1]
    for i in range(5):
        for bits in ROTATIONS[i % 2]:
            left = left + right
            right = left ^ ((right << np.uint32(bits)) | (right >> np.uint32(32 - bits)))
        left = left + schedule[(i + 1) % 3]
        right = right + schedule[(i + 2) % 3] + np.uint32(i + 1)
    return left ^ right


def normal_of_word(words: jax.Array) -> jax.Array:
    """Map random words to standard normals: √2·erf⁻¹ of the midpoint of one of 2²⁴ equal intervals of (−1, 1)."""
    signed = lax.bitcast_convert_type(words, np.int32) >> np.int32(8)
    x = signed.astype(np.float32) * np.float32(2**-23) + np.float32(2**-24)
    from_0 = jnp.abs(x)  # and not x: XLA would add 1 to 2⁻²⁴ first, and round it away
    w = -_log((1 - from_0) * (1 + from_0))
    return x * jnp.where(w < 5, _polynomial(CENTRAL, w - 2.5), _polynomial(TAIL, jnp.sqrt(w) - 3))


def _log(y: jax.Array) -> jax.Array:
    """Compute log y of floating-point numbers y > 0 that are not subnormal, from y = 2^e·(1 + m)."""
    bits = lax.bitcast_convert_type(y, np.int32)
    exponent = (bits - SQRT_HALF_BITS) >> MANTISSA_BITS
    m = lax.bitcast_convert_type(bits - (exponent << MANTISSA_BITS), np.float32) - 1
    return m * _polynomial(LOG, m) + exponent.astype(np.float32) * np.float32(math.log(2))


def _polynomial(coefficients: tuple[float, ...], at: jax.Array) -> jax.Array:
    value = jnp.full_like(at, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * at + np.float32(coefficient)
    return value
