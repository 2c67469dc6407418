"""What an observation says about the weights: of Gaussian noise, from draws."""

from typing import Any

import jax
import jax.numpy as jnp

from bbb.core.ability import implements
from bbb.decide.acquisition.pool import by_row, centred
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import SupportsClasses, SupportsGaussianComponents, SupportsGaussianNoise
from bbb.model import BNN
from bbb.predictive.estimates import widened


def has_information(model: BNN) -> bool:
    """Return whether the information of an observation about the weights has a formula here."""
    known = (SupportsClasses, SupportsGaussianComponents, SupportsGaussianNoise)
    return any(implements(model.likelihood, of) for of in known)


def check_informs(verb: str, model: BNN) -> None:
    """Raise for a likelihood whose information about the weights has no formula here.

    Raises:
        InputError: naming it.
    """
    if not has_information(model):
        do = 'Pass method="k-center".' if verb == "choose_batch" else "Take the variance, which has no such limit."
        got = type(model.likelihood).__name__
        fail(InputError, f"a likelihood of classes or of Gaussian noise for {verb}", got, do)


def means_and_noise(likelihood: Any, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the variance of y given each draw, (draws, rows, columns) each."""
    likelihood, outputs = widened((likelihood, outputs))
    return by_row(likelihood.mean(outputs)), by_row(
        jnp.broadcast_to(likelihood.variance(outputs), likelihood.mean(outputs).shape)
    )


def gaussian_information(given: Any, outputs: jax.Array) -> jax.Array:
    """Return ½·log det(C + D) − ½·E_w log det D(w) of each row, in nats: (rows,), C of the means, D of the noise.

    It is taken apart as ½·log det(I + D^−½·C·D^−½), with D the mean noise, and `varying_noise`, so that no digits
    cancel where the information is small.
    """
    (likelihood,) = given
    means, noise = means_and_noise(likelihood, outputs)
    scaled = centred(means) / jnp.sqrt(noise.mean(axis=0, keepdims=True))
    if means.shape[-1] == 1:
        of_means = jnp.log1p(jnp.sum(jnp.square(scaled[..., 0]), axis=0))
    else:
        ratio = jnp.einsum("sri,srj->rij", scaled, scaled, precision="highest")
        of_means = jnp.linalg.slogdet(jnp.eye(means.shape[-1], dtype=ratio.dtype)[None] + ratio)[1]
    return 0.5 * of_means + varying_noise(noise)


def varying_noise(noise: jax.Array) -> jax.Array:
    """Return ½·Σ (log E_w noise − E_w log noise), what varying noise adds, in nats: (rows,); 0 of constant noise."""
    mean = noise.mean(axis=0, keepdims=True)
    return 0.5 * jnp.sum(jnp.maximum(-jnp.mean(jnp.log(noise / mean), axis=0), 0), axis=-1)
