"""Trees without a random leaf: a model of point estimates alone is refused at every door, and by every verb.

Functions of a posterior alone take it for the point that it is; what is about Gaussians refuses it too. A mixture of
several points is random: which of them is asked. What needs draws alone takes it, and what needs Gaussians refuses it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import torchbnn
from bbb.errors import InputError, ModelFileError
from bbb.io import models
from tests import bad_input as bad

KEY, MODEL, X, Y = bad.KEY, bad.MODEL, bad.X, bad.Y
POINT = bbb.MeanField(MODEL.posterior.mean, jax.tree.map(lambda _: None, MODEL.posterior.log_std))
SMUGGLED = dataclasses.replace(MODEL, posterior=POINT)
PARTS = {"prior": MODEL.prior, "likelihood": MODEL.likelihood}
NOTHING = (
    r"Expected a posterior with at least one Gaussian, for {}, got point estimates alone, in which nothing is random"
)


def several(posterior, members=2):
    return bbb.posteriors.Ensemble(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1][:members]), posterior))


VERBS = {
    "fit": lambda model: bad.fit(model=model),
    "fit_each": lambda model: bbb.train.fit_each(KEY[None], [model], [X], [Y], steps=1),
    "predict": lambda model: bad.predict(model=model),
    "predict by moments": lambda model: bad.predict(model=model, method="moments"),
    "predict by its last layer": lambda model: bad.predict(model=model, method="last_layer"),
    "draws": lambda model: bbb.draws(KEY, model, X, draws=4),
    "negative_elbo": lambda model: bbb.objectives.negative_elbo(KEY, model, X, Y),
    "diagnose": lambda model: bbb.diagnose(model, None, X, Y),
    "to_datatree": lambda model: bbb.evaluate.to_datatree(KEY, model, X, Y),
    "ensemble.spread": lambda model: bbb.evaluate.spread(KEY, model, X),
    "pruning_curve": lambda model: bbb.evaluate.pruning_curve(model, [0.5], len),
    "save": lambda model: bbb.save("new", model),
    "load": lambda model: bbb.load("new", like=model),
    "export": lambda model: bbb.serving.export("new", model, X),
    "torchbnn.to_state_dict": torchbnn.to_state_dict,
}
OF_GAUSSIANS = {
    "signal_to_noise": bbb.evaluate.signal_to_noise,
    "prune": lambda posterior: bbb.evaluate.prune(posterior, 0.5),
    "plot.signal_to_noise": lambda posterior: bbb.plots.signal_to_noise(posterior, ax=bad.ax()),
    "plot.weight_density": lambda posterior: bbb.plots.weight_density(posterior, MODEL.prior, ax=bad.ax()),
    "torchbnn.last_bias_kl": lambda posterior: torchbnn.last_bias_kl(posterior, MODEL.prior),
}
OF_ANY = {
    "sample": lambda posterior: bbb.posteriors.sample(KEY, posterior),
    "weight_sampling": lambda posterior: bbb.forwards.weight_sampling(MODEL.apply)(KEY, posterior, X32),
    "local_reparam": lambda posterior: bbb.forwards.local_reparam(MODEL.apply)(KEY, posterior, X32),
    "flipout": lambda posterior: bbb.forwards.flipout(MODEL.apply)(KEY, posterior, X32),
    "moments": lambda posterior: bbb.moments.moments(MODEL.apply)(posterior, X32).mean,
}
X32 = jnp.asarray(X, jnp.float32)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_a_model_refuses_one_in_which_nothing_is_random(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for posterior in (POINT, several(POINT, 1)):
        with pytest.raises(InputError, match=NOTHING.format("a model")):
            VERBS[verb](dataclasses.replace(MODEL, posterior=posterior))
    assert not list(tmp_path.iterdir())


OF_DRAWS = ("predict", "draws", "diagnose", "to_datatree", "save", "export")
OF_ONE_POSTERIOR = ("fit", "fit_each", "negative_elbo")
NO_GAUSSIANS = (
    "a posterior with at least one Gaussian, for {}, got one of 2 draws, which are points. Use what needs draws"
)
REFUSALS = {
    **dict.fromkeys(OF_ONE_POSTERIOR, "a model of one posterior, got one of 2 members"),
    "predict by moments": "2 points, got method='moments'",
    "predict by its last layer": "2 points, got method='last_layer'",
    "ensemble.spread": "a model of several members, got 2 draws, which are points",
    "pruning_curve": NO_GAUSSIANS.format("prune"),
    "torchbnn.to_state_dict": "one posterior, to ask for its means",
}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "load"])
def test_a_model_of_several_points_is_asked_for_draws_alone(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = dataclasses.replace(MODEL, posterior=several(POINT))
    if verb in OF_DRAWS:
        VERBS[verb](points)
        return
    with pytest.raises(InputError, match=REFUSALS[verb]):
        VERBS[verb](points)


def test_several_points_are_draws_of_a_posterior():
    points = dataclasses.replace(MODEL, posterior=several(POINT))
    each = np.stack([MODEL.apply(points.posterior[k].params, X32) for k in range(2)])
    np.testing.assert_allclose(bbb.draws(KEY, points, X, draws=4), each, rtol=1e-6)  # each once, whatever is asked
    band = bbb.predict(KEY, points, X)
    np.testing.assert_allclose(band.f.mean, each.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(band.f.std, each.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(band.f.mcse([])[0], each.std(0, ddof=1) / np.sqrt(2), rtol=1e-4)


def test_several_points_come_back_from_a_file(tmp_path):
    points = dataclasses.replace(MODEL, posterior=several(POINT))
    bbb.save(tmp_path / "points", points)
    jax.tree.map(np.testing.assert_array_equal, bbb.load(tmp_path / "points"), points)
    assert "Ensemble of 2 members, each MeanField of 10 point estimates" in repr(points.posterior)


@pytest.mark.filterwarnings("ignore:torchbnn's last_layer_only")
@pytest.mark.parametrize("verb", OF_GAUSSIANS)
def test_what_is_about_gaussians_refuses_it_too(verb):
    with pytest.raises(InputError, match="Gaussian"):
        OF_GAUSSIANS[verb](POINT)
    with pytest.raises(InputError, match=r"Gaussian|one posterior"):
        OF_GAUSSIANS[verb](several(POINT))


@pytest.mark.parametrize("verb", OF_ANY)
def test_what_is_about_a_posterior_takes_it_for_a_point(verb):
    certain = POINT.mean if verb == "sample" else MODEL.apply(POINT.mean, X32)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), OF_ANY[verb](POINT), certain)


def test_a_point_has_no_divergence_no_density_and_no_variance():
    assert bbb.priors.kl(POINT, MODEL.prior) == bbb.posteriors.log_prob(POINT, POINT.mean) == 0
    assert (bbb.moments.moments(MODEL.apply)(POINT, X32).variance == 0).all()
    assert jax.tree.leaves(POINT.std) == []
    assert {route.route for route in bbb.forwards.explain(MODEL.apply, POINT, X32)} == {"point estimate"}


def test_no_door_lets_one_in(tmp_path):
    apply, params = MODEL.apply, POINT.mean
    with pytest.raises(InputError, match="where to pick at least one leaf"):
        bbb.bayesianize(apply, params, where=False, **PARTS)
    path = tmp_path / "model"
    path.write_bytes(models._pack(SMUGGLED, {}))
    with pytest.raises(ModelFileError, match="a posterior with at least one Gaussian, for a model"):
        bbb.load(path)
    path.write_bytes(models._pack(dataclasses.replace(MODEL, posterior=several(POINT, 1)), {}))
    with pytest.raises(ModelFileError, match="a posterior with at least one Gaussian, for a model"):
        bbb.load(path)


def test_a_state_dict_of_a_plain_network_needs_a_std():
    arrays = {"0.weight": np.ones((3, 1), np.float32), "0.bias": np.zeros(3, np.float32)}
    arrays |= {"2.weight": np.ones((1, 3), np.float32), "2.bias": np.zeros(1, np.float32)}
    with pytest.raises(InputError, match=r"at least one Gaussian weight, got one of a plain network\. Pass std=0\.02"):
        torchbnn.from_state_dict(bad.NETWORK, arrays, **PARTS)
    model = torchbnn.from_state_dict(bad.NETWORK, arrays, std=0.02, **PARTS)
    np.testing.assert_array_equal(model.posterior.mean[0]["weight"], 1)
    np.testing.assert_allclose(model.posterior.std[2]["bias"], 0.02, rtol=1e-6)
    half = {**arrays, "0.weight_mu": arrays["0.weight"], "0.weight_log_sigma": arrays["0.weight"] - 3}
    del half["0.weight"]
    with pytest.raises(InputError, match=r"of a plain network, with std, got one with Gaussian weights\. Leave std"):
        torchbnn.from_state_dict(bad.NETWORK, half, std=0.02, **PARTS)
