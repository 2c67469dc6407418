"""What a file of an exported predictive says of its program, and of the rows that it takes."""

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from bbb.metrics.classification import Entropy
from bbb.predictive.estimates import Classes, Estimate, Moments, Summary
from bbb.predictive.plan import WIDTHS
from bbb.storage import arrays as arrays_module

AGAIN = "Export the model again."

KIND = arrays_module.Kind(
    "bbb exported predictive",
    "1",
    what="exported predictive",
    writer="bbb.serving.export",
    again="export the model again",
)


class About(NamedTuple):
    """What a file says of its program."""

    draws: int
    quantiles: list[float]
    classes: bool
    key: str
    tile: int  # most rows at once
    x: list[str]  # the paths of the leaves of x; of one array, ""
    shared: list[bool]  # whether all rows share the leaf, which then has no row axis
    bbb: str
    jax: str

    @classmethod
    def of(cls, path: Path, header: Any) -> "About":
        """Read a header.

        Raises:
            ModelFileError: if it is not of this form.
        """
        if isinstance(header, dict):
            header = {"x": [""], "shared": [False], **header}  # of before x could be a tree
        kinds = {name: getattr(kind, "__origin__", kind) for name, kind in cls.__annotations__.items()}
        if not isinstance(header, dict) or {name: type(value) for name, value in header.items()} != kinds:
            arrays_module.refuse(path, "a predictive's description", "something else", AGAIN)
        about = cls(**header)
        marks = zip(about.x, about.shared, strict=False)
        if len(about.x) != len(about.shared) or not all(type(p) is str and type(s) is bool for p, s in marks):
            arrays_module.refuse(path, "a path, and whether it is shared, of each leaf of x", "others", AGAIN)
        if all(about.shared):
            arrays_module.refuse(path, "a leaf of x that has rows", "none", AGAIN)
        for name, value in (("draws", about.draws), ("tile", about.tile)):
            if value < 1:
                arrays_module.refuse(path, f"{name} of at least 1", f"{value}", AGAIN)
        ps = about.quantiles
        if not all(type(p) is float and 0 < p < 1 for p in ps) or ps != sorted(set(ps)):
            expected = "quantiles inside (0, 1), each once and in their order"
            arrays_module.refuse(path, expected, reprlib.repr(ps), AGAIN)
        if about.tile not in WIDTHS:
            arrays_module.refuse(
                path, f"a tile of {', '.join(map(str, WIDTHS))} rows", f"{about.tile}", "Export it again."
            )
        return about

    def argument(self, leaves: Sequence[Any]) -> Any:
        """Return the leaves of x as the program takes them: an array by itself, those of a tree as a tuple."""
        return leaves[0] if self.x == [""] else tuple(leaves)

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
