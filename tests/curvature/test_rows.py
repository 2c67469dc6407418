"""The square root of the Gauss-Newton, row by row."""

import jax
import numpy as np

import bbb
from bbb.curvature import rows
from bbb.curvature.api import needs_of
from bbb.curvature.problem import problem_of
from tests.curvature.models import KEY


def test_weights_that_are_not_random_are_not_copied_for_each_row():
    """Which would take more memory than what is counted for a row, of which the frozen weights are no part."""
    width, count = 200, 50
    layers = [bbb.nn.linear(2, 3), bbb.nn.tanh, bbb.nn.linear(3, width), bbb.nn.tanh, bbb.nn.linear(width, width)]
    network = bbb.nn.sequential(*layers, bbb.nn.tanh, bbb.nn.linear(width, 1))
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    model = bbb.bayesianize(network.apply, network.init(KEY), where=lambda path, leaf: path.startswith("0"), **beliefs)
    x = np.linspace(-1, 1, 2 * count, dtype="float32").reshape(count, 2)
    problem, _ = problem_of("laplace", model, x, x[:, :1], needs_of("full"), None, "2GB")
    program = jax.jit(lambda p: rows.of_tile(p, p.x[0], p.y[0], p.spread[0])).lower(problem).compile()
    assert program.memory_analysis().temp_size_in_bytes < count * width * width
