"""A saved model comes back whole, or is refused by name."""

import dataclasses
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import bbb
from bbb.io.models import KIND, load_with_metadata
from bbb.likelihoods.per_member import PerMember
from bbb.storage import arrays as arrays_module
from bbb.storage import files
from tests import ROOT


def small(seed=0, hidden=8, prior=None, likelihood=None):
    network = bbb.nn.sequential(
        bbb.nn.affine([0.5], [2.0]), bbb.nn.linear(1, hidden), bbb.nn.tanh, bbb.nn.linear(hidden, 1)
    )
    return bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(seed)),
        prior=prior or bbb.priors.Normal(0.0, 1.0),
        likelihood=likelihood or bbb.likelihoods.Gaussian(0.3, learn=True),
    )


def plain_apply(params, x):
    return x @ params["w"]


def plain(columns=2):
    return bbb.bayesianize(
        plain_apply,
        {"w": jnp.ones((columns, 1))},
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(),
    )


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_a_loaded_model_predicts_bit_for_bit_what_the_saved_one_did(tmp_path, dtype):
    model = small()
    bbb.save(tmp_path / "m.safetensors", model, {"columns": ["a", "b"]})
    loaded = bbb.load(tmp_path / "m.safetensors")
    assert jax.tree.leaves(loaded)[0].dtype == dtype
    x = np.linspace(-1, 1, 9)[:, None]
    before, after = (bbb.predict(jax.random.key(1), m, x, draws=50) for m in (model, loaded))
    assert np.array_equal(before.f.mean, after.f.mean)
    assert np.array_equal(before.y.std, after.y.std)
    assert np.array_equal(before.y.quantile(0.9), after.y.quantile(0.9))
    assert bbb.io.read_metadata(tmp_path / "m.safetensors") == {"columns": ["a", "b"]}


def test_every_part_comes_back_with_its_structure(tmp_path):
    layer = {"weight": np.full((8, 1), 2.0), "bias": 0.5}
    model = small(prior=bbb.priors.Normal(((), layer, (), 0.0), ((), 1.0, (), {"weight": 0.1, "bias": 2.0})))
    bbb.save(tmp_path / "m", model)
    loaded = bbb.load(tmp_path / "m")
    assert same(model.posterior, loaded.posterior)
    assert same(model.prior, loaded.prior)
    assert loaded.likelihood.learn is True
    assert loaded.apply == model.apply


@pytest.mark.parametrize(
    "part",
    [
        {"prior": bbb.priors.Laplace(0.0, 0.5)},
        {"prior": bbb.priors.ScaleMixture(0.25, 1.0, 0.01)},
        {"prior": bbb.priors.EmpiricalNormal(per="layer")},
        {"likelihood": bbb.likelihoods.StudentT(0.3, 5.0, learn=True)},
        {"likelihood": bbb.likelihoods.Poisson()},
        {"likelihood": bbb.likelihoods.NegativeBinomial(0.5, learn=True)},
        {"likelihood": bbb.likelihoods.Bernoulli()},
        {"likelihood": bbb.likelihoods.HeteroscedasticGaussian()},
    ],
)
def test_every_prior_and_likelihood_comes_back(tmp_path, part):
    model = small(**part)
    bbb.save(tmp_path / "m", model)
    assert same(model, bbb.load(tmp_path / "m"))


def test_restarts_come_back_as_they_were(tmp_path):
    model = small()
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(small(seed=k).posterior for k in range(3)))
    likelihood = PerMember(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), model.likelihood))
    model = dataclasses.replace(model, posterior=bbb.posteriors.Ensemble(members), likelihood=likelihood)
    bbb.save(tmp_path / "m", model)
    assert same(model, bbb.load(tmp_path / "m"))


def test_a_plain_value_that_no_noun_has_is_refused(tmp_path):
    model = small(prior=bbb.priors.EmpiricalNormal())
    object.__setattr__(model.prior, "per", "everything")
    bbb.save(tmp_path / "m", model)
    with pytest.raises(bbb.errors.ModelFileError, match="per of 'everything'"):
        bbb.load(tmp_path / "m")


def test_a_classifier_of_images_comes_back_whole(tmp_path):
    nn = bbb.nn
    network = nn.sequential(nn.conv(1, 2, 3), nn.batch_norm(2), nn.relu, nn.flatten, nn.linear(8, 3))
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(0.0, 0.5),
        likelihood=bbb.likelihoods.Categorical(),
        where="weight",
    )
    x = np.random.default_rng(0).normal(size=(6, 1, 4, 4)).astype("float32")
    model, _ = bbb.fit(jax.random.key(1), model, x, np.arange(6) % 3, steps=3)  # which moves the statistics
    assert model.posterior.mean[1]["num_batches_tracked"] == 3
    bbb.save(tmp_path / "m", model)
    loaded = bbb.load(tmp_path / "m")
    assert same(loaded, model)
    assert loaded.posterior.log_std[1]["running_mean"] is loaded.posterior.log_std[0]["bias"] is None
    assert isinstance(loaded.likelihood, bbb.likelihoods.Categorical)
    drawn = [bbb.draws(jax.random.key(2), made, x, draws=5) for made in (loaded, model)]
    np.testing.assert_array_equal(*drawn)


def test_another_librarys_network_needs_like(tmp_path):
    bbb.save(tmp_path / "m", plain())
    with pytest.raises(bbb.errors.ModelFileError, match=r"a network of bbb.nn, got .* Pass load\(path, like=model\)"):
        bbb.load(tmp_path / "m")
    assert same(bbb.load(tmp_path / "m", like=plain()), plain())


def test_a_model_of_another_network_is_refused(tmp_path):
    bbb.save(tmp_path / "m", plain())
    with pytest.raises(bbb.errors.ModelFileError, match=r"of shape \(3, 1\) and dtype float32, got \(2, 1\)"):
        bbb.load(tmp_path / "m", like=plain(3))
    with pytest.raises(
        bbb.errors.ModelFileError, match="the parameters of the model given as like, got a file without"
    ):
        bbb.load(tmp_path / "m", like=small())


def test_views_that_are_not_contiguous_are_saved_as_they_look(tmp_path):
    w = jnp.asarray(np.arange(6.0, dtype=np.float32).reshape(2, 3).T)[:, :1]
    model = bbb.bayesianize(plain_apply, {"w": w}, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian())
    bbb.save(tmp_path / "m", model)
    assert same(bbb.load(tmp_path / "m", like=model), model)


def test_half_precision_comes_back(tmp_path):
    model = bbb.bayesianize(
        plain_apply,
        {"w": jnp.ones((2, 1), jnp.bfloat16)},
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(),
    )
    bbb.save(tmp_path / "m", model)
    assert same(bbb.load(tmp_path / "m", like=model), model)


def test_a_float64_model_asks_for_x64(tmp_path):
    with jax.enable_x64(True):
        bbb.save(tmp_path / "m", small())
    with pytest.raises(bbb.errors.ModelFileError, match="jax_enable_x64"):
        bbb.load(tmp_path / "m")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(bbb.errors.ModelFileError, match="No such file"):
        bbb.load(tmp_path / "none")


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "m"
    bbb.save(path, small(hidden=2))
    whole = path.read_bytes()
    for length in [*range(64), *range(64, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(bbb.errors.ModelFileError):
            bbb.load(path)


def test_every_altered_byte_is_refused(tmp_path):
    path = tmp_path / "m"
    bbb.save(path, small(hidden=2))
    whole = path.read_bytes()
    for place in [*range(16), *range(16, len(whole), 13), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :])
        try:
            loaded = bbb.load(path)
        except bbb.errors.ModelFileError:
            continue
        assert same(loaded, small(hidden=2))  # white space in the header may change without a meaning


def rewritten(path, change):
    """Write a file whose checksum is right, but whose description a stranger made."""
    arrays, header = arrays_module.unpack(path, KIND)
    change(header, arrays)
    path.write_bytes(arrays_module.pack(KIND, header, arrays))


@pytest.mark.parametrize(
    "change",
    [
        lambda header, arrays: header["model"].pop("network"),
        lambda header, arrays: header["model"].update(network={"kind": "os.system", "command": "true"}),
        lambda header, arrays: header["model"].update(network={"kind": "linear", "in_features": -1, "out_features": 1}),
        lambda header, arrays: header["model"].update(network=[1, 2]),
        lambda header, arrays: header["model"]["prior"].update(noun="Popen"),
        lambda header, arrays: header["model"]["prior"].update(noun=None),
        lambda header, arrays: header["model"].update(prior={"pickle": "gASVAAAA"}),
        lambda header, arrays: header["model"].update(posterior={"tuple": 3}),
        lambda header, arrays: header["model"].update(posterior={"array": "nowhere"}),
        lambda header, arrays: arrays.pop("posterior/mean/1/bias"),
        lambda header, arrays: arrays.update({"posterior/mean/1/bias": np.zeros(7, np.float32)}),
        lambda header, arrays: arrays.update({"posterior/mean/1/bias": np.full(2, np.nan, np.float32)}),
        lambda header, arrays: header.update(model=3),
    ],
)
def test_a_strangers_description_is_refused(tmp_path, change):
    path = tmp_path / "m"
    bbb.save(path, small(hidden=2))
    rewritten(path, change)
    with pytest.raises(bbb.errors.ModelFileError):
        bbb.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95pickle",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 12) + b'{"a":1,"a":2',
        struct.pack("<Q", 13) + b'{"a":1,"a":2}',
        struct.pack("<Q", 40_000) + b"[" * 40_000,
        safetensors.numpy.save({"w": np.zeros(2)}),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(bbb.errors.ModelFileError, match=r"^Expected"):
        bbb.load(path)


def test_a_newer_format_is_refused_by_name(tmp_path):
    about = {"format": "bbb model", "version": "99", "header": "{}", "sha256": ""}
    (tmp_path / "m").write_bytes(safetensors.numpy.save({"w": np.zeros(2)}, metadata=about))
    with pytest.raises(bbb.errors.ModelFileError, match=r"version 1 of the format, got '99'\. Update bbb"):
        bbb.load(tmp_path / "m")


def test_metadata_that_is_no_json_is_refused_before_writing(tmp_path):
    for bad in ({"a": {1, 2}}, {"a": float("nan")}):
        with pytest.raises(bbb.errors.InputError, match="metadata of JSON values"):
            bbb.save(tmp_path / "m", small(), bad)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path, monkeypatch):

    path = tmp_path / "m"
    bbb.save(path, small(0))
    old = path.read_bytes()
    monkeypatch.setattr(files.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(bbb.errors.WriteError, match="No space left on device"):
        bbb.save(path, small(1))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(bbb.errors.WriteError, match=r"Expected to be able to write .*nowhere"):
        bbb.save(tmp_path / "nowhere" / "m", small())


def test_permissions_follow_the_umask(tmp_path):
    import os

    old = os.umask(0o027)
    try:
        bbb.save(tmp_path / "m", small())
    finally:
        os.umask(old)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o640


def test_one_model_is_always_the_same_bytes_which_safetensors_reads_too(tmp_path):
    files = set()
    for i in range(10):
        bbb.save(tmp_path / f"{i}", small(), {"b": 1, "a": [2]})
        files.add((tmp_path / f"{i}").read_bytes())
    assert len(files) == 1
    theirs, (ours, _) = safetensors.numpy.load(files.pop()), arrays_module.unpack(tmp_path / "0", KIND)
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, ours[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("posterior/log_std/1/bias", value) for value in (89, 1e30, -1e30)],
        ("posterior/mean/1/bias", 3e38),
        ("likelihood/log_std", 100),
        ("likelihood/log_std", -1e30),
    ],
)
def test_finite_numbers_that_lead_to_infinities_are_refused_by_name(tmp_path, name, value):
    path = tmp_path / "m"
    bbb.save(path, small())
    rewritten(path, lambda header, arrays: arrays.update({name: np.full_like(arrays[name], value)}))
    for like in (None, small()):
        with pytest.raises(bbb.errors.ModelFileError, match=rf"'{name}' to be from"):
            bbb.load(path, like=like)


def test_a_degree_of_freedom_beyond_every_number_is_refused(tmp_path):
    path = tmp_path / "m"
    bbb.save(path, small(likelihood=bbb.likelihoods.StudentT(1.0, 4.0)))
    name = "likelihood/log_df_above_2"
    rewritten(path, lambda header, arrays: arrays.update({name: np.full_like(arrays[name], 1e30)}))
    with pytest.raises(bbb.errors.ModelFileError, match=name):
        bbb.load(path)


def test_what_load_would_refuse_is_not_saved(tmp_path):
    network = bbb.nn.linear(1, 1)
    params, likelihood = network.init(jax.random.key(0)), bbb.likelihoods.Gaussian(0.3)
    model = bbb.bayesianize(network.apply, params, prior=bbb.priors.Normal(0.0, 1.0), likelihood=likelihood)
    bbb.save(tmp_path / "m", model)
    before = (tmp_path / "m").read_bytes()
    far = jax.tree.map(lambda leaf: jax.numpy.full_like(leaf, 3e38), model.posterior.mean)  # where training may end
    posterior = bbb.MeanField(far, model.posterior.log_std)
    with pytest.raises(
        bbb.errors.InputError, match=r"'posterior/mean/.*' to be from -1\.845e\+19 to 1\.845e\+19, got 3e\+38"
    ):
        bbb.save(tmp_path / "m", dataclasses.replace(model, posterior=posterior))
    assert (tmp_path / "m").read_bytes() == before


def test_what_is_loaded_lies_where_it_was_read():
    """On a CPU JAX takes an array that begins where `_arrays` lets it begin, without a copy."""
    if jax.default_backend() != "cpu":
        pytest.skip("of a CPU")
    room = np.empty(4096 + arrays_module.ALIGNMENT, np.uint8)
    first = -room.ctypes.data % arrays_module.ALIGNMENT
    array = room[first : first + 4096].view(np.float32)
    array.flags.writeable = False
    assert jax.device_put(array).unsafe_buffer_pointer() == array.ctypes.data


def test_what_a_file_may_not_hold_bayesianize_refuses_too():
    network = bbb.nn.sequential(bbb.nn.linear(1, 2), bbb.nn.batch_norm(2))
    params = network.init(jax.random.key(0))
    about = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    bad = jax.tree_util.tree_map_with_path(lambda path, leaf: -leaf if "running_var" in str(path) else leaf, params)
    with pytest.raises(bbb.errors.InputError, match=r"running_var' to be from 0"):
        bbb.bayesianize(network.apply, bad, **about)
    with pytest.raises(bbb.errors.InputError, match="log_std"):
        bbb.bayesianize(network.apply, params, std=1e30, **about)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            {
                "kind": "conv",
                "in_channels": 1,
                "out_channels": 1,
                "kernel_size": [1],
                "stride": [1],
                "padding": [[300_000_000, 0]],
                "dilation": [1],
            },
            "a padding of more than 4,096",
        ),
        ({"kind": "sequential", "layers": [{"kind": "elementwise", "function": "relu"}] * 2_000}, "more than 1,000 l"),
    ],
)
def test_a_small_file_with_a_giant_network_is_refused_by_name(tmp_path, layer, message):
    path = tmp_path / "m"
    bbb.save(path, small())
    rewritten(path, lambda header, arrays: header["model"].update(network=layer))
    with pytest.raises(bbb.errors.ModelFileError, match=message):
        bbb.load(path)


# --- linearised models -----------------------------------------------------------------------------------------------


def test_whether_a_model_is_linearised_comes_back_with_it(tmp_path, dtype):
    model = dataclasses.replace(small(), linearized=True)
    bbb.save(tmp_path / "m", model, {"columns": ["a"]})
    loaded, metadata = load_with_metadata(tmp_path / "m")
    assert loaded.linearized is True
    assert metadata == {"columns": ["a"]}
    assert same(loaded, model)
    x = np.linspace(-1, 1, 9)[:, None]
    for method in ("moments", "draws"):
        before, after = (bbb.predict(jax.random.key(1), m, x, draws=50, method=method) for m in (model, loaded))
        np.testing.assert_array_equal(before.f.std, after.f.std)
    assert jax.tree.leaves(loaded)[0].dtype == dtype


def test_of_another_librarys_network_the_file_says_whether_it_is_linearised(tmp_path):
    model = dataclasses.replace(plain(), linearized=True)
    bbb.save(tmp_path / "linearised", model)
    bbb.save(tmp_path / "plain", plain())
    for like in (plain(), model):
        assert same(bbb.load(tmp_path / "linearised", like=like), model)
        assert same(bbb.load(tmp_path / "plain", like=like), plain())


def test_files_of_all_other_models_are_what_they_were(tmp_path):
    """Old files are written again with the same description and the same arrays."""
    paths = sorted((ROOT / "tests" / "data").glob("*.safetensors"))
    assert len(paths) >= 9
    for path in paths:
        model, metadata = load_with_metadata(path)
        assert model.linearized is False
        bbb.save(tmp_path / "again", model, metadata)
        (arrays, header), (before, old) = (arrays_module.unpack(file, KIND) for file in (tmp_path / "again", path))
        assert header == old, path
        assert header.keys() == {"model", "metadata"}
        assert arrays.keys() == before.keys()
        assert all(arrays[name].tobytes() == before[name].tobytes() for name in arrays), path
