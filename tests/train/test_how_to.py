"""The examples of the package's docstring run."""

import doctest

import jax

import bbb


def test_the_examples_of_the_docstring_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as users run it
        failed, tried = doctest.testmod(bbb.train.data, globs={"__name__": "__main__"})
    assert tried > 20
    assert not failed
