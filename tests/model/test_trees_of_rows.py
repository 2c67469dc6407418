"""Rows as trees of arrays: a network of several inputs is what it is of one, side by side."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.core.rows import apart, as_row, count_rows, map_rows, put_back, rows_mask, with_rows
from bbb.errors import InputError, NonFiniteInputError, ShapeError
from bbb.objectives.objective import has_exact_elbo

ROWS = 40
NETWORK = bbb.nn.sequential(bbb.nn.linear(3, 6), bbb.nn.tanh, bbb.nn.linear(6, 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """Inputs as a registered dataclass, of which one may be absent."""

    left: jax.Array
    right: tuple[jax.Array, None]


def joined(params, x):
    """Run the network on inputs that come apart."""
    right = x.right[0]
    return NETWORK.apply(params, jnp.concatenate([x.left, right], axis=1))


RELU = bbb.nn.sequential(bbb.nn.linear(3, 6), bbb.nn.relu, bbb.nn.linear(6, 1))


def joined_relu(params, x):
    """Likewise, with units whose bound is exact."""
    return RELU.apply(params, jnp.concatenate([x.left, x.right[0]], axis=1))


@functools.cache
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    return x, (np.sin(x[:, :1]) + 0.1 * rng.normal(size=(ROWS, 1))).astype(np.float32)


def as_tree(x):
    return Inputs(x[:, :2], (x[:, 2:], None))


def model_of(apply):
    start, likelihood = NETWORK.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.3, learn=True)
    return bbb.bayesianize(apply, start, prior=bbb.priors.Normal(), likelihood=likelihood)


def pair():
    """Return the same model and data twice: of one array, and of a tree."""
    x, y = data()
    return (model_of(NETWORK.apply), x, y), (model_of(joined), as_tree(x), y)


def same(one, other, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), one, other)


FITS = {
    "all rows": {},
    "minibatches": {"batch_size": 16},
    "a share held out": {"batch_size": 16, "validation": 0.2},
    "restarts": {"restarts": bbb.train.Restarts(2, init=NETWORK.init)},
    "anchored": {"restarts": bbb.train.Restarts(2, anchored=True), "batch_size": 16},
}


@pytest.mark.parametrize("how", FITS)
def test_training_on_a_tree_is_training_on_its_columns(how):
    trained = [bbb.fit(jax.random.key(1), *given, steps=20, progress=False, **FITS[how])[0] for given in pair()]
    same(*(model.posterior for model in trained))


@pytest.mark.parametrize("forward", [bbb.forwards.local_reparam, bbb.forwards.flipout])
def test_noise_of_rows_is_that_of_the_columns(forward):
    trained = []
    for model, x, y in pair():
        objective = bbb.train.Objective(forward=forward(model.apply))
        trained.append(bbb.fit(jax.random.key(1), model, x, y, steps=20, objective=objective, progress=False)[0])
    same(*(model.posterior for model in trained))


def test_the_exact_bound_and_an_estimate_take_trees():
    exact, estimates = [], []
    for model, x, y in pair():
        rectified = dataclasses.replace(model, apply=joined_relu if model.apply is joined else RELU.apply)
        assert has_exact_elbo(rectified, x)
        objective = bbb.train.Objective(bbb.objectives.exact_elbo_cost)
        exact.append(bbb.fit(jax.random.key(1), rectified, x, y, steps=5, objective=objective, progress=False)[1].loss)
        estimates.append(bbb.objectives.negative_elbo(jax.random.key(1), model, x, y)[0])
    same(*exact)
    same(*estimates)


@pytest.mark.parametrize("how", [{"draws": 50}, {"method": "moments"}, {"method": "last_layer", "draws": 50}])
def test_predictions_of_a_tree_are_those_of_its_columns(how):
    made = [bbb.predict(jax.random.key(2), model, x, levels=(0.9,), **how) for model, x, _ in pair()]
    same(made[0].f.mean, made[1].f.mean)
    same(made[0].y.interval(0.9), made[1].y.interval(0.9))
    assert made[0].x is None
    assert made[1].x is None


def test_draws_of_a_few_rows_are_those_among_others():
    model, x, _ = pair()[1]
    every = bbb.draws(jax.random.key(2), model, x, draws=9)
    few = bbb.draws(jax.random.key(2), model, as_tree(data()[0][5:9]), draws=9)
    same(every[:, 5:9], few)


@pytest.mark.parametrize("structure", ["full", "kron", "low_rank", "diag", "last_layer"])
def test_laplace_of_a_tree_is_that_of_its_columns(structure):
    made = []
    for model, x, y in pair():
        wide = bbb.laplace(jax.random.key(3), model, x, y, structure=structure, rank=3)
        made.append(bbb.predict(jax.random.key(2), wide, x).f.std)
    same(*made, rtol=1e-4)


def test_the_evidence_and_what_raises_it_take_trees():
    nats = [bbb.log_evidence(*given) for given in pair()]
    same(*nats)
    how = {"rounds": 2, "steps": 5, "batch_size": 16, "progress": False}
    tuned = [bbb.tune(jax.random.key(3), *given, **how)[0] for given in pair()]
    same(tuned[0].posterior.mean, tuned[1].posterior.mean, rtol=1e-3)


def test_chains_take_trees():
    pytest.importorskip("blackjax")
    how = {"draws": 8, "warmup": 20, "chains": 2}
    drawn = [bbb.mcmc.hmc(jax.random.key(4), *given, **how)[0] for given in pair()]
    same(drawn[0].posterior.params, drawn[1].posterior.params, rtol=1e-2)


def test_a_diagnosis_takes_trees():
    model, x, y = pair()[1]
    model, history = bbb.fit(jax.random.key(1), model, x, y, steps=50, progress=False)
    columns = dataclasses.replace(model, apply=NETWORK.apply)
    one, other = bbb.diagnose(model, history, x, y), bbb.diagnose(columns, history, data()[0], y)
    names = {finding.name for finding in one}
    assert names <= {finding.name for finding in other}


def test_arviz_gets_every_leaf_by_name():
    pytest.importorskip("xarray")
    model, x, y = pair()[1]
    found = bbb.evaluate.to_datatree(jax.random.key(5), model, x, y, draws=4)
    assert set(found["constant_data"].data_vars) == {"x.left", "x.right.0"}


def test_members_with_trees_of_their_own_are_trained_side_by_side():
    (plain, x, y), (model, tree, _) = pair()
    keys = jax.random.split(jax.random.key(6), 2)
    how = {"steps": 10, "batch_size": 16, "progress": False}
    one = bbb.train.fit_each(keys, [plain, plain], [x, x + 1], [y, y], **how)[0]
    other = bbb.train.fit_each(keys, [model, model], [tree, as_tree(x + 1)], [y, y], **how)[0]
    same(one[1].posterior, other[1].posterior)


def test_a_run_on_trees_goes_on_from_its_checkpoint(tmp_path):
    model, x, y = pair()[1]
    how = {"batch_size": 16, "progress": False}
    whole = bbb.fit(jax.random.key(1), model, x, y, steps=20, **how)[0]
    options = bbb.train.Checkpointing(tmp_path / "run", resume=True)
    bbb.fit(jax.random.key(1), model, x, y, steps=10, checkpoints=options, **how)
    halves = bbb.fit(jax.random.key(1), model, x, y, steps=20, checkpoints=options, **how)[0]
    jax.tree.map(np.testing.assert_array_equal, whole.posterior, halves.posterior)


def test_a_mesh_takes_trees():
    model, x, y = pair()[1]
    mesh = jax.make_mesh((1, 1), ("rows", "draws"))
    alone, over = (bbb.predict(jax.random.key(2), model, x, draws=20, mesh=m).f.mean for m in (None, mesh))
    same(alone, over)
    batch = jax.make_mesh((1,), ("batch",))
    trained = [bbb.fit(jax.random.key(1), model, x, y, steps=5, progress=False, placement=m)[0] for m in (None, batch)]
    same(*(model.posterior for model in trained))


# What all rows share


def shifted(params, x):
    """Run the network on columns that are shifted by what all rows share."""
    return NETWORK.apply(params, x["columns"] + x["shift"].value[None])


def test_what_rows_share_is_whole_in_every_batch_tile_and_device():
    x, y = data()
    shift = np.asarray([0.5, -0.5, 1.0], np.float32)
    given = {"columns": x, "shift": bbb.networks.Shared(shift)}
    how = {"steps": 20, "batch_size": 16, "validation": 0.2, "progress": False}
    one = bbb.fit(jax.random.key(1), model_of(NETWORK.apply), x + shift, y, **how)[0]
    other = bbb.fit(jax.random.key(1), model_of(shifted), given, y, **how)[0]
    same(one.posterior, other.posterior)
    mesh = jax.make_mesh((1, 1), ("rows", "draws"))
    for options in ({"draws": 20}, {"draws": 20, "mesh": mesh}, {"method": "moments"}):
        made = [bbb.predict(jax.random.key(2), *parts, **options).f.std for parts in ((one, x + shift), (other, given))]
        same(*made, rtol=1e-4)
    wide = [dataclasses.replace(model, linearized=True) for model in (one, other)]
    made = [bbb.predict(jax.random.key(2), *parts).f.std for parts in zip(wide, (x + shift, given), strict=True)]
    same(*made, rtol=1e-4)
    assert "exact" in str(bbb.forwards.explain(shifted, other.posterior, given))


def test_members_with_data_of_their_own_may_have_what_their_rows_share():
    x, y = data()
    shifts = np.asarray([[0.5, -0.5, 1.0], [1.0, 0.0, 0.0]], np.float32)
    keys, how = jax.random.split(jax.random.key(6), 2), {"steps": 5, "batch_size": 16, "progress": False}
    plain = bbb.train.fit_each(keys, [model_of(NETWORK.apply)] * 2, [x + s for s in shifts], [y, y], **how)[0]
    given = [{"columns": x, "shift": bbb.networks.Shared(shift)} for shift in shifts]
    tree = bbb.train.fit_each(keys, [model_of(shifted)] * 2, given, [y, y], **how)[0]
    for one, other in zip(plain, tree, strict=True):
        same(one.posterior, other.posterior)
    fewer = {**given[1], "columns": x[:-1]}
    with pytest.raises(ShapeError, match="Expected x of one shape for all members, got shapes"):
        bbb.train.fit_each(keys, [model_of(shifted)] * 2, [given[0], fewer], [y, y[:-1]], **how)


def test_a_network_over_the_edges_of_a_graph_predicts_all_rows_together():
    """Where only rows that are connected to a seed know the answer, a model learns it from its neighbours."""
    rng = np.random.default_rng(1)
    nodes = rng.normal(size=(ROWS, 1)).astype(np.float32)
    senders, receivers = np.repeat(np.arange(0, ROWS, 2), 2), np.arange(ROWS)
    mean_of_neighbour = nodes[senders][np.argsort(receivers)]
    dense = bbb.nn.sequential(bbb.nn.linear(2, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))

    def apply(params, x):
        edges = x["edges"].value
        sent = jnp.zeros_like(x["nodes"]).at[edges[1]].add(x["nodes"][edges[0]])
        return dense.apply(params, jnp.concatenate([x["nodes"], sent], axis=1))

    x = {"nodes": nodes, "edges": bbb.networks.Shared(np.stack([senders, receivers]))}
    noise = bbb.likelihoods.Gaussian(0.1)
    model = bbb.bayesianize(apply, dense.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=noise)
    model, _ = bbb.fit(jax.random.key(1), model, x, mean_of_neighbour, steps=500, progress=False)
    with pytest.raises(InputError, match="processes each row of x by itself"):
        bbb.predict(jax.random.key(2), model, x, draws=10)
    made = bbb.predict(jax.random.key(2), model, x, draws=200, rows="together")
    assert np.corrcoef(made.f.mean[:, 0], mean_of_neighbour[:, 0])[0, 1] > 0.95


# Helpers


def test_rows_are_taken_apart_and_put_back():
    x = {"a": np.zeros((3, 2)), "b": bbb.networks.Shared({"c": np.ones(4)}), "none": None}
    rows, shared = apart(x)
    assert jax.tree.structure(put_back(rows, shared)) == jax.tree.structure(x)
    assert rows_mask(x) == [True, False]
    assert count_rows(x) == 3
    assert with_rows(x, 7)["a"].shape == (7, 2)
    assert with_rows(x, 7)["b"].value["c"].shape == (4,)
    assert map_rows(lambda leaf: leaf[:1], x)["a"].shape == (1, 2)
    assert as_row({"a": np.zeros(2)})["a"].shape == (1, 2)


# Bad input


def call(x, y=None):
    model = model_of(joined)
    return bbb.fit(jax.random.key(1), model, x, data()[1] if y is None else y, steps=1, progress=False)


def test_bad_trees_are_refused_by_the_path_of_their_leaf():
    x, y = data()
    with pytest.raises(ShapeError, match=r"Expected x leaf 'right/0' to have the 40 rows of 'left', got 39 rows. "):
        call(Inputs(x[:, :2], (x[:39, 2:], None)))
    with pytest.raises(NonFiniteInputError, match=r"Expected x leaf 'left' to hold finite numbers only, got 1 "):
        call(Inputs(np.where(np.arange(ROWS)[:, None] == 3, np.nan, x[:, :1]), (x[:, 2:], None)))
    with pytest.raises(InputError, match="Expected x leaf 'words' to be real numbers in an array"):
        call({"words": np.array(["a"] * ROWS)})
    with pytest.raises(ShapeError, match="Expected x to hold at least one array with rows, got none"):
        call({"edges": bbb.networks.Shared(np.zeros(3))})
    with pytest.raises(InputError, match="Expected x to be a tree that JAX can flatten, got one"):
        call({"a": x, 1: x})
    with pytest.raises(ShapeError, match="Expected y to have the 40 rows of x, got 39 rows"):
        call(as_tree(x), y[:39])
    with pytest.raises(InputError, match="Expected y to be one array, got a dict"):
        call(as_tree(x), {"one": y})
    with pytest.raises(NonFiniteInputError, match="Expected x leaf 'shift' to hold finite numbers only"):
        call({"columns": x, "shift": bbb.networks.Shared(np.array([np.inf]))})


def test_what_rows_share_is_refused_where_rows_are_summed_over():
    x, y = data()
    given = {"columns": x, "shift": bbb.networks.Shared(np.zeros(3, np.float32))}
    with pytest.raises(InputError, match=r"Expected x of rows alone, for laplace, got a tree with bbb"):
        bbb.laplace(jax.random.key(3), model_of(shifted), given, y)


def test_lists_and_tuples_of_numbers_are_one_array_as_before():
    x, _ = data()
    model = model_of(NETWORK.apply)
    made = [
        bbb.predict(jax.random.key(2), model, rows, draws=5).f.mean
        for rows in (x[:2], x[:2].tolist(), tuple(map(tuple, x[:2].tolist())), list(x[:2]))
    ]
    for other in made[1:]:
        same(made[0], other)
