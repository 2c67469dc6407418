"""Bad input to `blitz`: refused by name, and nothing is written."""

import numpy as np
import pytest

import bbb
from bbb.errors import InputError
from bbb.networks import nn
from tests.bad_input import MODEL, assert_refused, wrong_priors
from tests.torch_states.bad_input import cases_of

SHARED, PRIORS = cases_of("blitz", bbb.blitz, "{}_mu", "{}_rho")


def read(network, *keys, shape=(1, 1)):
    state = {key: np.zeros(shape, "f4") for key in keys}
    return bbb.blitz.from_state_dict(network, state, prior=MODEL.prior, likelihood=MODEL.likelihood)


LSTM = ("weight_ih_mu", "weight_ih_rho", "weight_ih_sampler.mu", "weight_ih_sampler.rho", "weight_ih_sampler.eps_w")
CASES = {
    **SHARED,
    **wrong_priors(PRIORS),
    "blitz.from_state_dict: an LSTM": (
        lambda: read(nn.linear(1, 1), *LSTM),
        InputError,
        "'weight_mu' and 'weight_rho' in the state dict, got 'weight_ih_mu'",
    ),
    "blitz.from_state_dict: a convolution without bias, where a bias is expected": (
        lambda: read(nn.conv(1, 1, 1), "weight_mu", "weight_rho", "bias_zero", shape=(1, 1, 1, 1)),
        InputError,
        "'bias' or 'bias_mu' and 'bias_rho' in the state dict, got 'weight_mu', 'weight_rho'",
    ),
    "blitz.from_state_dict: a bias of a convolution, where none is expected": (
        lambda: read(nn.conv(1, 1, 1, bias=False), "weight_mu", "weight_rho", "bias_mu", shape=(1, 1, 1, 1)),
        InputError,
        "'bias_mu' besides",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_by_name_and_nothing_is_written(case, work, monkeypatch):
    monkeypatch.chdir(work)
    assert_refused(*CASES[case], work)
