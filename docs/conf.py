"""The site: pages that are executed when they are built, the gallery, and the reference of every public name.

python -m pip install '.[docs]' && python -m sphinx -j auto -W --keep-going docs docs/_build/html
"""

import hashlib
import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

import bbb

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `links` and `mathml`


def digest_of_sources() -> str:
    """Return a digest of what pages run beside their own code, and of JAX's version: on others they run again."""
    digest = hashlib.sha256(installed("jax").encode())
    of_pages = (path for path in HERE.glob("*/*/*.py") if "_build" not in path.parts)
    for path in sorted([*Path(bbb.__file__).parent.rglob("*.py"), *of_pages]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# Pages run as users run them: on the CPU, without pictures on a screen, without bars of progress.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What one page has compiled, the others need not compile again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
sys.modules["bbb.nn"] = bbb.nn  # autodoc imports the module of a name, and `bbb.nn` is that of `bbb.networks.nn`

project = "bbb"
author = "the authors of bbb"
project_copyright = "2026, the authors of bbb"
release = version = bbb.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "links",
    "mathml",
]
exclude_patterns = ["_build", "gallery", "built_gallery/*.ipynb", "built_gallery/*.py", "**/sg_execution_times.rst"]

# Executed pages. An exception on a page fails the build; what a page printed is kept by its code and the library's.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed" / digest_of_sources())
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "bbb"
html_static_path = ["_static"]
html_css_files = ["site.css"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes as a list in the class, whose signature has their types
napoleon_attr_annotations = False
default_role = "code"
smartquotes_action = "De"  # dashes and dots, and no quotes: "aps" is a value, to be copied

# The names that ours refer to, from small tables in `inventories`: a build needs no network, unless it asks for all.
PUBLISHED = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "jax": "https://docs.jax.dev/en/latest/",
    "optax": "https://optax.readthedocs.io/en/latest/",
    "sklearn": "https://scikit-learn.org/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
}
ONLINE = os.environ.get("BBB_ONLINE") == "1"
intersphinx_mapping = {
    name: (address, None if ONLINE else str(HERE / "inventories" / f"{name}.inv"))
    for name, address in PUBLISHED.items()
}

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "built_gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "parallel": True,  # in processes of its own, as many as `-j` says
    "plot_gallery": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "copyfile_regex": r".*\.csv",
}
