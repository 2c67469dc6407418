"""A predictive in a file, which runs without the network's code: `export` writes it, `load_exported` reads it.

    export(path, model, x)                  x: rows of the shape and dtype that will be asked for
    load_exported(path).predict(key, x)     what bbb.predict(key, model, x, levels=(0.95,)) says

The file holds the posterior's arrays and one program, `jax.export`'s, from the key, the arrays and any number of rows
to a summary of each row. It is safetensors with a checksum, as models are; but the program is code, and a checksum is
no signature: load such a file only from somebody whose code you would run.

JAX promises to run a program of its own up to 6 months after it was written, and up to 3 weeks before: what counts are
the dates of the two releases of JAX. Where that has passed, export again from the model file, which does not age.

Source: JAX's documentation, "Exporting and serializing staged-out computations", on compatibility guarantees.
"""

import dataclasses
import importlib
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax import lax
from numpy.typing import ArrayLike

from bbb import checks
from bbb._version import __version__
from bbb.core.ability import implements
from bbb.core.jit import jit
from bbb.core.noise import SMALL
from bbb.core.tiles import by_tile
from bbb.core.tree import Tree, count
from bbb.data import is_tree, rows_for
from bbb.errors import BBBError, InputError, KeyTypeError, ModelFileError, QuantileError, ShapeError, fail
from bbb.forwards.select import Forward
from bbb.likelihoods.protocol import SupportsClasses, check_predicts
from bbb.metrics.classification import Entropy
from bbb.model import BNN, check_model
from bbb.posteriors.protocol import Posterior
from bbb.predictive.estimates import Classes, Estimate, Moments, Summary, summarise
from bbb.predictive.finite import check_summary
from bbb.predictive.plan import NOISE_ELEMENTS, WIDTHS, drawn_of
from bbb.predictive.summary import ClassMarginal, Marginal, Predictive, lone_column, resolved, tails
from bbb.storage import arrays as arrays_module
from bbb.storage import files
from bbb.tracing import purity
from bbb.tracing.rows import refuse_mixed_rows

KIND = arrays_module.Kind(
    "bbb exported predictive",
    "1",
    what="exported predictive",
    writer="bbb.serving.export",
    again="export the model again",
)


PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What JAX writes programs for."""


TILE_ELEMENTS = 2**22
"""Most outputs (draws × rows × outputs a row) held at once, unless eight rows are more."""


AT_ONCE = 64
"""How many draws an accelerator evaluates at once; a core takes one after the other, which stays in its cache."""


def export(
    path: str | os.PathLike[str],
    model: BNN,
    x: Any,
    *,
    draws: int = 10_000,
    levels: Sequence[float] = (0.95,),
    quantiles: Sequence[float] = (),
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> None:
    """Write the predictive of a model to a file that `load_exported` runs without the network's code.

    Needs flatbuffers: `pip install '.[export]'` in a clone. It gives the draws of `bbb.predict` with the same key and
    draws, and of a linearised model too those of method="draws": mean, std, quantiles and their errors are the same but
    for rounding. The network must be one program for every number of rows.

    Args:
        path: the file; an old one is replaced once the new one is safe on the disk.
        model: the Bayesian network; an ensemble too.
        x: (rows, ...), an example of what will be asked for: only its dtype and the shape of a row count.
        draws: how many draws of the weights; of an ensemble, rounded up to a multiple of its members.
        levels: the intervals that can be asked for, such as (0.95,).
        quantiles: likewise, single quantiles, such as (0.1, 0.9).
        platforms: what it can run on: "cpu", "cuda", "rocm" and "tpu". None of them need be there.

    Raises:
        InputError: if flatbuffers is not installed, a platform is unknown, or the network is not one program for every
            number of rows, or holds what JAX does not export, such as calls of Python.
        InputError, ShapeError, NonFiniteInputError: for other arguments that do not fit.
        WriteError: if the file cannot be written.
    """
    _need_flatbuffers()
    path, platforms = checks.file_path(path), _platforms(platforms)
    check_model(model)
    checks.outside("export", model=model, x=x)
    if is_tree(x):
        do = "Use bbb.predict, or wrap the network so that apply takes one array."
        fail(InputError, "x to be one array, for export", f"a {type(x).__name__}", do)
    x = rows_for(model, "x", x)
    params = model.posterior.params
    outputs = purity.output_shape(model.apply, params, x)
    do = 'Use bbb.predict(..., rows="together"), which evaluates all rows at once.'
    refuse_mixed_rows(model.apply, params, x, "an export evaluates rows in tiles", do)
    wanted = [p for level in checks.levels("level", levels) for p in tails(level)]
    wanted += checks.levels("quantile", quantiles)
    ps = tuple(sorted({resolved(p, outputs.dtype) for p in wanted}))
    check_predicts(model.likelihood, "export", bool(ps))
    draws = drawn_of(model.posterior, checks.positive_integer("draws", draws))[0]
    per_row = draws * math.prod(outputs.shape[1:])
    about = _About(
        draws=draws,
        quantiles=list(ps),
        classes=implements(model.likelihood, SupportsClasses),
        key=str(jax.config.jax_default_prng_impl),  # type: ignore[attr-defined,unused-ignore]
        tile=max([rows for rows in WIDTHS if rows * per_row <= TILE_ELEMENTS], default=WIDTHS[0]),
        bbb=__version__,
        jax=jax.__version__,
    )
    leaves = jax.tree.leaves((model.posterior, model.likelihood))
    arrays = {f"weights/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    arrays["program"] = np.frombuffer(_exported(model, x, about, platforms).serialize(), np.uint8)
    files.write(path, arrays_module.pack(KIND, about._asdict(), arrays))


def load_exported(path: str | os.PathLike[str]) -> "Exported":
    """Read what `export` wrote. It holds a program: load only files of people whose code you would run.

    Needs flatbuffers: `pip install '.[export]'` in a clone.

    Raises:
        InputError: if flatbuffers is not installed.
        ModelFileError: if the file is missing, damaged, of another kind, for other platforms than this process's, in
            float64 where JAX is set to float32, or of a version of JAX that this one cannot read; or if its program
            is not one from such a key, such weights and any number of rows to what the file describes.
    """
    _need_flatbuffers()
    arrays, header = arrays_module.unpack(path, KIND)
    about = _About.of(Path(path), header)
    for name, array in arrays.items():
        if not arrays_module.all_finite(array):
            arrays_module.refuse(path, "finite numbers", f"NaN or infinity in '{name}'", "Export the model again.")
    program = _program(Path(path), about, arrays.pop("program", np.zeros(0, np.uint8)))
    weights = tuple(arrays.get(f"weights/{i}", np.zeros(0)) for i in range(len(arrays)))
    if about.classes and len(program.out_avals) == about.leaves - len(Entropy._fields):
        got = f"an older one, of bbb {about.bbb}"
        arrays_module.refuse(
            path, "a predictive of classes with errors of its entropies", got, "Export the model again."
        )
    expected = [(spec.shape, spec.dtype) for spec in program.in_avals[1:-1]]
    fits = expected == [(array.shape, array.dtype) for array in weights]
    if not fits or len(program.in_avals) != len(weights) + 2 or len(program.out_avals) != about.leaves:
        arrays_module.refuse(path, "arrays that fit its program", "others", "Export the model again.")
    _refuse_another_setting(path, program)
    _refuse_another_key(path, program, about.key)
    _refuse_another_program(path, program, about)
    row = program.in_avals[-1]
    placed = jax.device_put(weights)
    run = partial(jit(program.call), large=count(weights) > SMALL)
    return Exported(
        draws=about.draws,
        quantiles=tuple(about.quantiles),
        row=row.shape[1:],
        dtype=np.dtype(row.dtype),
        key_impl=about.key,
        platforms=tuple(program.platforms),
        written_by={"bbb": about.bbb, "jax": about.jax},
        _run=lambda key_data, rows: run(key_data, placed, rows),
        _about=about,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """A predictive that `export` wrote.

    A program is compiled for each of up to four numbers of rows, when it is first needed; other numbers are made of
    those. Memory is bounded for any number of rows: the draws of a tile are held, at most `TILE_ELEMENTS` numbers or
    eight rows of them, and several times as much while they are summarised. 10,000 draws in float32 took 130 MB besides
    the weights, of 300 rows and of 3,000.

    Attributes:
        draws: how many draws of the network each answer rests on.
        quantiles: the probabilities whose quantiles it gives, the ends of intervals among them.
        row: the shape of one row of x.
        dtype: of x.
        key_impl: the kind of keys it takes, such as "threefry2x32".
        platforms: what it can run on.
        written_by: the versions of "bbb" and "jax" that wrote it.
    """

    draws: int
    quantiles: tuple[float, ...]
    row: tuple[int, ...]
    dtype: Any
    key_impl: str
    platforms: tuple[str, ...]
    written_by: dict[str, str]
    _run: Callable[..., Any]
    _about: "_About"

    def predict(self, key: jax.Array, x: ArrayLike) -> Predictive:
        """Summarise the predictive distribution at each row of x, as `bbb.predict` does; on one device.

        Args:
            key: one typed JAX key, of the kind `key_impl`.
            x: (rows, ...), finite; any number of rows.

        Raises:
            KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
            NonFiniteOutputError: if an answer is NaN or infinite; it names the first row.
            ModelFileError: if the program fails: its file was changed, or the draws do not fit into memory.
        """
        checks.outside("predict", key=key, x=x)
        checks.key(key)
        if str(jax.random.key_impl(key)) != self.key_impl:
            do = f"Make one with jax.random.key(0, impl={self.key_impl!r})."
            fail(KeyTypeError, f"a {self.key_impl} key", f"one of {jax.random.key_impl(key)}", do)
        x = self._rows(x)
        sizes = self._about.sizes
        size = next((rows for rows in sizes if rows >= len(x)), sizes[-1])
        try:
            leaves = by_tile(partial(self._run, jax.random.key_data(key)), x, size=size)
        except Exception as error:  # JAX promises no kind of error
            raise ModelFileError(
                f"Expected an exported program that runs, got {_reason(error)}. "
                "Export the model again; with fewer draws, if it asked for more memory than there is."
            ) from error
        found = jax.tree.unflatten(self._about.structure, leaves)
        check_summary(None, found)
        return dataclasses.replace(self._predictive(found), x=lone_column(x))

    def _rows(self, x: ArrayLike) -> np.ndarray:
        """Check rows, and give them in the dtype of the program."""
        array = np.asarray(checks.rows("x", x))
        if array.shape[1:] != self.row:
            expected = f"x of shape ({', '.join(['rows', *map(str, self.row)])})"
            fail(ShapeError, expected, f"shape {array.shape}", "Pass rows like those it was exported for.")
        floating = jnp.issubdtype(self.dtype, jnp.floating)
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused below, by name
            cast = array.astype(self.dtype)
        if not floating and not np.array_equal(cast, array):
            do = "Pass whole numbers in its range, or export for rows of another dtype."
            fail(InputError, f"x of {self.dtype}", f"{array.dtype}, with other numbers", do)
        checks.rows(f"x in {self.dtype}", cast)  # a number may be finite in float64 and infinite in float32
        return cast

    def _predictive(self, found: Summary) -> Predictive:
        f = self._marginal(found.f, found.f_quantiles)
        if not self._about.classes:
            return Predictive(f, self._marginal(found.y, found.y_quantiles), self.draws)
        return Predictive(f, ClassMarginal(**found.y._asdict(), draws=self.draws), self.draws)

    def _marginal(self, m: Moments, estimates: list[Estimate]) -> Marginal:
        table = dict(zip(self.quantiles, estimates, strict=True))
        std = np.sqrt(m.variance)
        return Marginal(mean=m.mean, std=std, draws=self.draws, moments=m, _table=table, _later=self._refuse_quantile)

    def _refuse_quantile(self, p: float) -> NoReturn:
        known = ", ".join(f"{q:g}" for q in self.quantiles) or "none"
        do = "Export the model again with levels=(0.95,) for intervals or quantiles=(0.1,) for quantiles."
        fail(QuantileError, f"a quantile that was exported ({known})", f"{p:g}", do)


class _About(NamedTuple):
    """What a file says of its program."""

    draws: int
    quantiles: list[float]
    classes: bool
    key: str
    tile: int  # most rows at once
    bbb: str
    jax: str

    @classmethod
    def of(cls, path: Path, header: Any) -> "_About":
        """Read a header.

        Raises:
            ModelFileError: if it is not of this form.
        """
        kinds = {name: getattr(kind, "__origin__", kind) for name, kind in cls.__annotations__.items()}
        if not isinstance(header, dict) or {name: type(value) for name, value in header.items()} != kinds:
            arrays_module.refuse(path, "a predictive's description", "something else", "Export the model again.")
        about = cls(**header)
        for name, value in (("draws", about.draws), ("tile", about.tile)):
            if value < 1:
                arrays_module.refuse(path, f"{name} of at least 1", f"{value}", "Export the model again.")
        ps = about.quantiles
        if not all(type(p) is float and 0 < p < 1 for p in ps) or ps != sorted(set(ps)):
            expected = "quantiles inside (0, 1), each once and in their order"
            arrays_module.refuse(path, expected, reprlib.repr(ps), "Export the model again.")
        if about.tile not in WIDTHS:
            arrays_module.refuse(
                path, f"a tile of {', '.join(map(str, WIDTHS))} rows", f"{about.tile}", "Export it again."
            )
        return about

    @property
    def sizes(self) -> list[int]:
        """The numbers of rows that the program is asked for."""
        return [rows for rows in WIDTHS if rows <= self.tile]

    @property
    def structure(self) -> Any:
        """How the program's results make a `Summary`."""
        moments = Moments(*range(5))
        quantiles: list[Estimate] = [(0, 0) for _ in self.quantiles]
        if self.classes:
            entropy: Any = Entropy(0, 0, 0)  # type: ignore[arg-type]
            return jax.tree.structure(Summary(moments, Classes(0, 0, entropy, entropy), quantiles, []))
        return jax.tree.structure(Summary(moments, moments, quantiles, quantiles))

    @property
    def leaves(self) -> int:
        """How many results the program has."""
        return int(self.structure.num_leaves)


def _exported(model: BNN, x: jax.Array, about: _About, platforms: tuple[str, ...]) -> jax_export.Exported:
    """Return the program: key data, leaves of posterior and likelihood, x (rows, ...) -> leaves of a `Summary`."""
    leaves, structure = jax.tree.flatten((model.posterior, model.likelihood))
    ps = tuple(about.quantiles)
    _, _, dependent = drawn_of(model.posterior, about.draws)

    def predictive(key_data: jax.Array, leaves: tuple[jax.Array, ...], x: jax.Array) -> tuple[jax.Array, ...]:
        posterior, likelihood = jax.tree.unflatten(structure, leaves)
        key = jax.random.wrap_key_data(key_data, impl=about.key)
        outputs = _outputs(key, model.forward, posterior, x, about.draws)
        y_ps = () if about.classes else ps
        found = summarise(likelihood, outputs, group=dependent, moments_too=True, f_ps=ps, y_ps=y_ps)
        return tuple(jax.tree.leaves(found))

    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=about.key)))
    specs = tuple(jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    rows = jax.ShapeDtypeStruct((*jax_export.symbolic_shape("rows"), *x.shape[1:]), x.dtype)
    try:
        return jax_export.export(jax.jit(predictive), platforms=platforms)(key, specs, rows)
    except BBBError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"Expected a network that is one program for any number of rows on {', '.join(platforms)}, got "
            f"{type(error).__name__}: {reason} Let it decide nothing by the number of rows, use operations that JAX "
            "exports, or pass fewer platforms."
        ) from error


def _outputs(key: jax.Array, forward: Forward, posterior: Posterior, x: jax.Array, draws: int) -> jax.Array:
    """Return draws 0, 1, … of the network at x, (draws, rows, ...): number for number those of `bbb.draws`."""
    like, members = posterior.component(0), posterior.components
    chunks = math.ceil(draws / max(1, NOISE_ELEMENTS // count(like.params)))
    chunk = math.ceil(draws / chunks)  # draws whose noise is drawn at once

    def one(drawn: tuple[Tree, jax.Array]) -> jax.Array:
        noise, k = drawn
        return forward.evaluate(noise, posterior.component(k), x)

    def some(first: jax.Array) -> jax.Array:
        index = first + jnp.arange(chunk, dtype=jnp.int32)
        noise = jax.vmap(lambda i: like.noise(jax.random.fold_in(key, i)))(index)
        together = partial(lax.map, one, batch_size=AT_ONCE)
        return lax.platform_dependent((noise, index % members), cpu=partial(lax.map, one), default=together)

    outputs = lax.map(some, jnp.arange(0, chunks * chunk, chunk, dtype=jnp.int32))
    return outputs.reshape(-1, *outputs.shape[2:])[:draws]


def _program(path: Path, about: _About, content: np.ndarray) -> jax_export.Exported:
    """Read a program.

    Raises:
        ModelFileError: if this version of JAX cannot.
    """
    try:
        return jax_export.deserialize(bytearray(content.tobytes()))
    except Exception as error:  # JAX promises no kind of error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(
            f"Expected {path} to hold a program that JAX {jax.__version__} can read, got one of JAX {about.jax}: "
            f"{reason} Export the model again, or use a JAX of about the same age."
        ) from error


def _refuse_another_setting(path: str | os.PathLike[str], program: jax_export.Exported) -> None:
    """Raise for a program that cannot run in this process."""
    for spec in program.in_avals:
        if jax.dtypes.canonicalize_dtype(spec.dtype) != spec.dtype:
            do = 'Call jax.config.update("jax_enable_x64", True) first.'
            arrays_module.refuse(path, "arrays of the dtypes JAX is set to", f"{spec.dtype}", do)
    if (here := jax_export.default_export_platform()) not in program.platforms:
        do = f"Export the model again with platforms=({here!r},) or more."
        arrays_module.refuse(path, f"a program for {here}", f"one for {', '.join(program.platforms)}", do)


def _refuse_another_key(path: str | os.PathLike[str], program: jax_export.Exported, name: str) -> None:
    """Raise for a kind of keys that JAX does not know, or that the program does not take."""
    try:
        key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=name)))
    except Exception as error:  # JAX promises no kind of error
        raise ModelFileError(
            f"Expected {path} to hold a predictive of keys that JAX knows, got {name!r}. Export the model again."
        ) from error
    if (key.shape, key.dtype) != (program.in_avals[0].shape, program.in_avals[0].dtype):
        arrays_module.refuse(path, f"a program of {name} keys", "one of others", "Export the model again.")


def _refuse_another_program(path: str | os.PathLike[str], program: jax_export.Exported, about: _About) -> None:
    """Raise for a program that does not run, for any number of rows, or gives something else than a summary of each.

    Tracing finds shapes that do not fit, and lowering what of a program changed since cannot be read. Compiling it as
    well would cost seconds, for a number of rows that may never be asked for.
    """
    row = program.in_avals[-1]
    try:
        specs = [jax.ShapeDtypeStruct(spec.shape, spec.dtype) for spec in program.in_avals[:-1]]
        for size in about.sizes:
            x = jax.ShapeDtypeStruct((size, *row.shape[1:]), row.dtype)
            found = jax.tree.unflatten(about.structure, jax.eval_shape(program.call, specs[0], tuple(specs[1:]), x))
            if not _is_summary(found, size):
                arrays_module.refuse(
                    path, "a program that gives what it describes", "another", "Export the model again."
                )
        jax.jit(program.call).lower(
            specs[0], tuple(specs[1:]), jax.ShapeDtypeStruct((about.sizes[0], *x.shape[1:]), x.dtype)
        )
    except ModelFileError:
        raise
    except Exception as error:  # JAX promises no kind of error
        raise ModelFileError(
            f"Expected {path} to hold a program that runs for any number of rows, got {_reason(error)}. "
            "It was changed after it was written: export the model again."
        ) from error


def _is_summary(found: Summary, rows: int) -> bool:
    """Return whether shapes are those of moments and quantiles of so many rows, or of the probabilities of classes."""
    f, y = jax.tree.leaves((found.f, found.f_quantiles)), jax.tree.leaves((found.y, found.y_quantiles))
    shapes = {leaf.shape for leaf in f}, {leaf.shape for leaf in y}
    alike = len(shapes[0]) == 1 and shapes[1] <= {y[0].shape, y[0].shape[:-1]}
    numbers = isinstance(found.y, Moments)
    real = all(jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.shape[:1] == (rows,) for leaf in (*f, *y))
    return real and alike and (len(shapes[1]) == 1 or not numbers)


def _reason(error: Exception) -> str:
    """Return the kind of an error, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _platforms(platforms: Any) -> tuple[str, ...]:
    """Return each of the platforms once; raise for what is not a choice of platforms."""
    several = isinstance(platforms, Iterable) and not isinstance(platforms, str)
    chosen = tuple(platforms) if several else (platforms,)
    if not chosen or not all(checks.is_word(name, PLATFORMS) for name in chosen):
        expected = f"platforms of {', '.join(PLATFORMS)}, one or more"
        fail(InputError, expected, repr(platforms), 'Pass for example platforms=("cpu",).')
    return tuple(dict.fromkeys(chosen))


def _need_flatbuffers() -> None:
    try:
        importlib.import_module("flatbuffers")
    except ImportError:
        do = "Run pip install flatbuffers; or, in a clone of bbb, pip install '.[export]'."
        fail(InputError, "the package flatbuffers", "an environment without it", do)
