"""`jit` compiles with options where XLA knows them, and stands aside within other programs."""

import jax
import jax.numpy as jnp
import pytest

from bbb import _compile


def double(x, *, times):
    return 2 * x * times


def test_it_computes_the_same_alone_and_within_another_program():
    fast = _compile.jit(double, static_argnames=("times",))
    assert fast(jnp.ones(2), times=3).tolist() == [6.0, 6.0]
    assert jax.jit(lambda x: fast(x, times=3))(jnp.ones(2)).tolist() == [6.0, 6.0]
    assert jax.eval_shape(lambda x: fast(x, times=3), jnp.ones(2)).shape == (2,)
    assert fast.__name__ == "double"


def test_an_option_that_xla_has_retired_is_left_out(monkeypatch):
    monkeypatch.setattr(_compile, "SMALL_OPTIONS", {"xla_cpu_no_such_option": True})
    _compile._options.cache_clear()
    try:
        assert _compile._options("cpu", False) is None
    finally:
        _compile._options.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the option is for CPUs")
def test_this_xla_knows_the_option():
    assert _compile._options("cpu", False) == _compile.SMALL_OPTIONS
    assert _compile._options("cpu", True) == _compile.LARGE_OPTIONS
    assert _compile._options("gpu", False) is None
