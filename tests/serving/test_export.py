"""An exported predictive says what the model's own says, without the network's code, or is refused by name."""

import dataclasses
import importlib
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.core.jit import jit
from bbb.likelihoods.per_member import PerMember
from bbb.serving.program import outputs_of
from tests import ROOT
from tests.serving.models import DRAWS, KEY, X, exported, model_of

pytest.importorskip("flatbuffers")

TOLERANCE = {"float32": 2e-5, "float64": 1e-10, "bfloat16": 0.05}


def numbers(band, levels=(0.95,)):
    """Return all that a predictive says, by name."""
    said = {}
    for name, marginal in (("f", band.f), ("y", band.y)):
        if isinstance(marginal, bbb.predictive.ClassMarginal):
            errors = marginal.mcse_probabilities, *marginal.mcse_entropy
            said[name] = (marginal.probabilities, *marginal.entropy, *errors)
            continue
        said[f"{name}, moments"] = (marginal.mean, marginal.std, *marginal.sigma_interval(2))
        said[f"{name}, errors"] = (marginal.mcse_mean, marginal.mcse_std, *marginal.mcse_sigma_interval(2))
        for level in levels:
            said[f"{name}, {level}"] = (*marginal.interval(level), *marginal.mcse_interval(level))
    return said


def assert_same(ours, theirs, tolerance=TOLERANCE["float32"], **options):
    found, expected = numbers(ours, **options), numbers(theirs, **options)
    assert found.keys() == expected.keys()
    for name in expected:
        for a, b in zip(found[name], expected[name], strict=True):
            assert (a.shape, a.dtype) == (np.shape(b), b.dtype), name
            np.testing.assert_allclose(
                np.asarray(a, np.float64), np.asarray(b, np.float64), tolerance, 20 * tolerance, err_msg=name
            )
    assert (ours.draws, ours.method) == (theirs.draws, theirs.method)


# --- what it says ----------------------------------------------------------------------------------------------------

LIKELIHOODS = {
    "Gaussian": (bbb.likelihoods.Gaussian(0.3), 1),
    "Gaussian, one noise per output": (bbb.likelihoods.Gaussian(np.array([0.3, 2.0])), 2),
    "HeteroscedasticGaussian": (bbb.likelihoods.HeteroscedasticGaussian(), 4),
    "BoundedHeteroscedasticGaussian": (bbb.likelihoods.BoundedHeteroscedasticGaussian(0.3), 2),
    "StudentT": (bbb.likelihoods.StudentT(0.3, 5.0), 1),
    "Poisson": (bbb.likelihoods.Poisson(), 1),
    "NegativeBinomial": (bbb.likelihoods.NegativeBinomial(0.5), 1),
    "Bernoulli": (bbb.likelihoods.Bernoulli(), 2),
    "Categorical": (bbb.likelihoods.Categorical(), 3),
}

DEAR = (
    "BoundedHeteroscedasticGaussian",
    "StudentT",
    "NegativeBinomial",
    "Poisson",
    "HeteroscedasticGaussian",
    "Gaussian, one noise per output",
)
"""Those whose quantiles compile for long."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in LIKELIHOODS])
def test_it_says_what_predict_says_for_every_likelihood(tmp_path, name):
    model = model_of(*LIKELIHOODS[name])
    band = exported(tmp_path, model, levels=(0.95, 0.5)).predict(KEY, X)
    assert_same(band, bbb.predict(KEY, model, X, draws=DRAWS), levels=(0.95, 0.5))


def test_classes_without_errors_of_their_entropies_are_refused_by_name(tmp_path, monkeypatch):
    # as an older bbb wrote them: load_exported must not take one result for another
    program = importlib.import_module("bbb.serving.program")
    whole = program.summarise

    def older(*args, **options):
        found = whole(*args, **options)
        return found._replace(y=found.y[:3])

    monkeypatch.setattr(program, "summarise", older)
    with pytest.raises(bbb.errors.ModelFileError) as caught:
        exported(tmp_path, model_of(*LIKELIHOODS["Categorical"]))
    expected = "to hold a predictive of classes with errors of its entropies, got an older one, of bbb "
    assert expected in str(caught.value)
    assert str(caught.value).endswith("Export the model again.")


# Of float32 are the likelihoods above too.
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True)
def test_it_says_what_predict_says_in_both_precisions(tmp_path, dtype):
    model = model_of(outputs=2)
    band = exported(tmp_path, model).predict(KEY, X)
    assert band.f.mean.dtype == dtype
    assert_same(band, bbb.predict(KEY, model, X, draws=DRAWS), TOLERANCE[dtype])


def test_half_precision_is_exported(tmp_path):
    network = bbb.nn.sequential(bbb.nn.linear(2, 3), bbb.nn.relu, bbb.nn.linear(3, 1))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), network.init(KEY))
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian()}
    model = bbb.bayesianize(network.apply, params, **beliefs)
    band = exported(tmp_path, model, levels=(0.5,)).predict(KEY, X)
    assert_same(band, bbb.predict(KEY, model, X, draws=DRAWS), TOLERANCE["bfloat16"], levels=(0.5,))
    with pytest.raises(bbb.errors.InputError, match="probabilities that bfloat16 can tell from 0 and 1"):
        exported(tmp_path, model, levels=(0.99,))


def test_many_draws_whose_quantiles_begin_with_a_pilot(tmp_path):
    model = model_of(bbb.likelihoods.HeteroscedasticGaussian(), 2)
    band = exported(tmp_path, model, draws=5_000, quantiles=(0.1,)).predict(KEY, X)
    theirs = bbb.predict(KEY, model, X, draws=5_000)
    assert_same(band, theirs)
    np.testing.assert_allclose(band.y.quantile(0.1), theirs.y.quantile(0.1), rtol=1e-4, atol=1e-5)


def ensemble_of_three():
    models = [model_of(bbb.likelihoods.Gaussian(0.1 + k), seed=k) for k in range(3)]
    members, likelihoods = (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
        for parts in zip(*((model.posterior, model.likelihood) for model in models), strict=True)
    )
    together = {"posterior": bbb.posteriors.Ensemble(members), "likelihood": PerMember(likelihoods)}
    return dataclasses.replace(models[0], **together)


@pytest.mark.parametrize("make", [model_of, ensemble_of_three])
def test_its_draws_are_those_of_predict_bit_for_bit(make):
    """Of as many rows as are evaluated at once; of an ensemble, draw i is of member i % 3 in both."""
    model, x = make(), jnp.asarray(X[:8], np.float32)

    def drawn(key, posterior, x):
        return outputs_of(key, model.forward, posterior, x, 9)

    np.testing.assert_array_equal(jit(drawn)(KEY, model.posterior, x), bbb.draws(KEY, model, x, draws=9))


def test_a_linearised_model_is_exported_as_its_draws(tmp_path):
    for model in (model_of(), ensemble_of_three()):
        linear = dataclasses.replace(model, linearized=True)
        band = exported(tmp_path, linear, draws=51).predict(KEY, X)
        assert_same(band, bbb.predict(KEY, linear, X, draws=51, method="draws"))
        plain = bbb.predict(KEY, model, X, draws=51)
        assert np.max(np.abs(band.f.std - plain.f.std)) > 1e-3


def test_an_ensemble_is_exported_with_the_noise_of_each_member(tmp_path):
    model = ensemble_of_three()
    band = exported(tmp_path, model, draws=49).predict(KEY, X)
    assert band.draws == 51
    assert_same(band, bbb.predict(KEY, model, X, draws=49))


def test_images_and_running_statistics(tmp_path):
    nn = bbb.nn
    network = nn.sequential(nn.conv(1, 2, 3), nn.batch_norm(2), nn.relu, nn.max_pool(2), nn.flatten, nn.linear(2, 3))
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Categorical()}
    model = bbb.bayesianize(network.apply, network.init(KEY), **beliefs)
    x = np.random.default_rng(0).normal(size=(9, 1, 4, 4))
    band = exported(tmp_path, model, x[:1], levels=()).predict(KEY, x)
    assert_same(band, bbb.predict(KEY, model, x, draws=DRAWS), levels=())


@pytest.mark.parametrize("library", ["linen", "nnx", "equinox", "haiku"])
def test_networks_of_other_libraries(tmp_path, library):
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as they are written
        model = bbb.bayesianize(*network_of(library), **beliefs)
        band = exported(tmp_path, model, levels=()).predict(KEY, X)
        assert_same(band, bbb.predict(KEY, model, X, draws=DRAWS), levels=())


def network_of(library):
    x = X.astype(np.float32)
    if library == "linen":
        linen = pytest.importorskip("flax.linen")
        module = linen.Sequential([linen.Dense(5), jax.nn.tanh, linen.Dense(1)])
        return module, module.init(KEY, x)
    if library == "nnx":
        nnx = pytest.importorskip("flax.nnx")
        rngs = nnx.Rngs(0)
        return (nnx.Sequential(nnx.Linear(2, 5, rngs=rngs), jax.nn.tanh, nnx.Linear(5, 1, rngs=rngs)),)
    if library == "equinox":
        eqx = pytest.importorskip("equinox")
        return (eqx.nn.MLP(2, 1, 5, 1, key=KEY),)
    hk = pytest.importorskip("haiku")

    def mlp(x):
        return hk.nets.MLP([5, 1])(x)

    transformed = hk.without_apply_rng(hk.transform(mlp))
    return transformed, transformed.init(jax.random.PRNGKey(0), x)


def test_any_number_of_rows_says_the_same_of_each(tmp_path):
    model = model_of()
    served = exported(tmp_path, model)
    x = np.random.default_rng(1).normal(size=(330, 2))
    whole = served.predict(KEY, x)
    assert_same(whole, bbb.predict(KEY, model, x, draws=DRAWS))
    for rows in (1, 8, 9, 65):
        part = served.predict(KEY, x[:rows])
        assert part.y.mean.shape == (rows, 1)
        np.testing.assert_allclose(
            part.y.interval(0.95), np.array(whole.y.interval(0.95))[:, :rows], rtol=1e-5, atol=1e-5
        )


def test_rows_are_cut_into_tiles_of_few_sizes_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("bbb.serving.exported"), "TILE_ELEMENTS", 64 * DRAWS)
    model = model_of()
    served = exported(tmp_path, model, levels=())
    sizes, run = set(), served._run
    object.__setattr__(served, "_run", lambda key, rows: (sizes.add(len(rows)), run(key, rows))[1])
    x = np.random.default_rng(1).normal(size=(200, 2))
    assert_same(served.predict(KEY, x), bbb.predict(KEY, model, x, draws=DRAWS), levels=())
    served.predict(KEY, x[:3])
    assert sizes == {8, 64}


def test_it_is_the_same_bit_for_bit_for_the_same_key_and_another_for_another(tmp_path):
    served = exported(tmp_path, model_of(), levels=())
    first, again, other = (served.predict(key, X).y.mean for key in (KEY, jax.random.key(3), jax.random.key(4)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_draw_has_an_infinite_error(tmp_path):
    band = exported(tmp_path, model_of(), draws=1, levels=()).predict(KEY, X)
    assert band.draws == 1
    assert np.isinf(band.f.mcse_mean).all()
    classes = exported(tmp_path, model_of(bbb.likelihoods.Categorical(), 3), draws=1).predict(KEY, X)
    assert np.isinf(classes.y.mcse_probabilities).all()


def test_it_tells_what_it_is(tmp_path):
    served = exported(tmp_path, model_of(), levels=(0.9,), quantiles=(0.5,), platforms=("tpu", "cpu", "cuda", "cpu"))
    assert (served.draws, served.quantiles, served.row, served.dtype) == (DRAWS, (0.05, 0.5, 0.95), (2,), np.float32)
    assert served.platforms == ("tpu", "cpu", "cuda")
    assert served.key_impl == "threefry2x32"
    assert served.written_by == {"bbb": bbb.__version__, "jax": jax.__version__}


NETWORK = """
    import jax.numpy as jnp

    def apply(params, x):
        return jnp.tanh(x @ params["w"]) @ params["v"]
"""

SERVE = """
    import importlib.util, sys
    for name in ("flax", "equinox", "haiku", "torch"):
        sys.modules[name] = None
    assert importlib.util.find_spec("their_network") is None
    import bbb, jax, numpy as np
    band = bbb.serving.load_exported(sys.argv[1]).predict(jax.random.key(3), np.load(sys.argv[2]))
    np.savez(sys.argv[3], *band.y.interval(0.95), band.f.mean, band.f.std)
"""


def test_it_runs_where_the_networks_code_is_not(tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "their_network.py").write_text(textwrap.dedent(NETWORK))
    monkeypatch.syspath_prepend(tmp_path / "code")
    import their_network

    rng = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(rng.normal(size=(2, 4)), np.float32),
        "v": jnp.asarray(rng.normal(size=(4, 1)), np.float32),
    }
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    model = bbb.bayesianize(their_network.apply, params, std=0.3, **beliefs)
    bbb.serving.export(tmp_path / "m.bbb", model, X, draws=DRAWS)
    np.save(tmp_path / "x.npy", X)
    files = [tmp_path / "m.bbb", tmp_path / "x.npy", tmp_path / "out.npz"]
    command = [sys.executable, "-c", textwrap.dedent(SERVE), *map(str, files)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT))
    )
    assert run.returncode == 0, run.stderr
    band = bbb.predict(KEY, model, X, draws=DRAWS)
    expected = (*band.y.interval(0.95), band.f.mean, band.f.std)
    for found, ours in zip(np.load(tmp_path / "out.npz").values(), expected, strict=True):
        np.testing.assert_allclose(found, ours, rtol=1e-5, atol=1e-5)


def environment(**changes):
    return {**os.environ, **changes}


# --- what it refuses to be asked -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("served"), model_of(), draws=4)


@pytest.mark.parametrize(
    ("key", "x", "error", "message"),
    [
        (0, X, bbb.errors.KeyTypeError, "one typed JAX key"),
        (
            jax.random.key(0, impl="rbg"),
            X,
            bbb.errors.KeyTypeError,
            r"a threefry2x32 key, got one of rbg\. Make one with",
        ),
        (KEY, X[:, :1], bbb.errors.ShapeError, r"x of shape \(rows, 2\), got shape \(11, 1\)"),
        (KEY, X[0], bbb.errors.ShapeError, r"x of shape \(rows, 2\), got shape \(2,\)"),
        (KEY, X[:0], bbb.errors.ShapeError, "at least one row"),
        (
            KEY,
            np.where(np.arange(22).reshape(11, 2) == 7, np.nan, X),
            bbb.errors.NonFiniteInputError,
            r"the first at index \(3, 1\)",
        ),
        (KEY, X * 1e200, bbb.errors.NonFiniteInputError, "x in float32 to hold finite numbers"),
        (KEY, X + 1j, bbb.errors.InputError, "real numbers"),
        (KEY, [["a", "b"]], bbb.errors.InputError, "real numbers"),
        (KEY, None, bbb.errors.InputError, "real numbers"),
    ],
)
def test_what_it_cannot_answer_is_refused_by_name(served, key, x, error, message):
    with pytest.raises(error, match=message):
        served.predict(key, x)


def test_whole_numbers_are_taken_where_real_ones_are_expected(served):
    whole = np.array([[1, 2], [3, -4]])
    assert np.array_equal(served.predict(KEY, whole).f.mean, served.predict(KEY, whole.astype(float)).f.mean)
    assert np.array_equal(served.predict(KEY, whole.tolist()).f.mean, served.predict(KEY, whole.astype(float)).f.mean)


def test_real_numbers_are_refused_where_whole_ones_are_expected(tmp_path):
    def embedding(params, x):
        return params["table"][x[:, 0]]

    params = {"table": jnp.arange(8.0).reshape(4, 2)}
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian()}
    model = bbb.bayesianize(embedding, params, **beliefs)
    x = np.array([[0], [3], [1]])
    served = exported(tmp_path, model, x, levels=())
    assert_same(served.predict(KEY, x), bbb.predict(KEY, model, x, draws=DRAWS), levels=())
    for bad in (x + 0.5, x + 2**40):
        with pytest.raises(bbb.errors.InputError, match=r"x of int32, got .* with other numbers"):
            served.predict(KEY, bad)


def test_a_call_inside_another_program_is_refused(served):
    with pytest.raises(bbb.errors.InputError, match=r"got a tracer\. Call predict outside of jax\.jit"):
        jax.jit(lambda x: served.predict(KEY, x).f.mean)(X)
    with pytest.raises(bbb.errors.InputError, match="got a tracer"):
        jax.jit(lambda key: served.predict(key, X).f.mean)(KEY)


def test_a_quantile_that_was_not_exported_is_refused(served):
    with pytest.raises(
        bbb.errors.QuantileError, match=r"exported \(0\.025, 0\.975\), got 0\.9\. Export the model again with"
    ):
        served.predict(KEY, X).y.quantile(0.9)


# --- what it refuses to write ----------------------------------------------------------------------------------------


def counts_rows(params, x):
    return x @ params["w"] * (2.0 if x.shape[0] > 5 else 1.0)


def calls_python(params, x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(np.asarray, shape, x) @ params["w"]


def tree(apply):
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian()}
    return bbb.bayesianize(apply, {"w": jnp.ones((2, 1))}, **beliefs)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (tree(counts_rows), {}, bbb.errors.InputError, "one program for any number of rows on cpu, got Inconclusive"),
        (tree(calls_python), {}, bbb.errors.InputError, "one program for any number of rows on cpu, got "),
        (model_of(), {"x": X[:, :1]}, bbb.errors.ShapeError, "an x that the network accepts"),
        (model_of(), {"x": X * np.inf}, bbb.errors.NonFiniteInputError, "finite"),
        (model_of(), {"draws": 0}, bbb.errors.InputError, "draws to be a whole number of at least 1"),
        (model_of(), {"draws": "auto"}, bbb.errors.InputError, "draws to be a whole number"),
        (model_of(), {"levels": (95,)}, bbb.errors.InputError, "inside"),
        (model_of(), {"quantiles": (0.0,)}, bbb.errors.InputError, "inside"),
        (
            model_of(),
            {"platforms": ()},
            bbb.errors.InputError,
            r"platforms of cpu, cuda, rocm, tpu, one or more, got \(\)",
        ),
        (model_of(), {"platforms": ("gpu",)}, bbb.errors.InputError, r"got \('gpu',\)"),
        (model_of(), {"platforms": 3}, bbb.errors.InputError, "got 3"),
        (model_of(), {"platforms": [[]]}, bbb.errors.InputError, "platforms of"),
        (model_of(bbb.likelihoods.HeteroscedasticGaussian(), 3), {}, bbb.errors.ShapeError, "a mean and a logarithm"),
        ("model", {}, bbb.errors.InputError, "model to be a BNN, got str"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path, model, options, error, message):
    with pytest.raises(error, match=message):
        exported(tmp_path, model, **{"x": X, **options})
    assert list(tmp_path.iterdir()) == []


def test_without_flatbuffers_it_says_what_to_install(tmp_path, monkeypatch):
    bbb.serving.export(tmp_path / "m.bbb", model_of(), X, draws=4, platforms="cpu")
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    message = r"the package flatbuffers, .* pip install flatbuffers; or, in a clone of bbb, pip install '.\[export\]'"
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.serving.export(tmp_path / "n.bbb", model_of(), X)
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.serving.load_exported(tmp_path / "m.bbb")
    assert [path.name for path in tmp_path.iterdir()] == ["m.bbb"]


def test_a_network_that_overflows_is_refused_as_predict_refuses_it(tmp_path):
    network = bbb.nn.linear(1, 1)
    params = {"weight": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian()}
    model = bbb.bayesianize(network.apply, params, **beliefs)
    x = np.array([[1.0], [-1e30]])
    served = exported(tmp_path, model, x, levels=(), draws=4)
    said = []
    for predict in (served.predict, lambda key, x: bbb.predict(key, model, x, draws=4)):
        with pytest.raises(bbb.errors.NonFiniteOutputError) as caught:
            predict(KEY, x)
        said.append(str(caught.value).split(". ")[0])
    assert said[0] == said[1]
    assert "the variance of the network's outputs to be finite in float32" in said[0]
    assert "row 1 of x" in said[0]
