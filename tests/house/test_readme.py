"""The README's examples run as they stand, each alone, and print what they say; its figures and commands are true."""

import builtins
import importlib.util
import os
import re
import subprocess
import symtable
import sys
import tomllib
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from itertools import takewhile

import jax
import matplotlib as mpl
import numpy as np
import pytest

import bbb
from tests import ROOT

README = ROOT / "README.md"
FENCE = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)
LIBRARIES = ("flax", "haiku", "equinox", "torch", "torchbnn")
TITLES = (
    "bbb: error bars for any JAX network",
    "Your own data",
    "Your own network",
    "Data as you have them",
    "Training with less noise",
    "Without draws",
    "Between the data",
    "Classes",
    "Bands that are right",
    "Coming from torchbnn",
    "Long runs",
    "Many devices",
    "Several hosts",  # whose example test_hosts.py runs
    "Serving",
)


def section(title):
    """Return the text of one section, without its title."""
    found = re.search(rf"^#+ {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", README.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"no section '{title}' in the README"
    return found[1]


def examples(title):
    """Return the Python blocks of a section."""
    return [code for kind, code in FENCE.findall(section(title)) if kind == "python"]


def run(title):
    """Run each example of a section by itself, hold it against the output below it; return all their names."""
    blocks, names = FENCE.findall(section(title)), {}
    for i, (kind, code) in enumerate(blocks):
        if kind == "python":
            _skip_without_libraries(code)
            alone = {"__name__": "__main__"}
            with as_the_reader_has_it(), redirect_stdout(StringIO()) as printed:
                exec(compile(code, "example.py", "exec"), alone)
            promised = [text for _, text in takewhile(lambda block: block[0] == "text", blocks[i + 1 :])]
            assert printed.getvalue().split() == "".join(promised).split()  # by words: the README may break a line
            names |= alone
    return names


@contextmanager
def as_the_reader_has_it():
    """Let dtypes and ranks mix, as flax and haiku do inside their layers."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _skip_without_libraries(code):
    for name in LIBRARIES:
        if re.search(rf"^import .*\b{name}\b", code, re.M) and importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Run the first example; its files lie in `folder`."""
    mpl.use("agg")
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run(TITLES[0]) | {"folder": folder}


@pytest.fixture(scope="module")
def beliefs():
    return {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(std=0.5, learn=True)}


def unbound(code):
    """Name what a block uses and neither makes nor imports, wherever in it."""
    module = symtable.symtable(code, "example.py", "exec")
    bound = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned() or symbol.is_imported()}

    def used(table):
        symbols = (symbol for symbol in table.get_symbols() if symbol.is_referenced())
        yield from (symbol.get_name() for symbol in symbols if table is module or symbol.is_global())
        for child in table.get_children():
            yield from used(child)

    return set(used(module)) - bound - set(dir(builtins))


ALONE = [pytest.param(code, id=f"{title} {i}") for title in TITLES for i, code in enumerate(examples(title))]


@pytest.mark.parametrize("code", ALONE)
def test_each_example_makes_or_imports_all_that_it_names(code):
    assert not unbound(code)


def test_what_is_not_bound_is_found():
    assert unbound("import a\nb = [c for c in a.d if e]\ndef f(x):\n    return x + b + g + len(h)\n") == {"e", "g", "h"}


@pytest.mark.slow
@pytest.mark.parametrize("code", [case for case in ALONE if not case.id.startswith("Several hosts")])
def test_each_example_runs_in_a_fresh_interpreter(code, tmp_path):
    _skip_without_libraries(code)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(README.parent), "MPLBACKEND": "agg"}
    command = [sys.executable, "example.py"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr


EXTRAS = {
    "BayesianMLP": "sklearn",
    r"bbb\.serving\.export": "export",
    "import .*torchbnn": "reference",
    "to_datatree": "arviz",
    r"bbb\.mcmc": "mcmc",
}
"""What in a block asks for which extra."""


def test_a_section_names_the_extras_that_its_examples_need():
    known = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for title in TITLES:
        for need, extra in EXTRAS.items():
            if any(re.search(need, code) for code in examples(title)):
                assert extra in known
                assert re.search(rf"extra `{extra}`|'\.\[{extra}\]'", section(title)), (title, extra)
        if any("import flax" in code for code in examples(title)):
            assert "`pip install flax`" in section(title)


def test_the_first_example_runs_and_its_band_is_right(first):
    task, band, model = first["task"], first["band"], first["model"]
    assert float(model.likelihood.std) == pytest.approx(bbb.tasks.NOISE_STD, rel=0.25)
    lower, upper = band.y.interval(0.997)
    assert np.mean((lower <= task.y_test) & (task.y_test <= upper)) > 0.98
    assert (first["folder"] / "model.safetensors").exists()


def test_a_network_of_another_library_is_taken_and_given_back():
    names = run("Your own network")
    assert jax.tree.structure(names["frozen"]) == jax.tree.structure(names["variables"])
    started, trained = (names[part]["batch_stats"]["BatchNorm_0"]["mean"] for part in ("variables", "mean"))
    assert not np.array_equal(started, trained)  # training moved the statistics on
    assert not any("batch_stats" in path for path in _gaussian(names["model"]))
    assert _gaussian(names["last_layer"]) == {"last/weight", "last/bias"}
    assert _gaussian(names["weights"]) == _gaussian(names["matrices"]) == {"hidden/weight", "last/weight"}
    weight = names["params"]["hidden"]["weight"]
    np.testing.assert_array_equal(names["pretrained"].prior.mean["hidden"]["weight"], weight)
    np.testing.assert_allclose(names["pretrained"].posterior.std["hidden"]["weight"], 0.1 * abs(weight), rtol=1e-5)


def _gaussian(model):
    leaves = jax.tree_util.tree_leaves_with_path(model.posterior.log_std)
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves}


X = np.ones((2, 3), np.float32)


def flax_linen():
    module = pytest.importorskip("flax.linen").Dense(1)
    return [{"module": module, "variables": module.init(jax.random.key(0), X)}]


def flax_nnx():
    nnx = pytest.importorskip("flax.nnx")
    return [{"model": nnx.Linear(3, 1, rngs=nnx.Rngs(0))}]


def equinox():
    nn = pytest.importorskip("equinox").nn
    layers = [nn.Linear(3, 1, key=jax.random.key(0)), nn.BatchNorm(1, axis_name="batch", mode="batch")]
    model, state = nn.make_with_state(nn.Sequential)(layers)
    return [{"model": layers[0]}, {"model": model, "state": state}]


def haiku():
    hk = pytest.importorskip("haiku")

    def network(x):
        return hk.Linear(1)(x)  # which haiku wants made inside

    plain, stateful = hk.transform(network), hk.transform_with_state(network)
    params, state = stateful.init(jax.random.key(0), X)
    return [{"transformed": made, "params": params, "state": state} for made in (plain, stateful)]


def a_function():
    return [{"apply": lambda params, x: x @ params, "params": jax.numpy.ones((3, 1))}]


@pytest.mark.parametrize("yours", [flax_linen, flax_nnx, equinox, haiku, a_function], ids=lambda f: f.__name__)
def test_what_the_table_of_libraries_says_is_taken_and_given_back(yours, beliefs):
    label = {"flax_linen": "flax.linen", "flax_nnx": "flax.nnx"}.get(yours.__name__, yours.__name__.replace("_", " "))
    (row,) = re.findall(rf"^\| {re.escape(label)} \|(.*?)\|", section("Your own network"), re.M)
    with as_the_reader_has_it():
        for call, names in zip(re.findall("`(.*?)`", row), yours(), strict=True):
            arguments = eval(f"({call},)", dict(names))
            model = bbb.bayesianize(*arguments, **beliefs)
            given_back = bbb.networks.adapters.restore(model, model.posterior.mean)
            assert _kind(given_back) in (_kind(arguments[-1]), _kind(arguments))
            assert jax.eval_shape(model.apply, model.posterior.mean, X).shape == (2, 1)


def _kind(tree):
    """Describe a tree by its type and its arrays."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
    return (jax.Array if isinstance(tree, jax.Array) else type(tree)), shapes


def test_the_forwards_train_and_explain_prints_what_it_says():
    trained = run("Training with less noise")
    assert trained["history"].loss[-50:].mean() < 0.5 * trained["history"].loss[:50].mean()
    model, table = trained["model"], section("Training with less noise")
    forwards = re.findall(r"^\| `(bbb\.forwards\.\w+\(apply\))`", table, re.M)
    assert len(forwards) == 4
    for forward in forwards:
        made = eval(forward, {"bbb": bbb, "apply": model.apply})
        assert jax.eval_shape(made, jax.random.key(0), model.posterior, X[:, :1]).shape == (2, 1)


def test_closed_forms_agree_with_each_other_and_with_draws():
    names = run("Without draws")
    assert names["history"].loss[-1] < 0.5 * names["history"].loss[0]
    exact, half = names["exact"], names["half"]
    assert exact.assumptions == half.assumptions == ()
    np.testing.assert_allclose(exact.f.mean, names["mean"], rtol=1e-5)
    np.testing.assert_allclose(exact.f.std**2, names["variance"], rtol=1e-4)
    for got, want in ((half.f, exact.f), (half.y, exact.y)):
        assert np.max(np.abs(got.mean - want.mean) / got.mcse_mean) < 5
        assert np.max(np.abs(got.std - want.std) / got.mcse_std) < 5


def test_a_linearised_model_needs_no_draws_and_agrees_with_them():
    names = run("Without draws")
    band, drawn = names["band"], names["drawn"]
    assert (band.draws, band.method, band.assumptions, drawn.draws) == (0, "moments", (), 2_000)
    for got, want in ((drawn.f, band.f), (drawn.y, band.y)):
        assert np.max(np.abs(got.mean - want.mean) / got.mcse_mean) < 5
        assert np.max(np.abs(got.std - want.std) / got.mcse_std) < 5


def test_classes_have_probabilities_and_entropies():
    names = run("Classes")
    y, right = names["band"].y, (names["task"].y_test[:, 0] > 0).astype(int)
    np.testing.assert_allclose(y.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(y.entropy.total, y.entropy.aleatoric + y.entropy.epistemic, rtol=1e-4, atol=1e-6)
    assert np.mean(y.classes == right) > 0.75


def test_the_estimators_predict_with_an_error_bar():
    names = run("Your own data")
    assert names["std"].shape == names["mean"].shape == names["y"].shape
    assert np.mean((names["lower"] <= names["y"]) & (names["y"] <= names["upper"])) > 0.8


def test_a_band_is_learned_with_restarts_and_looked_at():
    names = run("Bands that are right")
    np.testing.assert_allclose(names["between"] ** 2 + names["within"] ** 2, names["total"] ** 2, rtol=1e-4)
    assert names["model"].members == 3
    assert len(names["history"].validation_steps) > 0


def test_a_long_run_that_is_done_again_ends_where_it_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    once, again = (run("Long runs")["model"] for _ in range(2))
    assert sorted(path.name[:17] for path in (tmp_path / "run").iterdir()) == ["step-000000001500", "step-000000002000"]
    np.testing.assert_array_equal(jax.tree.leaves(once)[0], jax.tree.leaves(again)[0])


def test_a_mesh_is_trained_and_asked_on():
    names = run("Many devices")
    assert names["history"].loss.shape == (100,)
    assert names["band"].draws == 10_000


def test_what_was_exported_predicts(tmp_path, monkeypatch):
    pytest.importorskip("flatbuffers")
    monkeypatch.chdir(tmp_path)
    names = run("Serving")
    lower, upper = names["served"].predict(jax.random.key(2), names["task"].x_test).y.interval(0.95)
    expected = bbb.predict(jax.random.key(2), names["model"], names["task"].x_test, levels=(0.95,)).y.interval(0.95)
    np.testing.assert_allclose((lower, upper), expected, rtol=1e-3, atol=1e-2)


def test_a_model_of_torchbnn_comes_over_and_goes_back():
    names = run("Coming from torchbnn")
    theirs = {name: tensor.numpy() for name, tensor in names["theirs"].state_dict().items()}
    assert theirs.keys() == names["arrays"].keys()
    for name, array in names["arrays"].items():
        np.testing.assert_array_equal(array, theirs[name])


def test_the_two_commands_the_picture_and_the_example_come_first():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("    python -m pip install . && bbb demo") < 5
    assert lines.index("    python -m pip install '.[test]' && python -m pytest") < 5
    first = {mark: next(i for i, line in enumerate(lines) if line.startswith(mark)) for mark in ("![", "```python")}
    assert max(first.values()) < 20
    assert (README.parent / "band.png").exists()


def test_the_band_between_the_data_is_wide():
    names = run("Between the data")
    std = names["band"].f.std[:, 0]
    grid = np.linspace(-2, 2, 100)
    assert std[np.abs(grid) < 0.3].mean() > 2 * std[np.abs(np.abs(grid) - 1.1) < 0.3].mean()
    assert names["band"].method == "moments"
    assert np.isfinite(names["evidence"])


def test_every_example_is_run():
    assert README.read_text(encoding="utf-8").count("```python") == len(ALONE)
