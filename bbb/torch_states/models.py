"""Models from what a state dict holds, and back."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from bbb import checks
from bbb.core.tree import Tree
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import Likelihood
from bbb.model import BNN, bayesianize, check_model, check_numbers
from bbb.networks import nn
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.verbs import independent
from bbb.priors.protocol import Prior
from bbb.torch_states.formats import Arrays, Format
from bbb.torch_states.reading import Read
from bbb.torch_states.slots import Slot, arrays_of, slots


def from_arrays(network: nn.Layer, found: Read, *, prior: Prior, likelihood: Likelihood, std: Tree | None) -> BNN:
    """Return the model of a network with the arrays that were read; of a plain one, with Gaussians of `std`.

    Raises:
        InputError: if a number leads to infinities or to a standard deviation of 0, if a plain network comes without
            a `std`, or if one with Gaussian weights comes with one.
    """
    is_plain = not jax.tree.leaves(found.log_std)
    if is_plain and std is None:
        do = "Pass std=0.02, to give its weights Gaussians of that standard deviation."
        fail(InputError, "a state dict with at least one Gaussian weight", "one of a plain network", do)
    if is_plain:
        return bayesianize(network.apply, found.mean, prior=prior, likelihood=likelihood, std=std)
    if std is not None:
        got, do = "one with Gaussian weights", "Leave std out."
        fail(InputError, "a state dict of a plain network, with std", got, do)
    model = bayesianize(network.apply, found.mean, prior=prior, likelihood=likelihood)
    model = dataclasses.replace(model, posterior=MeanField(found.mean, found.log_std))
    check_numbers(model)
    return model


def to_arrays(form: Format, model: BNN, noise: Tree = None, names: Sequence[str] | None = None) -> Arrays:
    """Return a model's arrays under a library's names; with `noise`, those of a frozen model.

    Raises:
        InputError: if the network is not one of `bbb.nn` or has a layer without a counterpart in torch, if the model is
            an ensemble or linearised, or if `names` are not one for each layer with arrays.
        ShapeError: if the shapes of the noise differ from the posterior's.
    """
    check_model(model)
    checks.outside("to_state_dict", model=model, noise=noise)
    network = _network_of(model, form)
    posterior = independent(model.posterior, "to_state_dict")
    if noise is not None:
        checks.fits("noise", noise, "posterior", posterior.log_std)
    arrays: Arrays = {}
    for slot, name, mean, log_std in arrays_of(network, names, posterior.mean, posterior.log_std):
        arrays |= _written(form, slot, name, mean, log_std)
    for slot, name, eps in arrays_of(network, names, noise) if noise is not None else ():
        keys = form.keys(slot.layer, name)
        if eps is not None and keys is not None:
            arrays[slot.prefix + keys.noise] = np.array(eps)
    return form.completed(arrays, slots(network, names))


def _network_of(model: BNN, form: Format) -> nn.Layer:
    """Return the network of `bbb.nn` whose `apply` a model has."""
    if model.linearized:
        do = "Pass dataclasses.replace(model, linearized=False)."
        fail(InputError, f"a model of the network itself, as {form.library}'s are", "a linearised one", do)
    network = getattr(model.apply, "owner", getattr(model.apply, "__self__", None))
    if not isinstance(network, nn.Layer):
        got = f"a {type(model.apply).__name__}"
        fail(InputError, "a network of bbb.nn", got, f"Only those have names in {form.library}.")
    return network


def _written(form: Format, slot: Slot, name: str, mean: jax.Array, log_std: jax.Array | None) -> Arrays:
    """Return one array of a layer as a library writes it: a Gaussian by two, a plain one under torch's name."""
    if log_std is None:
        return {slot.prefix + name: _torch_array(name, mean)}
    keys = form.keys(slot.layer, name)
    if keys is None:
        do = "Keep the model with bbb.save, which writes any."
        fail(InputError, f"layers that {form.library} has Gaussians for", f"a Gaussian '{name}' of {slot}", do)
    scale = np.array(form.scale(np.asarray(log_std)), order="C")
    return {slot.prefix + keys.mean: np.array(mean, order="C"), slot.prefix + keys.scale: scale}


def _torch_array(name: str, value: jax.Array) -> np.ndarray:
    array = np.array(value, order="C")
    return array.astype(np.int64) if name == "num_batches_tracked" else array
