"""Files that `load_exported` refuses: cut, altered, of another kind, or with the program of a stranger."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

import bbb
from bbb.serving.about import KIND
from bbb.storage import arrays as arrays_module
from tests.serving.models import KEY, X, model_of

pytest.importorskip("flatbuffers")


@pytest.fixture
def written(tmp_path):
    bbb.serving.export(tmp_path / "m.bbb", model_of(), X, draws=2, levels=(), platforms=("cpu",))
    return tmp_path / "m.bbb"


def test_every_truncation_is_refused(written):
    whole = written.read_bytes()
    for length in [0, 1, 7, 8, 9, *range(64, len(whole), len(whole) // 40), len(whole) - 1]:
        written.write_bytes(whole[:length])
        with pytest.raises(bbb.errors.ModelFileError, match=r"^Expected"):
            bbb.serving.load_exported(written)


def test_every_altered_byte_of_the_program_and_the_weights_is_refused(written):
    whole = written.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    for place in [0, 9, *range(head, len(whole), (len(whole) - head) // 60), len(whole) - 1]:
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        with pytest.raises(bbb.errors.ModelFileError, match=r"^Expected"):
            bbb.serving.load_exported(written)


def test_files_of_another_kind_are_refused(tmp_path, written):
    bbb.save(tmp_path / "model", model_of())
    with pytest.raises(
        bbb.errors.ModelFileError, match=r"another safetensors file\. Pass a file written by bbb\.serving\.export"
    ):
        bbb.serving.load_exported(tmp_path / "model")
    with pytest.raises(bbb.errors.ModelFileError, match=r"another safetensors file\. Pass a file written by bbb\.save"):
        bbb.load(written)
    with pytest.raises(bbb.errors.ModelFileError, match="No such file"):
        bbb.serving.load_exported(tmp_path / "none")
    with pytest.raises(bbb.errors.ModelFileError, match="not a regular file"):
        bbb.serving.load_exported(tmp_path)


def rewritten(path, change):
    """Write a file whose checksum is right, but whose content is another."""
    arrays, header = arrays_module.unpack(path, KIND)
    arrays = dict(arrays)
    change(header, arrays)
    path.write_bytes(arrays_module.pack(KIND, header, arrays))


def test_a_file_of_before_x_could_be_a_tree_is_read(written):
    band = bbb.serving.load_exported(written).predict(KEY, X)
    rewritten(written, lambda header, arrays: [header.pop(name) for name in ("x", "shared")])
    np.testing.assert_array_equal(bbb.serving.load_exported(written).predict(KEY, X).f.mean, band.f.mean)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, arrays: header.pop("draws"), "a predictive's description"),
        (lambda header, arrays: header.update(draws="2"), "a predictive's description"),
        (lambda header, arrays: header.update(more=1), "a predictive's description"),
        (lambda header, arrays: header.update(draws=0), "draws of at least 1, got 0"),
        (lambda header, arrays: header.update(x="x"), "a predictive's description"),
        (lambda header, arrays: header.update(x=["a", "b"]), "whether it is shared, of each leaf of x"),
        (lambda header, arrays: header.update(x=[1]), "whether it is shared, of each leaf of x"),
        (lambda header, arrays: header.update(shared=[0]), "whether it is shared, of each leaf of x"),
        (lambda header, arrays: header.update(shared=[True]), "a leaf of x that has rows, got none"),
        (lambda header, arrays: header.update(x=["a"]), "a program that runs for any number of rows"),
        (lambda header, arrays: header.update(x=["a", "b"], shared=[False] * 2), "arrays that fit its program"),
        (lambda header, arrays: header.update(x=["a"] * 99, shared=[False] * 99), "arrays that fit its program"),
        (lambda header, arrays: header.update(tile=3), "a tile of .* rows, got 3"),
        (lambda header, arrays: header.update(quantiles=["a"]), r"quantiles inside \(0, 1\)"),
        (lambda header, arrays: header.update(quantiles=[1.5]), r"quantiles inside \(0, 1\)"),
        (lambda header, arrays: header.update(key="skeleton"), "keys that JAX knows, got 'skeleton'"),
        (lambda header, arrays: header.update(key="rbg"), "a program of rbg keys, got one of others"),
        (
            lambda header, arrays: arrays.update({"weights/0": np.full_like(arrays["weights/0"], np.inf)}),
            "finite numbers, got NaN or infinity in 'weights/0'",
        ),
        (lambda header, arrays: header.update(quantiles=[0.5]), "arrays that fit its program"),
        (lambda header, arrays: arrays.pop("weights/0"), "arrays that fit its program"),
        (lambda header, arrays: arrays.update({"weights/0": np.zeros(3)}), "arrays that fit its program"),
        (lambda header, arrays: arrays.update(extra=np.zeros(3)), "arrays that fit its program"),
        (lambda header, arrays: arrays.pop("program"), r"a program that JAX .* can read, got one of JAX"),
        (lambda header, arrays: arrays.update(program=np.arange(99, dtype=np.uint8)), "a program that JAX .* can read"),
        (lambda header, arrays: arrays.update(program=np.zeros(4, np.uint8)), "a program that JAX .* can read"),
    ],
)
def test_content_that_does_not_fit_together_is_refused(written, change, message):
    rewritten(written, change)
    with pytest.raises(bbb.errors.ModelFileError, match=message):
        bbb.serving.load_exported(written)


# --- programs of a stranger, whose checksum is right -----------------------------------------------------------------


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """What an export of two draws holds: its arrays, its description, and its program."""
    path = tmp_path_factory.mktemp("honest") / "m.bbb"
    bbb.serving.export(path, model_of(), X, draws=2, levels=(), platforms=("cpu",))
    arrays, header = arrays_module.unpack(path, KIND)
    return dict(arrays), header, jax_export.deserialize(bytearray(arrays["program"].tobytes()))


def with_program(path, honest, program):
    """Write the file of an honest export with another program, and its own checksum."""
    arrays, header, _ = honest
    content = program.serialize() if isinstance(program, jax_export.Exported) else program
    path.write_bytes(arrays_module.pack(KIND, header, arrays | {"program": np.frombuffer(content, np.uint8)}))
    return path


def program_of(honest, function, rows="rows", constraints=()):
    """Make a program of a function (x) -> a result in the place of each of an honest one's, or all of them."""
    specs = [jax.ShapeDtypeStruct(spec.shape, spec.dtype) for spec in honest[2].in_avals[:-1]]
    size = jax_export.symbolic_shape(rows, constraints=constraints) if isinstance(rows, str) else (rows,)

    def predictive(key_data, leaves, x):
        found = function(x)
        return found if isinstance(found, tuple) else (found,) * len(honest[2].out_avals)

    x = jax.ShapeDtypeStruct((*size, 2), np.float32)
    return jax_export.export(jax.jit(predictive), platforms=("cpu",))(specs[0], tuple(specs[1:]), x)


def column(x):
    return x[:, :1]


def changed(program, **fields):
    return dataclasses.replace(program, **fields)


def other_shapes(program):
    """Claim results of another shape than the program has."""
    return tuple(aval.update(shape=(*aval.shape, 7)) for aval in program.out_avals)


WHAT = "a program that gives what it describes, got another"
RUNS = "a program that runs for any number of rows, got "

STRANGE = {
    "results of no rows": (lambda honest: program_of(honest, lambda x: jnp.zeros(())), WHAT),
    "results of other rows": (lambda honest: program_of(honest, lambda x: column(x)[:1]), WHAT),
    "whole numbers": (lambda honest: program_of(honest, lambda x: column(x).astype(np.int32)), WHAT),
    "results of several shapes": (lambda honest: program_of(honest, lambda x: (x, *[column(x)] * 9)), WHAT),
    "a fixed number of rows": (lambda honest: program_of(honest, column, rows=8), RUNS + "ValueError: "),
    "a claim of other results": (lambda honest: changed(honest[2], out_avals=other_shapes(honest[2])), RUNS),
    "other arguments": (
        lambda honest: changed(honest[2], in_tree=jax.tree.structure(((0,) * len(honest[2].in_avals), {}))),
        RUNS,
    ),
    "two devices": (lambda honest: changed(honest[2], nr_devices=2), RUNS),
    "a program of other shapes": (
        lambda honest: changed(
            honest[2], mlir_module_serialized=program_of(honest, lambda x: x).mlir_module_serialized
        ),
        RUNS,
    ),
    "half a program": (
        lambda honest: changed(honest[2], mlir_module_serialized=honest[2].mlir_module_serialized[:999]),
        RUNS,
    ),
    "no program": (lambda honest: changed(honest[2], mlir_module_serialized=b"ML\xefRgarbage"), RUNS),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_program_that_is_not_what_its_file_describes_is_refused_when_it_is_loaded(tmp_path, honest, case):
    make, message = STRANGE[case]
    path = with_program(tmp_path / "m", honest, make(honest))
    with pytest.raises(bbb.errors.ModelFileError) as caught:
        bbb.serving.load_exported(path)
    assert message in str(caught.value)
    assert "xport the model again." in str(caught.value)


def test_a_program_that_fails_while_it_runs_is_refused_by_name(tmp_path, honest):
    served = bbb.serving.load_exported(with_program(tmp_path / "m", honest, program_of(honest, column)))

    def fails(key, rows):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    object.__setattr__(served, "_run", fails)
    with pytest.raises(bbb.errors.ModelFileError) as caught:
        served.predict(KEY, X)
    assert str(caught.value) == (
        "Expected an exported program that runs, got JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory. "
        "Export the model again; with fewer draws, if it asked for more memory than there is."
    )


def test_a_program_for_few_rows_alone_is_refused_by_name_when_more_are_asked_for(tmp_path, honest):
    program = program_of(honest, column, constraints=("rows <= 20",))
    served = bbb.serving.load_exported(with_program(tmp_path / "m", honest, program))
    with pytest.raises(bbb.errors.ModelFileError, match="an exported program that runs, got "):
        served.predict(KEY, np.ones((40, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_not_finite_are_refused_by_name(tmp_path, honest, bad):
    """Of the third row of x, whose first number is larger than that of others."""
    program = program_of(honest, lambda x: jnp.where(column(x) > 9, np.float32(bad), column(x)))
    served = bbb.serving.load_exported(with_program(tmp_path / "m", honest, program))
    x = X.copy()
    assert np.isfinite(served.predict(KEY, abs(x)).y.mean).all()
    x[2, 0] = 10
    with pytest.raises(bbb.errors.NonFiniteOutputError) as caught:
        served.predict(KEY, abs(x))
    assert str(caught.value) == (
        "Expected the network's outputs to be finite in float32, got NaN or infinity, first at row 2 of x. "
        "Look at what the network does to that row of x: a logarithm, a root or a quotient, or an overflow."
    )


def test_a_program_for_another_platform_is_refused_when_it_is_loaded(tmp_path):
    bbb.serving.export(tmp_path / "m", model_of(), X, draws=2, platforms=("tpu",))
    with pytest.raises(
        bbb.errors.ModelFileError, match=r"a program for cpu, got one for tpu\. Export the model again with"
    ):
        bbb.serving.load_exported(tmp_path / "m")


def test_a_float64_predictive_asks_for_x64(tmp_path):
    with jax.enable_x64(True):
        bbb.serving.export(tmp_path / "m", model_of(), X, draws=2, platforms=("cpu",))
    with pytest.raises(bbb.errors.ModelFileError, match="jax_enable_x64"):
        bbb.serving.load_exported(tmp_path / "m")


def test_a_failed_write_leaves_the_old_file(written, monkeypatch):
    from bbb.storage import files

    old = written.read_bytes()
    monkeypatch.setattr(files.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(bbb.errors.WriteError, match="No space left on device"):
        bbb.serving.export(written, model_of(), X, draws=2, platforms=("cpu",))
    assert written.read_bytes() == old
    assert list(written.parent.iterdir()) == [written]
