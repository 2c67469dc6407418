"""Bayesian-Torch and BLiTZ themselves, where they are installed: what is stored is theirs, and the way back."""

import jax
import numpy as np
import pytest

import bbb
from tests.torch_states.cases import CASES, numbers, rows, state

WHY = "pip install --no-deps bayesian-torch==0.5.0 blitz-bayesian-pytorch==0.2.8; what they made is stored in any case"
torch = pytest.importorskip("torch", reason=WHY)
pytest.importorskip("bayesian_torch", reason=WHY)
pytest.importorskip("blitz", reason=WHY)

from tests.torch_states import libraries  # noqa: E402


@pytest.fixture(scope="module", params=CASES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(name):
    return libraries.made(name)


def test_what_is_stored_is_what_the_library_writes(name, theirs):
    made, stored = libraries.arrays(theirs), state(name)
    assert made.keys() == stored.keys()
    for key in set(made) - {key for key in made if key.endswith("eps_w")}:
        np.testing.assert_array_equal(made[key], stored[key])
    np.testing.assert_allclose(libraries.at_means(theirs, rows(name)), numbers(name)["at_means"], rtol=0, atol=1e-6)


def test_the_library_loads_what_is_written_and_predicts_the_same(name, theirs):
    case = CASES[name]
    ours = jax.tree.map(lambda leaf: leaf + 0.1 if leaf.ndim else leaf + 1, case.read(theirs.state_dict()))
    other = libraries.made(name, seed=1)
    written = case.package.to_state_dict(ours, case.names)
    other.load_state_dict({key: torch.tensor(value) for key, value in written.items()})
    found = jax.jit(ours.apply)(ours.posterior.mean, rows(name))
    np.testing.assert_allclose(libraries.at_means(other, rows(name)), found, rtol=0, atol=2e-6)
    again = case.read(other.state_dict()).posterior
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(ours.posterior), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("bayesian")])
def test_the_prior_is_in_the_buffers(name):
    theirs = libraries.made(name)
    assert not [key for key in theirs.state_dict() if "prior" in key]
    read = CASES[name].read(theirs.state_dict() | dict(theirs.named_buffers()), prior=None)
    by_hand = CASES[name].read(theirs.state_dict())
    np.testing.assert_allclose(read.prior.kl(read.posterior), by_hand.prior.kl(by_hand.posterior), rtol=1e-6)


# BLiTZ's wrapper adds a whole draw, mean included, to the outputs at the means: no draw from the layer's posterior.
def test_the_flipout_wrapper_of_blitz_is_no_draw_of_its_posterior():
    wrappers = pytest.importorskip("blitz.utils.layer_wrappers")
    layer = wrappers.Flipout(libraries.of_blitz.BayesianLinear)(2, 1)
    for key, value in layer.state_dict().items():
        value.fill_(-1e4 if "rho" in key else 1.0)
    with torch.no_grad():
        outputs = np.stack([layer(torch.ones(1, 2)).numpy() for _ in range(100)])
    assert outputs.std() > 0.5  # with every sigma 0


def test_after_a_copy_only_the_samplers_arrays_are_trained():
    layer = libraries.made("blitz-dense").fc1
    before = layer.weight_mu.detach().numpy().copy()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    layer(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(layer.weight_mu.detach().numpy(), before)
    read = bbb.blitz.from_state_dict(
        bbb.nn.linear(2, 4), layer.state_dict(), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(1.0)
    )
    np.testing.assert_array_equal(read.posterior.mean["weight"], layer.weight_sampler.mu.detach().numpy())
