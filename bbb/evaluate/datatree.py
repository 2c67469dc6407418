"""Draws for ArviZ: an xarray `DataTree` in the groups that its plots and diagnostics read."""

import importlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.rows import apart
from bbb.core.tree import names
from bbb.data import data_for, rows_for
from bbb.errors import InputError, fail
from bbb.likelihoods.protocol import check_samples, log_prob_of_draws
from bbb.model import BNN, check_model
from bbb.posteriors.verbs import sample
from bbb.predictive.evaluation import draws as draws_of

OBSERVATIONS = np.uint32(2**32 - 2)
"""What is folded into the key for the noise of observations: a number that no draw has, nor any step of `fit`."""


def to_datatree(key: jax.Array, model: BNN, x: Any, y: ArrayLike | None = None, *, draws: int = 1_000) -> Any:
    """Draw weights, the function and new observations, as an `xarray.DataTree` of one chain, or one for each member.

    Needs xarray: `pip install '.[arviz]'` in a clone. All draws of one posterior are independent, so that ArviZ's
    effective sample size is about `draws`, and its convergence diagnostics have nothing to find. The chains of an
    ensemble are its members: R-hat far from 1 then says that they found different posteriors, of `f` that results hang
    on the start. Of weights it is so for most networks, since hidden units may be exchanged.

    Args:
        key: one typed JAX key; draw i is that of `bbb.draws` and `bbb.predict` with this key. Of an ensemble of K it is
            draw i // K of chain i % K.
        model: the Bayesian network.
        x: (rows, ...).
        y: observations at these rows, if there are any.
        draws: how many, in all chains together; rounded up to a multiple of the members of an ensemble. All weights of
            all draws are in memory at once. Of a posterior that holds its draws all of them, as one chain: those of
            `bbb.mcmc` are draw j // C of chain j % C, of C = `report.chains`.

    Returns:
        The groups, with dimensions in brackets:

        - `posterior`: a variable for every leaf with a Gaussian, named by its path with dots, such as `0.weight`
          (chain, draw, 0.weight_dim_0, …). Point estimates are left out.
        - `posterior_predictive`: `f`, the network's outputs, and `y`, new observations (chain, draw, row, output_0, …);
          the last are f_dim_0, … where f has not the shape of y.
        - `constant_data`: `x` (row, x_dim_0, …), or a leaf such as `x.tokens` each.
        - `observed_data`, `log_likelihood`: `y` (row, output_0, …), and its log-probability in nats (chain, draw, row),
          summed over the outputs of a row; if y was given.

    Raises:
        InputError: if xarray is not installed, or two leaves have one name.
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
    """
    xarray = _xarray()
    checks.outside("to_datatree", key=key, model=model, x=x, y=y)
    checks.key(key)
    check_model(model)
    likelihood = check_samples(model.likelihood, "to_datatree")
    rows, target = (rows_for(model, "x", x), None) if y is None else data_for(model, x, y, several=True)
    leaves = _leaf_names(model)
    outputs = draws_of(key, model, rows, draws=draws)  # of an ensemble, draw i is of member i % members
    observations = likelihood.sample(jax.random.fold_in(key, OBSERVATIONS), outputs)
    alike = ("f", "y") if outputs.shape == observations.shape else ("y",)
    members = 1 if model.posterior.holds_draws else model.members
    dataset, chains = partial(_dataset, xarray), partial(_chains, members=members)
    drawn = ("chain", "draw")
    weights = map(chains, _weights(key, model, len(outputs)))
    predicted = {"f": chains(outputs), "y": chains(observations)}
    groups = {
        "posterior": dataset(drawn, dict(zip(leaves, weights, strict=True))),
        "posterior_predictive": dataset((*drawn, "row"), predicted, alike),
        "constant_data": dataset(("row",), _named_rows(rows)),
    }
    if target is not None:
        groups["observed_data"] = dataset(("row",), {"y": target}, ("y",))
        log_probs = log_prob_of_draws(model.likelihood, target, outputs)
        groups["log_likelihood"] = dataset((*drawn, "row"), {"y": chains(log_probs)})
    return xarray.DataTree.from_dict(groups)


def _xarray() -> Any:
    try:
        return importlib.import_module("xarray")
    except ImportError:
        do = "Run pip install xarray; or, in a clone of bbb, pip install '.[arviz]'."
        fail(InputError, "the package xarray", "an environment without it", do)


def _named_rows(x: Any) -> dict[str, Any]:
    """Return the leaves of x that have rows, by names such as "x" or "x.tokens"."""
    leaves, _ = apart(x)
    paths = [f"x.{name}" if name else "x" for name in names(leaves)]
    return dict(zip((name.replace("/", ".") for name in paths), jax.tree.leaves(leaves), strict=True))


def _leaf_names(model: BNN) -> list[str]:
    """Return the names of the leaves with a Gaussian; a slash would mean a group."""
    found = [name.replace("/", ".") for name in names(model.posterior.random_leaves(model.posterior.params))]
    for name in found:
        if found.count(name) > 1:
            fail(InputError, "a name for every parameter", f"'{name}' twice", "Rename one of them.")
    return found


def _weights(key: jax.Array, model: BNN, draws: int) -> list[jax.Array]:
    """Return the leaves that have a Gaussian, each (draws, ...), of the draws that `bbb.draws` makes."""
    posterior, members = jax.tree.map(jnp.asarray, model.posterior), model.members  # NumPy's take no traced index

    def draw(i: jax.Array) -> Any:
        member = posterior.component(i % members)
        return member.random_leaves(sample(jax.random.fold_in(key, i), member))

    return jax.tree.leaves(jax.lax.map(draw, np.arange(draws, dtype=np.int32)))


def _chains(drawn: jax.Array, members: int) -> np.ndarray:
    """Sort draws, (draws, ...), by their member: (members, draws of each, ...)."""
    array = np.asarray(drawn)
    return array.reshape(-1, members, *array.shape[1:]).swapaxes(0, 1)


def _dataset(xarray: Any, dims: tuple[str, ...], arrays: dict[str, Any], shared: tuple[str, ...] = ()) -> Any:
    """Return a dataset of named axes: the first by `dims`, others as outputs or, if not `shared`, by the variable."""

    def variable(name: str, array: Any) -> tuple[tuple[str, ...], np.ndarray]:
        stem = "output" if name in shared else f"{name}_dim"
        return (*dims, *(f"{stem}_{i}" for i in range(array.ndim - len(dims)))), np.asarray(array)

    dataset = xarray.Dataset({name: variable(name, array) for name, array in arrays.items()})
    coordinates = {name: np.arange(size) for name, size in dataset.sizes.items()}
    return dataset.assign_coords(coordinates).assign_attrs(inference_library="bayes-by-backprop")
