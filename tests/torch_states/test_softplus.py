"""log σ from ρ and back keep their digits, however small or large σ is: held against 700 decimal digits."""

import decimal

import numpy as np
import pytest

from bbb.torch_states.softplus import log_softplus, rho_of

RHOS = [-700.5, -103.25, -50.0, -37.4, -17.0, -7.125, -3.0, -0.5, 0.0, 0.5413, 0.75, 3.0, 17.0, 40.0, 88.75, 1e4, 1e15]


@pytest.fixture(autouse=True)
def _digits():
    with decimal.localcontext(prec=700, Emin=-decimal.MAX_EMAX, Emax=decimal.MAX_EMAX):  # 1 + exp(−700.5) has 305
        yield


def exact_log_std(rho):
    """Return log(log(1 + exp(ρ))) of the number that a dtype holds."""
    rho = decimal.Decimal(float(rho))
    softplus = rho if rho > 1000 else (1 + rho.exp()).ln()  # exp(−1000) beside it is below every digit
    return softplus.ln()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rho", RHOS)
def test_log_sigma_is_right_to_the_last_digit(rho, dtype):
    rho = np.array(rho, dtype)
    found, expected = log_softplus(rho), exact_log_std(rho)
    assert found.dtype == dtype
    error = abs(decimal.Decimal(float(found)) - expected)  # relative to σ, whose logarithm it is
    assert error <= decimal.Decimal(2 * float(np.finfo(dtype).eps)) * max(1, abs(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_way_back_gives_the_same_sigma(dtype):
    log_std = np.array([-745.0, -103.0, -30.0, -3.0, -1e-3, 0.0, 1e-3, 1.0, 3.0, 40.0], dtype)
    again = log_softplus(rho_of(log_std))
    assert again.dtype == dtype
    np.testing.assert_allclose(again, log_std, rtol=0, atol=4 * np.finfo(dtype).eps * np.max(np.abs(log_std)))
    np.testing.assert_array_less(np.abs(again - log_std), 8 * np.finfo(dtype).eps * np.maximum(1, np.abs(log_std)))


def test_rho_of_a_sigma_that_has_left_float64_is_log_sigma_itself():
    np.testing.assert_array_equal(log_softplus(np.array([-800.0, -1e30])), [-800.0, -1e30])
    np.testing.assert_array_equal(rho_of(np.array([-800.0, -1e30])), [-800.0, -1e30])
