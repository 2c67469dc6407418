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
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

import jax
import numpy as np

from bbb import checks
from bbb._version import __version__
from bbb.core.ability import implements
from bbb.core.jit import jit
from bbb.core.noise import SMALL
from bbb.core.tiles import by_tile
from bbb.core.tree import count
from bbb.data import rows_for
from bbb.errors import InputError, KeyTypeError, ModelFileError, QuantileError, fail
from bbb.likelihoods.protocol import SupportsClasses, check_predicts
from bbb.model import BNN, check_model
from bbb.predictive.estimates import Estimate, Moments, Summary
from bbb.predictive.finite import check_summary
from bbb.predictive.plan import WIDTHS, drawn_of
from bbb.predictive.summary import ClassMarginal, Marginal, Predictive, lone_column, resolved, tails
from bbb.serving.about import KIND, About
from bbb.serving.program import program_of
from bbb.serving.reading import read, reason_of
from bbb.serving.rows import Leaf, arrays_of, leaves_by_path
from bbb.storage import arrays as arrays_module
from bbb.storage import files
from bbb.tracing import purity
from bbb.tracing.rows import refuse_mixed_rows

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What JAX writes programs for."""


TILE_ELEMENTS = 2**22
"""Most outputs (draws × rows × outputs a row) held at once, unless eight rows are more."""


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
        x: (rows, ...), an example of what will be asked for: only its dtype and the shape of a row count. Or a tree of
            arrays; what all rows share is given again with each prediction.
        draws: how many draws of the weights; of an ensemble, rounded up to a multiple of its members.
        levels: the intervals that can be asked for, such as (0.95,).
        quantiles: likewise, single quantiles, such as (0.1, 0.9).
        platforms: what it can run on: "cpu", "cuda", "rocm" and "tpu". None of them need be there.

    Raises:
        InputError: if flatbuffers is not installed, a platform is unknown, or the network is not one program for every
            number of rows, or holds what JAX does not export, such as calls of Python.
        InputError, ShapeError, NonFiniteInputError: for other arguments that do not fit.
        WriteError: if the file cannot be written.

    Example:
        >>> import bbb, jax
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.bbb")
        ...     bbb.serving.export(path, model, jax.numpy.ones((2, 1)), draws=100, platforms=("cpu",))
        ...     bbb.serving.load_exported(path).draws
        100
    """
    _need_flatbuffers()
    path, platforms = checks.file_path(path), _platforms(platforms)
    check_model(model)
    checks.outside("export", model=model, x=x)
    if model.joint is not None:
        do = f"Export model.head({model.joint.paths[0]!r}) and each other head: one key gives the same draws of all."
        fail(InputError, "a model of one output, for export", f"one of {len(model.joint.paths)}", do)
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
    about = About(
        draws=draws,
        quantiles=list(ps),
        classes=implements(model.likelihood, SupportsClasses),
        key=str(jax.config.jax_default_prng_impl),  # type: ignore[attr-defined,unused-ignore]
        x=[where for where, _, _ in leaves_by_path(x)],
        shared=[shared for _, _, shared in leaves_by_path(x)],
        tile=max([rows for rows in WIDTHS if rows * per_row <= TILE_ELEMENTS], default=WIDTHS[0]),
        bbb=__version__,
        jax=jax.__version__,
    )
    leaves = jax.tree.leaves((model.posterior, model.likelihood))
    arrays = {f"weights/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    arrays["program"] = np.frombuffer(program_of(model, x, about, platforms).serialize(), np.uint8)
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
    about, weights, program, leaves = read(path)
    placed = jax.device_put(weights)
    run = partial(jit(program.call), large=count(weights) > SMALL)
    shapes, dtypes = {leaf.path: leaf.shape for leaf in leaves}, {leaf.path: leaf.dtype for leaf in leaves}
    return Exported(
        draws=about.draws,
        quantiles=tuple(about.quantiles),
        row=shapes.get("", shapes),
        dtype=dtypes.get("", dtypes),
        key_impl=about.key,
        platforms=tuple(program.platforms),
        written_by={"bbb": about.bbb, "jax": about.jax},
        _run=lambda key_data, rows: run(key_data, placed, rows),
        _about=about,
        _leaves=leaves,
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
        row: the shape of one row of x; of a tree, those of its arrays by their paths, such as {"words": (12,)}, and of
            what all rows share the whole shape.
        dtype: of x; of a tree, those of its arrays by their paths.
        key_impl: the kind of keys it takes, such as "threefry2x32".
        platforms: what it can run on.
        written_by: the versions of "bbb" and "jax" that wrote it.
    """

    draws: int
    quantiles: tuple[float, ...]
    row: Any
    dtype: Any
    key_impl: str
    platforms: tuple[str, ...]
    written_by: dict[str, str]
    _run: Callable[..., Any]
    _about: About
    _leaves: tuple[Leaf, ...]

    def predict(self, key: jax.Array, x: Any) -> Predictive:
        """Summarise the predictive distribution at each row of x, as `bbb.predict` does; on one device.

        Args:
            key: one typed JAX key, of the kind `key_impl`.
            x: (rows, ...), finite; any number of rows. Or a tree with the arrays of the one it was exported for at the
                same paths; its classes may be others, such as a dict in the place of a dataclass.

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
        arrays = arrays_of(self._leaves, x)
        sizes = self._about.sizes
        rows = [array for array, leaf in zip(arrays, self._leaves, strict=True) if not leaf.shared]
        size = next((size for size in sizes if size >= len(rows[0])), sizes[-1])
        try:
            found = by_tile(partial(self._tile, jax.random.key_data(key), arrays), *rows, size=size)
        except Exception as error:  # JAX promises no kind of error
            raise ModelFileError(
                f"Expected an exported program that runs, got {reason_of(error)}. "
                "Export the model again; with fewer draws, if it asked for more memory than there is."
            ) from error
        summary = jax.tree.unflatten(self._about.structure, found)
        check_summary(None, summary)
        return dataclasses.replace(
            self._predictive(summary), x=None if self._about.x != [""] else lone_column(arrays[0])
        )

    def _tile(self, key_data: jax.Array, arrays: Sequence[np.ndarray], *rows: np.ndarray) -> Any:
        """Return the program's results for some rows, and for what all rows share."""
        left = iter(rows)
        parts = zip(self._leaves, arrays, strict=True)
        given = [array if leaf.shared else next(left) for leaf, array in parts]
        return self._run(key_data, self._about.argument(given))

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
