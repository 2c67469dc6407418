"""A model as plain text: its network, prior, likelihood and posterior."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import SAVED, Tree, map_present, names
from bbb.errors import InputError, ModelFileError
from bbb.io.limits import refuse_giants
from bbb.likelihoods.per_member import PerMember
from bbb.model import BNN, check_numbers
from bbb.networks import nn
from bbb.networks.nn import kinds
from bbb.networks.protocol import by_value
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.posteriors.verbs import check_posterior, check_random
from bbb.priors.divergence import check_fits
from bbb.priors.multivariate_normal import MultivariateNormal
from bbb.storage import arrays as arrays_module
from bbb.storage.arrays import refuse


class _NotPlainError(Exception):
    """A tree has a node that JSON cannot describe."""


def made(path: Path, description: Any, arrays: Mapping[str, np.ndarray], like: BNN | None) -> BNN:
    """Return the model of a description and its arrays, or `like` with these arrays."""
    if like is not None:
        do = "Pass a model of the network that was saved."
        found = arrays_module.filled(path, "the parameters of the model given as like", like, arrays, do)
        model: BNN = jax.device_put(found)
        try:
            check_numbers(model)
        except InputError as error:
            raise undescribed(path, error) from error
        return model
    if description is None:
        refuse(path, "a network of bbb.nn", "the arrays of another library's", "Pass load(path, like=model).")
    try:
        return _described(description, arrays)
    except Exception as error:  # a stranger's description may make JAX say anything
        raise undescribed(path, error) from error


def _described(description: Any, arrays: Mapping[str, np.ndarray]) -> BNN:
    """Build what a file describes from its arrays; raise for what `bayesianize` would raise for."""
    refuse_giants(description)
    network = kinds.build(description["network"])
    posterior, prior, likelihood = (
        _decode(description[part], arrays, part) for part in ("posterior", "prior", "likelihood")
    )
    model = BNN(by_value(network.apply), posterior, prior, likelihood)
    if extra := sorted(set(arrays) - set(names(model))):
        raise ValueError(f"an array '{extra[0]}' that is not part of it")
    checks.floating("model", model)
    check_posterior(posterior)
    posterior.validate()
    member = posterior.component(0)
    check_random(posterior, "a model")
    checks.fits("posterior", member.params, "network", jax.eval_shape(network.init, jax.random.key(0)))
    checks.has("a prior", prior, ("kl",), "bbb.priors.Normal(0.0, 1.0)")
    if isinstance(prior, MultivariateNormal):
        prior.validate()
    check_fits(prior, member if isinstance(member, GaussianPosterior) else _with_gaussians(member))
    _check_likelihood(likelihood, posterior)
    check_numbers(model)
    return model


def _with_gaussians(draw: Posterior) -> MeanField:
    """Return the posterior that a prior of draws was one of: with a Gaussian for every weight that was sampled."""
    return MeanField(draw.params, map_present(jnp.zeros_like, draw.random_leaves(draw.params)))


def _check_likelihood(likelihood: Any, posterior: Any) -> None:
    """Raise for what is not a likelihood, or one for each of other members than the posterior's."""
    if isinstance(likelihood, PerMember):
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(likelihood)}
        if not posterior.is_mixture or sizes != {(posterior.components,)}:
            raise ValueError("likelihoods of other members than the posterior's")
        likelihood = likelihood.of_member(0)
    checks.has("a likelihood", likelihood, ("as_target", "log_prob", "sample"), "bbb.likelihoods.Gaussian(0.5)")


def undescribed(path: Path, error: Exception) -> ModelFileError:
    """Return the error of a file whose description is not that of a model."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ModelFileError(
        f"Expected {path} to describe a model of this version of bbb, got: {reason}. "
        "Update bbb, or save the model again."
    )


def describe(model: BNN) -> dict[str, Any] | None:
    """Return a description of a model in JSON; None for what only the user's code can make."""
    network = getattr(model.apply, "owner", None)
    if not isinstance(network, nn.Layer):
        return None
    try:
        parts = {part: _encode(getattr(model, part), part) for part in ("posterior", "prior", "likelihood")}
    except _NotPlainError:
        return None
    description = {"network": network.describe(), **parts}
    try:
        refuse_giants(description)
    except ValueError as error:
        raise InputError(
            f"Expected a network that can be described in a file, got one of {error}. Save its parts."
        ) from error
    return description


def _encode(node: Tree, path: str) -> dict[str, Any]:
    name = type(node).__name__
    if name in SAVED and type(node) is SAVED[name].cls:
        children = {child: _encode(getattr(node, child), f"{path}/{child}") for child in SAVED[name].data}
        return {"noun": name, "data": children, "static": {field: getattr(node, field) for field in SAVED[name].static}}
    if type(node) in (tuple, list):
        return {type(node).__name__: [_encode(child, f"{path}/{i}") for i, child in enumerate(node)]}
    if type(node) is dict and all(isinstance(name, str) for name in node):
        return {"dict": {name: _encode(child, f"{path}/{name}") for name, child in node.items()}}
    if isinstance(node, jax.Array | np.ndarray):
        return {"array": path}
    if node is None:  # in the place of a standard deviation: a point estimate
        return {"none": path}
    raise _NotPlainError


def _decode_dataclass(node: Any, arrays: Mapping[str, np.ndarray], path: str) -> Any:
    """Build an object of its children and its plain values, if files may hold such; nothing else is ever built."""
    cls, data, static = SAVED[node["noun"]]
    built: Any = object.__new__(cls)
    for field in data:
        object.__setattr__(built, field, _decode(node["data"][field], arrays, f"{path}/{field}"))
    for field, choices in static.items():
        value = node["static"][field]
        if not any(type(value) is type(known) and value == known for known in choices):
            raise ValueError(f"{field} of {value!r}")
        object.__setattr__(built, field, value)
    if hasattr(built, "__post_init__") and not isinstance(built, Posterior):  # a posterior may be a stack of several
        built.__post_init__()
    return built


def _decode(node: Any, arrays: Mapping[str, np.ndarray], path: str) -> Tree:
    """Build a part of a model, whose place in it is `path`: an array can be that of its own place alone."""
    ((kind, content),) = ((k, v) for k, v in node.items() if k not in ("data", "static"))
    if kind == "noun":
        return _decode_dataclass(node, arrays, path)
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](
            _decode(child, arrays, f"{path}/{i}") for i, child in enumerate(content)
        )
    if kind == "dict":
        return {name: _decode(child, arrays, f"{path}/{name}") for name, child in content.items()}
    if kind in ("array", "none") and content != path:
        raise ValueError(f"'{content}' in the place of '{path}'")
    if kind == "array":
        return jax.device_put(arrays[content])  # on a CPU without a copy: see `_arrays.ALIGNMENT`
    if kind == "none":
        return None
    raise ValueError(f"a node of kind {kind!r}")
