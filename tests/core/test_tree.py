"""Trees: the dataclasses survive all that JAX does to pytrees; sums, names and prefixes are right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.core import tree as tree_module

PARAMS = ({"bias": jnp.array([1.0, 2.0]), "weight": jnp.array([[3.0], [4.0]])}, (), jnp.array([5.0]))


def network(params, x):
    return x @ params[0]["weight"].T + params[0]["bias"][None] + params[2][None]


def mean_field():
    return bbb.MeanField.around(PARAMS, 0.1)


def normal():
    return bbb.priors.Normal(jnp.array(0.5), jnp.array(2.0))


def gaussian():
    return bbb.likelihoods.Gaussian(jnp.array([0.5, 2.0]), learn=True)


def bnn():
    return bbb.bayesianize(network, PARAMS, prior=normal(), likelihood=gaussian())


every_class = pytest.mark.parametrize("make", [mean_field, normal, gaussian, bnn])


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@every_class
def test_flatten_and_unflatten_give_the_noun_back(make):
    instance = make()
    leaves, structure = jax.tree.flatten(instance)
    back = jax.tree.unflatten(structure, leaves)
    assert type(back) is type(instance)
    assert_same(back, instance)


@every_class
def test_a_tree_may_be_rebuilt_from_placeholders(make):
    # JAX does it, for instance in vmap's in_axes; no constructor may look at them.
    placeholders = jax.tree.map(lambda _: object(), make())
    assert type(placeholders) is type(make())
    assert len(jax.tree.leaves(placeholders)) == len(jax.tree.leaves(make()))


@every_class
def test_jit_gives_the_noun_back(make):
    instance = make()
    assert_same(jax.jit(lambda n: n)(instance), instance)


@every_class
def test_vmap_maps_a_stack_of_dataclasses(make):
    instance = make()
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), instance)
    assert_same(jax.vmap(lambda n: jax.tree.map(lambda leaf: leaf / 2, n))(stack), jax.tree.map(lambda v: v / 2, stack))


@every_class
def test_grad_gives_a_noun_of_derivatives(make):
    instance = make()
    grad = jax.grad(lambda n: sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(n)))(instance)
    assert_same(grad, jax.tree.map(lambda leaf: 2 * leaf, instance))


@every_class
def test_the_dataclasses_are_frozen(make):
    instance = make()
    field = dataclasses.fields(instance)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(instance, field, 0.0)


def test_static_fields_are_part_of_the_structure():
    learned, fixed = bbb.likelihoods.Gaussian(0.5, learn=True), bbb.likelihoods.Gaussian(0.5)
    assert jax.tree.structure(learned) != jax.tree.structure(fixed)
    assert jax.tree.structure(fixed) == jax.tree.structure(bbb.likelihoods.Gaussian(0.7))
    model = bnn()
    assert jax.tree.structure(model) != jax.tree.structure(dataclasses.replace(model, apply=bbb.nn.relu.apply))


def test_leaves_are_named_by_their_path():
    assert tree_module.names(mean_field()) == [
        "mean/0/bias",
        "mean/0/weight",
        "mean/2",
        "log_std/0/bias",
        "log_std/0/weight",
        "log_std/2",
    ]


def test_sums_and_counts_run_over_every_element():
    assert float(tree_module.sum_leaves(PARAMS)) == 15.0
    assert tree_module.count(PARAMS) == 5


def test_a_sum_has_the_widest_dtype_of_its_leaves():
    tree = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(2, jnp.float32)}
    total = tree_module.sum_leaves(tree)
    assert total.dtype == jnp.float32
    assert float(total) == 5.0


def test_a_prefix_is_spread_over_what_is_below_it():
    spread = tree_module.broadcast_prefix((1, 2, 3), PARAMS)
    assert spread == ({"bias": 1, "weight": 1}, (), 3)
    with pytest.raises(ValueError, match="tuple"):
        tree_module.broadcast_prefix((1, 2), PARAMS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_enough_to_be_not_finite(bad):
    assert bool(tree_module.all_finite(PARAMS))
    assert not bool(tree_module.all_finite((PARAMS, jnp.array([0.0, bad]))))
