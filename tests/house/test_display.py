"""What objects show at a prompt and in a notebook: short, true, without arrays, and without work for a device."""

import base64
import dataclasses
import html.parser
import pydoc
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import display
from bbb.likelihoods.classes import Bernoulli, Categorical
from bbb.likelihoods.counts import NegativeBinomial, Poisson
from bbb.likelihoods.gaussian import BoundedHeteroscedasticGaussian, Gaussian, HeteroscedasticGaussian
from bbb.likelihoods.partially_observed import PartiallyObserved
from bbb.likelihoods.student_t import StudentT
from bbb.plots import predictive as plots_of_bands
from bbb.priors.empirical import EmpiricalNormal
from bbb.priors.laplace import Laplace
from bbb.priors.normal import Normal
from bbb.priors.scale_mixture import ScaleMixture

NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 4), bbb.nn.relu, bbb.nn.linear(4, 1))
X = np.linspace(-1, 1, 12, dtype=np.float32)[:, None]


def made(prior=None, likelihood=None, network=NETWORK, **how):
    params = network.init(jax.random.key(0))
    beliefs = {"prior": prior or Normal(0.0, 0.1), "likelihood": likelihood or Gaussian(0.5, learn=True)}
    return bbb.bayesianize(network.apply, params, **beliefs, **how)


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(scope="module")
def band(model):
    return bbb.predict(jax.random.key(1), model, X, draws=40, levels=(0.9,))


def several(model, count=3):
    """Return an ensemble of equal members, with a likelihood of each, as `fit(..., restarts=3)` does."""

    def repeated(tree):
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * count), tree)

    return dataclasses.replace(model, posterior=bbb.posteriors.Ensemble(repeated(model.posterior)))


# A model


def test_a_model_says_its_network_sizes_prior_and_likelihood(model):
    assert str(model) == repr(model)
    assert repr(model).split("\n") == [
        "BNN, a Bayesian neural network",
        "  network     Sequential(Linear(1, 4), Elementwise('relu'), Linear(4, 1))",
        "  posterior   MeanField of 13 weights in 4 leaves (float32), std 0.02",
        "  prior       Normal(mean=0.0, std=0.1)",
        "  likelihood  Gaussian(std=0.5, learn=True)",
    ]


def test_a_posterior_lists_its_leaves(model):
    title, *rows = repr(model.posterior).split("\n")
    assert title == "MeanField of 13 weights in 4 leaves (float32), std 0.02"
    assert [row.split()[0] for row in rows] == ["0/bias", "0/weight", "2/bias", "2/weight"]
    assert re.fullmatch(r"  0/weight  \(4, 1\), mean -?\d\S* to \d\S*, std 0\.02", rows[1])


def test_point_estimates_are_told_from_weights():
    posterior = made(where="*/weight").posterior
    assert repr(posterior).startswith("MeanField of 8 weights in 2 leaves (float32), and 5 point estimates, std 0.02\n")
    assert repr(posterior).count("a point estimate") == 2


def test_an_ensemble_says_how_many_members_it_has(model):
    ensemble = several(model).posterior
    title = "Ensemble of 3 members, each MeanField of 13 weights in 4 leaves (float32), std 0.02"
    assert repr(ensemble).split("\n")[0] == title
    assert "0/weight  (4, 1), mean" in repr(ensemble)
    assert f"  posterior   {title}\n" in repr(several(model))


def test_only_the_first_leaves_and_layers_are_shown():
    layers = [bbb.nn.linear(2, 2) for _ in range(50)]
    deep = made(network=bbb.nn.sequential(*layers))
    assert repr(deep.posterior).count("\n") == 7
    assert repr(deep.posterior).endswith("\n  ...       94 more")
    assert "Sequential(Linear(2, 2), Linear(2, 2), Linear(2, 2), ... 46 more ..., Linear(2, 2))" in repr(deep)


def abstract(model):
    return jax.eval_shape(lambda model: model, model)


def deleted(model):
    copied = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), model)
    jax.tree.map(lambda leaf: leaf.delete(), copied)
    return copied


@pytest.mark.parametrize("changed", [abstract, deleted])
@pytest.mark.parametrize("members", [1, 3])
def test_a_model_without_numbers_shows_its_sizes(model, changed, members):
    whole = model if members == 1 else several(model)
    text = repr(changed(whole))
    assert "MeanField of 13 weights in 4 leaves (float32)\n" in text
    assert "Normal(mean=<float32[]>, std=<float32[]>)" in text
    assert "Gaussian(std=<float32[]>, learn=True)" in text or "Gaussian of 1 number" in text  # the latter if deleted
    assert "std 0.02" not in repr(changed(whole).posterior)


def test_a_model_can_be_printed_where_it_is_traced(model):
    said = []

    @jax.jit
    def traced(model):
        said.extend([repr(model), repr(model.posterior), model._repr_html_()])
        return model.likelihood.log_std

    traced(model)
    assert said[0] == repr(abstract(model))
    assert said[1] == repr(abstract(model).posterior)
    assert not any("Tracer" in text for text in said)


def test_numpy_and_other_dtypes_are_read_like_arrays_of_jax(model):
    assert repr(jax.tree.map(np.asarray, model)) == repr(model)
    coarse = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model)
    assert "(bfloat16), std 0.02" in repr(coarse)
    assert "std=0.100098)" in repr(coarse)  # what bfloat16 holds


def test_float64_is_read(dtype):
    assert f"({dtype}), std 0.02" in repr(made())
    assert "Normal(mean=0.0, std=0.1)" in repr(made())


@pytest.mark.parametrize("leaf", [object(), None, "a", jax.sharding.PartitionSpec(), (), jax.random.key(0)])
def test_what_jax_puts_in_place_of_arrays_can_be_printed(model, leaf):
    for whole in (model, several(model)):
        swapped = jax.tree.map(lambda _: leaf, whole)
        assert repr(swapped).startswith("BNN")
        assert repr(swapped.posterior)
    assert repr(bbb.posteriors.Ensemble(leaf))


def test_printing_compiles_nothing_and_touches_no_device(model):
    with jax.log_compiles(), jax.transfer_guard_host_to_device("disallow"):
        events = []
        jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
        try:
            repr(model), repr(model.posterior), repr(several), model._repr_html_()
        finally:
            jax.monitoring.clear_event_listeners()
    assert not [name for name in events if "compile" in name]


def test_the_numbers_of_a_large_model_are_not_read(monkeypatch, model):
    monkeypatch.setattr(display, "MAX_READ", 5)
    assert repr(model.posterior).split("\n")[0] == "MeanField of 13 weights in 4 leaves (float32)"
    assert "2/bias    (1,), mean" in repr(model.posterior)  # a leaf of one number


def test_printing_writes_no_array():
    wide = made(network=bbb.nn.sequential(bbb.nn.linear(2000, 20)), prior=None)
    around = dataclasses.replace(wide, prior=Normal.around(wide.posterior.mean, 0.1))
    assert len(repr(around)) < 500
    assert re.search(r"prior       Normal\(mean=.*<float32\[20\], -?\S+ to \S+>.*, std=0\.1\)", repr(around))


# Networks


def plain(params, x):
    return x @ params


@dataclasses.dataclass(frozen=True)
class Held:
    """A network of the user's, which holds what should not be printed."""

    width: int
    table: tuple
    scale: float = 1.0

    def __call__(self, params, x):
        return x @ params

    def __hash__(self):
        return self.width


@pytest.mark.parametrize(
    ("apply", "said"),
    [
        (plain, "plain"),
        (jax.jit(plain), "plain"),
        (Held(3, tuple(range(100))), "Held(3, (0, 1, 2, ... 96 more ..., 99))"),
        (Held(3, (np.ones(2),), 2.0), "Held(3, (<float64[2]>), scale=2.0)"),
        (jax.tree_util.Partial(plain), "partial("),
    ],
)
def test_a_network_of_the_users_is_named_and_not_printed(apply, said):
    assert said in display.network(apply)


def test_other_libraries_networks_are_named():
    linen = pytest.importorskip("flax.linen")
    module = linen.Sequential([linen.Dense(3), linen.Dense(1)])
    adapted = bbb.networks.adapters.linen(module, {"params": {}})
    assert display.network(adapted.apply) == "Linen(Sequential((Dense(3), Dense(1))))"
    nnx = pytest.importorskip("flax.nnx")
    assert display.network(bbb.networks.adapters.nnx(nnx.Linear(1, 1, rngs=nnx.Rngs(0))).apply) == "NNX(Linear)"
    eqx = pytest.importorskip("equinox")
    adapted = bbb.networks.adapters.equinox(eqx.nn.Linear(1, 1, key=jax.random.key(0)))
    assert display.network(adapted.apply) == "Equinox(Linear)"


def test_a_standardised_network_shows_the_network_inside():
    wrapped = bbb.networks.standardize(NETWORK.apply, X, X)
    assert display.network(wrapped) == "Standardized(Sequential(Linear(1, 4), Elementwise('relu'), Linear(4, 1)))"


# Priors and likelihoods


@pytest.mark.parametrize(
    "part",
    [
        Normal(0.0, 0.1),
        Normal(0.25, {"weight": 0.5, "bias": 2.0}),
        Laplace(0.5, 3.0),
        ScaleMixture(0.25, 1.0, 0.125),
        EmpiricalNormal(0.0, "layer"),
        Gaussian(0.3, learn=True),
        StudentT(0.7, 5.5, learn=True),
        NegativeBinomial(0.2),
        HeteroscedasticGaussian(),
        BoundedHeteroscedasticGaussian(0.25, 3.0),
        Poisson(),
        Bernoulli(),
        Categorical(),
        PartiallyObserved(Gaussian(0.3, learn=True)),
    ],
)
def test_the_repr_of_a_prior_or_likelihood_of_numbers_makes_it_again(part):
    for given in (part, jax.tree.map(jnp.asarray, part)):
        again = eval(repr(given), vars(bbb.priors) | vars(bbb.likelihoods))
        assert type(again) is type(part)
        assert jax.tree.structure(again) == jax.tree.structure(part)
        for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(given), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-6)


def test_arrays_of_a_likelihood_are_shown_by_size_and_range():
    assert repr(Gaussian(jnp.array([0.5, 2.0]))) == "Gaussian(std=<float32[2], 0.5 to 2>, learn=False)"
    assert repr(StudentT(1.0, np.float32(4.0))) == "StudentT(scale=1.0, df=4.0, learn=False, learn_df=False)"


def test_a_prior_of_the_users_shows_itself_unless_it_is_large(model):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Cauchy:
        scale: object

    assert display.part(Cauchy(0.5)).endswith("Cauchy(scale=0.5)")
    assert display.part(Cauchy(np.ones(2000))) == "Cauchy of 2,000 numbers"
    assert len(display.part(Cauchy(np.ones(900)))) <= display.MAX_TEXT


# What was predicted and trained


def test_a_predictive_says_its_rows_draws_ranges_errors_and_quantiles(band):
    title, f, y, error, quantiles = repr(band).split("\n")
    assert title == "Predictive of 12 rows of 1 output, from 40 draws"
    for line, marginal in ((f, band.f), (y, band.y)):
        ends = [f"{end:.4g}" for part in (marginal.mean, marginal.std) for end in (part.min(), part.max())]
        assert line.split(maxsplit=1)[1] == "mean {} to {}, std {} to {}".format(*ends)
    assert error == f"  Monte Carlo error  at most {band.f.mcse_mean.max():.4g}, of the mean"
    assert quantiles == "  quantiles          0.05, 0.95"


def test_a_marginal_says_the_same_of_itself(band):
    assert repr(band.f).split("\n")[0] == "Marginal of 12 rows of 1 output, from 40 draws"
    assert [line.split()[0] for line in repr(band.f).split("\n")[1:]] == ["mean", "std", "Monte", "quantiles"]


def test_a_closed_form_has_no_error_and_says_what_it_assumes(model):
    text = repr(bbb.predict(jax.random.key(0), model, X, method="moments"))
    assert text.startswith("Predictive of 12 rows of 1 output, in closed form (moments)\n")
    assert "Monte Carlo" not in text
    deep = made(network=bbb.nn.sequential(*NETWORK.layers, bbb.nn.relu, bbb.nn.linear(1, 1)))
    assert "\n  assumes" in repr(bbb.predict(jax.random.key(0), deep, X, method="moments"))


def test_classes_are_shown_by_probability_and_entropy():
    network = bbb.nn.sequential(bbb.nn.linear(1, 3))
    found = bbb.predict(jax.random.key(0), made(network=network, likelihood=Categorical()), X, draws=20)
    highest = found.y.probabilities.max(axis=1)
    assert f"3 classes, the most probable of a row with {highest.min():.4g} to {highest.max():.4g}; " in repr(found)
    assert repr(found.y).split("\n")[0] == "ClassMarginal of 12 rows, from 20 draws"
    assert found._repr_html_().count("<img") == 0


def test_a_history_says_how_it_began_and_ended(model):
    _, history = bbb.fit(jax.random.key(0), model, X, X, steps=3)
    title, loss, _, kl, noise = repr(history).split("\n")
    assert title == "History of 3 steps, minimising elbo_cost"
    assert loss == f"  loss       {history.loss[0]:.4g} nats at first, {history.loss[-1]:.4g} nats at last"
    assert kl == f"  KL         {history.kl[0]:.4g} nats at first, {history.kl[-1]:.4g} nats at last"
    assert noise.startswith("  noise std  0.5 at first")


def test_a_history_of_members_scores_and_skipped_steps():
    values = np.arange(8.0).reshape(4, 2)
    history = bbb.train.History(
        values, values, values, None, "mse", skipped=values > 6, best_step=np.array([2, 4]),
        validation_log_score=-values[:2], validation_steps=np.array([2, 4]),
    )  # fmt: skip
    assert repr(history).split("\n") == [
        "History of 4 steps of 2 members, minimising mse",
        "  loss        0 to 1 at first, 6 to 7 at last",
        "  data term   0 to 1 at first, 6 to 7 at last",
        "  KL          0 to 1 nats at first, 6 to 7 nats at last",
        "  validation  log score -1 to 0 nats a row, the best, after 2 to 4 steps",
        "  skipped     1 step",
    ]
    empty = np.zeros(0)
    assert "loss       none" in repr(bbb.train.History(empty, empty, empty, None, "elbo_cost"))


# In a notebook


class Reader(html.parser.HTMLParser):
    """Reads the cells, the caption and the pictures of a page, and that every tag is closed."""

    def __init__(self):
        super().__init__()
        self.cells, self.open, self.pictures = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.append(data)


def read(shown):
    reader = Reader()
    reader.feed(shown._repr_html_())
    assert not reader.open
    return reader


def test_the_table_holds_what_the_text_does(model, band):
    for shown in (model, model.posterior, band, band.f):
        words = " ".join(read(shown).cells).split()
        assert words == repr(shown).split()


def test_a_table_escapes_what_it_shows():
    params = {"<script>alert('a & b')</script>": np.ones(2, np.float32)}
    page = bbb.MeanField.around(params, 0.1)._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;a &amp; b&#x27;)&lt;/script&gt;" in page


@pytest.mark.parametrize("x", [X, X[:, 0]])
def test_a_band_of_one_input_draws_itself(model, x):
    if x.ndim == 1:
        network = bbb.bayesianize(lambda w, x: x * w, np.ones((), np.float32), prior=Normal(), likelihood=Gaussian(0.5))
        found = bbb.predict(jax.random.key(0), network, x, draws=10)
    else:
        found = bbb.predict(jax.random.key(0), model, x, method="moments")
    (picture,) = read(found).pictures
    head, data = picture["src"].split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert picture["alt"] == "The mean of the function and the band of 3 standard deviations at 12 rows, over x"
    np.testing.assert_array_equal(found.x, x)


def test_a_band_of_several_inputs_or_outputs_or_very_many_rows_has_a_table_alone(band, monkeypatch):
    two = made(network=bbb.nn.sequential(bbb.nn.linear(2, 1)))
    found = bbb.predict(jax.random.key(0), two, np.ones((3, 2), np.float32), draws=4)
    assert found.x is None
    assert not read(found).pictures
    outputs = made(network=bbb.nn.sequential(bbb.nn.linear(1, 2)))
    assert not read(bbb.predict(jax.random.key(0), outputs, X, draws=4)).pictures
    assert not read(dataclasses.replace(band, x=None)).pictures
    monkeypatch.setattr(plots_of_bands, "MAX_ROWS", 11)
    assert not read(band).pictures


def test_the_picture_is_a_figure_of_its_own(band):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    band._repr_html_()
    assert pyplot.get_fignums() == before


# The front


def test_the_front_shows_public_names_alone():
    names = dir(bbb)
    assert set(bbb.__all__) <= set(names)
    assert all(getattr(bbb, name) is not None for name in names)
    assert not [name for name in names if name.startswith("_") and not name.startswith("__")]
    assert not {"Any", "TYPE_CHECKING", "jax", "np"} & set(names)
    assert len([name for name in names if callable(getattr(bbb, name))]) <= 17


def test_help_shows_the_example_and_no_private_names():
    text = pydoc.plain(pydoc.render_doc(bbb))
    contents = re.compile(r"\nPACKAGE CONTENTS\n.*?\n(?=[A-Z])", re.DOTALL)  # the files of the folder
    assert "model, history = bbb.fit(" in text
    assert not re.findall(r"^(?: \|)? {4}_[a-z]\w*", contents.sub("\n", text), re.MULTILINE)


def test_the_example_of_the_front_runs_and_names_what_there_is(capsys):
    example = "\n".join(line[4:] for line in bbb.__doc__.split("What most")[0].split("\n")[1:])
    exec(compile(example.replace("8_000", "10").replace("10_000", "20"), "help", "exec"), {})
    assert capsys.readouterr().out.startswith("BNN, a Bayesian neural network\n")
    assert all(hasattr(bbb, name) for name in re.findall(r"`bbb\.(\w+)`", bbb.__doc__))
    for name in bbb.__all__:
        assert re.search(rf"\b{name}\b", bbb.__doc__.split("What most")[1]), name


def test_printing_imports_no_library_of_plots():
    code = "import sys, bbb; repr(bbb.MeanField({}, {})); print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "False\n", run.stderr
