"""Links of the site: a public name in backticks, or in a signature, leads to where the reference describes it."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.intersphinx import resolve_reference_any_inventory

PACKAGES = ("bbb.nn", "bbb.networks.adapters", "bbb.sklearn", "bbb.tables", "bbb.tables.streams")
"""The public packages that `bbb.__all__` does not name, and one that it names, which is shown before `bbb.networks`."""

ELSEWHERE = {
    "optax._src.base": "optax",
    "jax._src.mesh": "jax.sharding",
    "jax._src.core": "jax",
    "matplotlib.axes._axes": "matplotlib.axes",
    "numpy._typing._array_like": "numpy.typing",
    "pathlib._local": "pathlib",
    "np": "numpy",
}
"""Where objects of other libraries are documented, by the modules that they say they come from."""

BARE = {
    "Axes": "matplotlib.axes.Axes",
    "NotFittedError": "sklearn.exceptions.NotFittedError",
    "StandardScaler": "sklearn.preprocessing.StandardScaler",
}
"""What docstrings call by its last name."""

BACKLINK = re.compile(r'(class="viewcode-back" href="(?:\.\./)+)([\w/-]+)\.html#([\w.]+)')
WORD = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*")
CALL = re.compile(r"((?:bbb|jax|np|numpy|optax|sklearn|matplotlib)(?:\.\w+)+)(?:\(.*\))?", re.DOTALL)


def documented() -> dict[str, str]:
    """Return for each path that leads to a public object, and for where it is defined, the name it is documented by."""
    import bbb  # noqa: PLC0415

    packages = [f"bbb.{name}" for name in bbb.__all__ if inspect.ismodule(getattr(bbb, name))]
    found: dict[str, str] = {}
    objects: dict[int, str] = {}
    for package in ("bbb", *PACKAGES, *packages):
        module = _member(package)
        for name, value in _shown(module):
            first = objects.setdefault(id(value), f"{package}.{name}")
            for path in (f"{package}.{name}", f"{module.__name__}.{name}", _origin(value)):
                found.setdefault(path, first)
    return found


def _member(path: str) -> Any:
    first, *names = path.split(".")
    value = importlib.import_module(first)
    for name in names:
        value = getattr(value, name, None) or importlib.import_module(f"{value.__name__}.{name}")
    return value


def _shown(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        own = isinstance(value, type) or inspect.isroutine(value)
        if own and _origin(value).startswith("bbb."):
            yield name, value


def _origin(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


class Names:
    """The public names, and what a text in backticks stands for."""

    def __init__(self) -> None:
        self.paths = documented()
        shown = set(self.paths.values())
        self.classes: dict[str, str] = {}
        for name in sorted(shown, key=lambda name: (name.count("."), name)):
            if name.rsplit(".")[-1][0].isupper():
                self.classes.setdefault(name.rsplit(".", 1)[-1], name)

    def target(self, path: str) -> str:
        """Return the name that a path is documented by, such as that of a method; itself if it is none of ours."""
        head, tail = path, ""
        while head:
            if head in self.paths:
                return self.paths[head] + tail
            head, _, last = head.rpartition(".")
            tail = f".{last}{tail}"
        for module, public in ELSEWHERE.items():
            if path.startswith(f"{module}."):
                return public + path.removeprefix(module)
        return self.classes.get(path) or BARE.get(path, path)

    def meant(self, text: str, literal: nodes.literal, objects: Mapping[str, Any]) -> str | None:
        """Return what a text in backticks names: `bbb.fit`; in a docstring also `fit`, or a method beside it."""
        call = CALL.fullmatch(text)
        if call:
            return self.target(call[1])
        signatures = list(_signatures(literal))
        if not signatures or not WORD.fullmatch(text) or text in _arguments(signatures):
            return None
        scopes = [scope for signature in signatures for scope in _scopes(signature)]
        beside = (name for name in (f"{scope}.{text}" for scope in scopes) if name in objects)
        return next(beside, self.target(text))


def _signatures(node: nodes.Node) -> Iterator[addnodes.desc_signature]:
    """Yield the signatures that a node stands under, from the nearest outwards."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, addnodes.desc) and isinstance(node[0], addnodes.desc_signature):
            yield node[0]


def _arguments(signatures: list[addnodes.desc_signature]) -> set[str]:
    return {
        name.astext()
        for signature in signatures
        for argument in signature.findall(addnodes.desc_parameter)
        for name in argument.findall(addnodes.desc_sig_name, descend=True)
    }


def _scopes(signature: addnodes.desc_signature) -> Iterator[str]:
    module, name = signature.get("module") or "", signature.get("fullname") or ""
    yield f"{module}.{name}"
    while "." in name:
        name = name.rpartition(".")[0]
        yield f"{module}.{name}"
    yield module
    yield "bbb"


def link_literals(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a link around every text in backticks that names something in the reference."""
    domain = app.env.domains.python_domain
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, nodes.reference | addnodes.pending_xref | nodes.title):
            continue
        name = NAMES.meant(literal.astext(), literal, domain.objects)
        if name is None:
            continue
        asked = addnodes.pending_xref(refdomain="py", reftype="obj", reftarget=name, refdoc=docname)
        reference = domain.resolve_xref(app.env, docname, app.builder, "obj", name, asked, literal.deepcopy())
        reference = reference or resolve_reference_any_inventory(app.env, False, asked, literal.deepcopy())
        if reference is not None:
            literal.replace_self(reference)


def plain_attributes(_app: Sphinx, doctree: nodes.document) -> None:
    """Call the lists of attributes so, and take from their names the links to whatever else has such a name."""
    for field in doctree.findall(nodes.field):
        if field[0].astext() == "Variables":
            field[0].children = [nodes.Text("Attributes")]
            for reference in list(field.findall(addnodes.pending_xref)):
                if "refspecific" in reference and isinstance(reference[0], addnodes.literal_strong):
                    reference.replace_self(reference.children)


def mend_napoleon(_app: Sphinx, what: str, _name: str, _member: Any, _options: Any, lines: list[str]) -> None:
    """Mend what napoleon wrote: a sentence with a colon about a property, and names such as `classes_`, are cut."""
    lines[:] = [re.sub(r"^(:ivar \w+)_:", r"\1\\_:", line) for line in lines]
    if what in {"property", "attribute", "data"} and lines and lines[-1].startswith(":type: "):
        lines[0] = f"{lines[-1].removeprefix(':type: ')}: {lines[0]}"
        lines[-1] = ""


def readable_defaults(
    _app: Sphinx, _what: str, _name: str, _member: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Show a function that is a default by its name, since Sphinx reads no signature with `<function ...>` in it."""
    shown = (signature or "").replace("<locals>.", "")
    return re.sub(r"<(?:bound method|function) ([\w.]+)(?: of <class '[^']*'>)?[^<>]*>", r"\1", shown) or None, returned


def find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, inner: nodes.Element
) -> nodes.Element | None:
    """Return a link for a name that is documented by another path than that of where it is defined."""
    if node.get("refdomain") != "py":
        return None
    name = NAMES.target(node["reftarget"])
    if name == node["reftarget"]:
        return None
    node["reftarget"], node["reftype"] = name, "obj"
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, inner)


NAMES = Names()


def mend_backlinks(app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Lead from a page of source code to where the reference describes a name.

    Sphinx takes one package for all names of a module, and the reference may show them in two.
    """
    if not page.startswith("_modules/"):
        return
    described = {(entry.docname, entry.node_id) for entry in app.env.get_domain("py").objects.values()}

    def mended(found: re.Match[str]) -> str:
        start, docname, anchor = found.groups()
        parts = anchor.split(".")
        tails = [".".join(parts[i:]) for i in range(len(parts))]
        for tail in tails:
            for where, name in described:
                if where == docname and f".{name}".endswith(f".{tail}"):
                    return f"{start}{docname}.html#{name}"
        return found[0]

    context["body"] = BACKLINK.sub(mended, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all: links of names elsewhere come before those of intersphinx, sentences are mended after napoleon."""
    app.connect("autodoc-process-docstring", mend_napoleon, priority=600)
    app.connect("autodoc-process-signature", readable_defaults)
    app.connect("doctree-read", plain_attributes)
    app.connect("missing-reference", find_elsewhere, priority=400)
    app.connect("doctree-resolved", link_literals)
    app.connect("html-page-context", mend_backlinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
