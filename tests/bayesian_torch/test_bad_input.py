"""Bad input to `bayesian_torch`: refused by name, and nothing is written."""

import numpy as np
import pytest

import bbb
from bbb.errors import InputError, ShapeError
from bbb.networks import nn
from tests.bad_input import MODEL, assert_refused, wrong_priors
from tests.torch_states.bad_input import cases_of, state_of

SHARED, PRIORS = cases_of("bayesian_torch", bbb.bayesian_torch, "mu_{}", "rho_{}")
BUFFERS = {
    f"prior_{name}_{part}": np.ones(shape, "f4")
    for name, shape in (("weight", (1, 1)), ("bias", (1,)))
    for part in ("mu", "sigma")
}


def read(network=None, prior=None, **changes):
    arrays = state_of("mu_{}", "rho_{}", **changes)
    return bbb.bayesian_torch.from_state_dict(
        network or nn.linear(1, 1), arrays, prior=prior, likelihood=MODEL.likelihood
    )


def read_lstm():
    keys = [f"{gate}.{part}_weight" for gate in ("ih", "hh") for part in ("mu", "rho")]
    arrays = {key: np.zeros((4, 1), "f4") for key in keys}
    return bbb.bayesian_torch.from_state_dict(nn.linear(1, 1), arrays, prior=MODEL.prior, likelihood=MODEL.likelihood)


CASES = {
    **SHARED,
    **{name: case for name, case in wrong_priors(PRIORS).items() if not name.endswith("nothing")},
    "bayesian_torch.from_state_dict: no prior anywhere": (
        read,
        InputError,
        r"a prior, or the buffers of the prior of 'weight' in the state dict, got neither\. Pass prior=",
    ),
    "bayesian_torch.from_state_dict: half a prior": (
        lambda: read(**BUFFERS | {"prior_bias_sigma": None}),
        InputError,
        "the buffers of the prior of 'bias'",
    ),
    "bayesian_torch.from_state_dict: a prior of another shape": (
        lambda: read(**BUFFERS | {"prior_bias_mu": np.ones(2, "f4")}),
        ShapeError,
        r"'prior_bias_mu' of shape \(1,\), got \(2,\)",
    ),
    "bayesian_torch.from_state_dict: a prior of std 0": (
        lambda: read(**BUFFERS | {"prior_bias_sigma": np.zeros(1, "f4")}),
        InputError,
        "prior std to be .*above 0",
    ),
    "bayesian_torch.from_state_dict: an LSTM": (
        read_lstm,
        InputError,
        "'mu_weight' and 'rho_weight' in the state dict, got 'ih.mu_weight'",
    ),
    "bayesian_torch.from_state_dict: a kernel, where a dense layer is expected": (
        lambda: read(
            mu_weight=None,
            rho_weight=None,
            mu_kernel=np.ones((1, 1), "f4"),
            rho_kernel=np.ones((1, 1), "f4"),
            prior=MODEL.prior,
        ),
        InputError,
        "'mu_weight' and 'rho_weight' in the state dict",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
