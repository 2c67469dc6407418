"""What every test runs under: strict promotion, warnings as errors, and JAX that is told how to count."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Run a test in float32, then in float64 under x64."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
