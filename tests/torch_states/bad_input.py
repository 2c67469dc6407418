"""The bad inputs that the readers of state dicts share: those of a library whose linear layer has the keys given."""

import numpy as np

from bbb.errors import InputError, ModelFileError, ShapeError
from bbb.networks import nn
from tests.bad_input import (
    MODEL,
    NAN,
    NO_PATHS,
    bayesian,
    crossed,
    ensemble,
    linearized,
    of,
    wrong_likelihoods,
    wrong_models,
)


def state_of(mean, rho, **changes):
    """Return the state dict of a library's linear layer of one input and one output, changed."""
    shapes = {"weight": (1, 1), "bias": (1,)}
    made = {key.format(name): np.zeros(shape, "f4") for name, shape in shapes.items() for key in (mean, rho)}
    return {name: array for name, array in (made | changes).items() if array is not None}


def cases_of(name, package, mean, rho):
    """Return the cases of a package whose keys are such as "mu_{}" and "rho_{}"."""
    given = {"prior": MODEL.prior, "likelihood": MODEL.likelihood}
    mean_key, rho_key, reads, writes = (
        mean.format("bias"),
        rho.format("bias"),
        f"{name}.from_state_dict",
        f"{name}.to_state_dict",
    )

    def read(network=None, **changes):
        return package.from_state_dict(network or nn.linear(1, 1), state_of(mean, rho, **changes), **given)

    def read_with(**options):
        return package.from_state_dict(nn.linear(1, 1), state_of(mean, rho), **(given | options))

    def read_from(state):
        return package.from_state_dict(nn.linear(1, 1), state, **given)

    of_writing = {
        "a linearised model": (lambda: package.to_state_dict(linearized()), InputError, "of the network itself"),
        "an ensemble": (lambda: package.to_state_dict(ensemble()), InputError, "got an ensemble of 2"),
        "another library's network": (
            lambda: package.to_state_dict(of(lambda p, x: x @ p["w"])),
            InputError,
            "a network of bbb.nn",
        ),
        "a Gaussian normalisation": (
            lambda: package.to_state_dict(bayesian(nn.sequential(nn.linear(1, 2), nn.layer_norm(2)))),
            InputError,
            r"layers that .* has Gaussians for, got a Gaussian 'weight' of 1 \(layer_norm\)",
        ),
        "too few names": (lambda: package.to_state_dict(MODEL, ("fc1",)), InputError, "names of modules, one for each"),
    }
    of_reading = {
        "no network": (lambda: read("linear"), InputError, "a network of bbb.nn"),
        "a missing mean": (lambda: read(**{mean_key: None}), InputError, f"'bias' or '{mean_key}' and '{rho_key}'"),
        "a missing rho": (lambda: read(**{rho_key: None}), InputError, f"'bias' or '{mean_key}' and '{rho_key}'"),
        "a key left over": (lambda: read(scale=np.ones(1, "f4")), InputError, "'scale' besides"),
        "another library's keys": (
            lambda: read_from({"weight_mu": np.ones((1, 1), "f4"), "weight_log_sigma": np.ones((1, 1), "f4")}),
            InputError,
            f"'{mean.format('weight')}' and '{rho.format('weight')}' in the state dict, got 'weight_mu'",
        ),
        "an empty one": (lambda: read_from({}), InputError, "got an empty one"),
        "a key that is no word": (lambda: read_from({0: 1}), InputError, "arrays by their names"),
        "another shape": (lambda: read(**{mean_key: np.ones(3, "f4")}), ShapeError, rf"'{mean_key}' of shape \(1,\)"),
        "rho of another shape": (lambda: read(**{rho_key: np.ones(3, "f4")}), ShapeError, rf"'{rho_key}' of shape"),
        "NaN": (lambda: read(**{rho_key: np.full(1, NAN, "f4")}), InputError, f"'{rho_key}' to be finite"),
        "whole numbers": (lambda: read(**{rho_key: np.ones(1, int)}), InputError, "floating-point numbers"),
        "words": (lambda: read(**{mean_key: ["a"]}), InputError, "floating-point numbers"),
        "float64": (lambda: read(**{mean_key: np.ones(1)}), InputError, "dtype JAX is set to"),
        "a sigma of 0": (lambda: read(**{rho_key: np.full(1, -1e4, "f4")}), InputError, "log_std/bias' to be from"),
        "an infinite sigma": (
            lambda: read(**{rho_key: np.full(1, 1e30, "f4")}),
            InputError,
            "log_std/bias' to be from",
        ),
        "a file that is none": (lambda: read_from("train.csv"), ModelFileError, "a safetensors file of a state dict"),
        "names of no layer": (lambda: read_with(names=("a", "b")), InputError, "names of modules, one for each layer"),
        "a std besides": (lambda: read_with(std=0.1), InputError, "a state dict of a plain network, with std"),
        "a plain network": (
            lambda: read_from({"weight": np.ones((1, 1), "f4"), "bias": np.ones(1, "f4")}),
            InputError,
            "at least one Gaussian weight",
        ),
    }
    return {
        **wrong_models({f"{writes}: model": package.to_state_dict}),
        **wrong_likelihoods({reads: lambda one: read_with(likelihood=one)}),
        **crossed({f"{reads}: path": read_from}, NO_PATHS, ModelFileError, "state dict", " is"),
        **{f"{writes}: {what}": case for what, case in of_writing.items()},
        **{f"{reads}: {what}": case for what, case in of_reading.items()},
    }, {reads: lambda one: read_with(prior=one)}
