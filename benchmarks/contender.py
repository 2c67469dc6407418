"""A contender: one way to do one piece of work.

prepare(arrays, settings, **options) -> run     the part that a user does once before the work, such as compiling
run() -> answer                                 the whole work; its answer, NumPy arrays, shows that it is finished
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Settings = Mapping[str, Any]
Run = Callable[[], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do one piece of work.

    Attributes:
        prepare: `prepare(arrays, settings, **options) -> run`; it imports no module that is not in `modules`.
        modules: what must be installed; a contender whose modules are missing is named and left out.
        variants: the options to try, each in its own process; the one with the best warm time counts.
        needs: a name that `bbb` must have, for features that not every version has.
        why: why this is the strongest form of a peer that is known.
    """

    prepare: Callable[..., Run]
    modules: tuple[str, ...]
    variants: tuple[dict[str, Any], ...] = ({},)
    needs: str | None = None
    why: str = ""

    def missing(self) -> str | None:
        """Return the first name that is not installed, or None if everything is."""
        for module in self.modules:
            if importlib.util.find_spec(module.split(".")[0]) is None:
                return module
        if self.needs is not None and not hasattr(importlib.import_module("bbb"), self.needs):
            return f"bbb.{self.needs}"
        return None


Works = Mapping[str, Mapping[str, Contender]]
"""The contenders of a program: `WORKS[work][contender]`."""
