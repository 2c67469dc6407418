"""The examples of the package's docstring run."""

import doctest

import bbb


def test_the_examples_of_the_docstring_run():
    failed, tried = doctest.testmod(bbb.sklearn, globs={"__name__": "__main__"})
    assert tried > 10
    assert not failed
