"""`jit` compiles with options where XLA knows them, and stands aside within other programs."""

import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bbb.core import jit, process
from tests import compilations, xla_flags


def double(x, *, times):
    return 2 * x * times


def test_it_computes_the_same_alone_and_within_another_program():
    fast = jit.jit(double, static_argnames=("times",))
    assert fast(jnp.ones(2), times=3).tolist() == [6.0, 6.0]
    assert jax.jit(lambda x: fast(x, times=3))(jnp.ones(2)).tolist() == [6.0, 6.0]
    assert jax.eval_shape(lambda x: fast(x, times=3), jnp.ones(2)).shape == (2,)
    assert fast.__name__ == "double"


@pytest.mark.parametrize("x64", [False, True])
def test_a_program_that_is_compiled_ahead_is_not_compiled_again(monkeypatch, x64):
    made = jit.jit(double, static_argnames=("times",))
    x = np.arange(3.0 + x64)
    with jax.enable_x64(x64):
        made(x[:1], times=1)  # what every program needs once
        with compilations.noted() as found:
            for cores, expected in ((1, 0), (2, 1)):  # one core compiles when it must
                monkeypatch.setattr(process, "cores", lambda cores=cores: cores)
                made.ahead(x, times=3)
                for thread in threading.enumerate():
                    if thread.name == "bbb-compile":
                        thread.join()
                assert len(found) == expected
            answer = made(x, times=3)
            assert len(found) == 1
    assert answer.dtype == (np.float64 if x64 else np.float32)
    np.testing.assert_array_equal(answer, 6 * x)


def test_a_failure_to_compile_ahead_is_left_to_the_call():
    class Broken:
        def compile(self):
            raise RuntimeError("no program")

    assert jit._compile(Broken()) is None


@pytest.fixture
def afresh(monkeypatch):
    """Forget which options were tried, before and after, and the flags of the suite."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    jit._options.cache_clear()
    yield
    jit._options.cache_clear()


def test_an_option_that_xla_has_retired_is_left_out_and_the_others_stay(monkeypatch, afresh):
    monkeypatch.setattr(jit, "SMALL_OPTIONS", {"xla_cpu_no_such_option": True})
    assert jit._options("cpu", False) is None
    jit._options.cache_clear()
    monkeypatch.setattr(jit, "SMALL_OPTIONS", jit.LARGE_OPTIONS | {"xla_cpu_no_such_option": True})
    assert jit._options("cpu", False) == jit.LARGE_OPTIONS


def test_what_the_flags_of_xla_say_stays_as_it_is(monkeypatch, afresh):
    assert jit._options("cpu", True) == jit.LARGE_OPTIONS
    jit._options.cache_clear()
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert jit._options("cpu", True) == {"xla_cpu_prefer_vector_width": 512}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the option is for CPUs")
def test_this_xla_gets_no_option_that_it_does_not_know():
    for large in (False, True):
        options = jit._options("cpu", large)
        assert options is None or jax.jit(lambda: 1, compiler_options=options)() == 1
    assert jit._options("gpu", False) is None


def test_a_flag_that_xla_has_retired_is_left_out_of_the_suite():
    kept = "--xla_backend_optimization_level=1"
    assert xla_flags.known([kept, "--xla_cpu_no_such_flag=1"]) == [kept]
    assert set(os.environ["XLA_FLAGS"].split()) == set(xla_flags.known(os.environ["XLA_FLAGS"].split()))
