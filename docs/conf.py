"""The site, made of the pages that stand here: ``sphinx-build -W -n docs docs/_build``."""

from sphinx.application import Sphinx

from entrepot import __version__

project = "entrepot"
author = "The entrepot authors"
copyright = author  # noqa: A001  Sphinx wants this name
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]
root_doc = "index"
exclude_patterns = ["README.md", "_build", "_templates"]  # README.md is part of index.rst
templates_path = ["_templates"]

# Markdown: headings get the anchors that a repository browser gives them, a link to one that is
# missing is a warning, and a fence of Mermaid is a picture here as there.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

# The API: what a module says of its public names, in the order of the source, types by short name.
autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
add_module_names = False
# Names that a module imports for its annotations alone, where two classes have the short name.
autodoc_type_aliases = {"Store": "entrepot.ports.store.Store"}
# Types of the standard library and of modules that have no page here are no links.
nitpick_ignore_regex = [
    ("py:.*", r"(?!entrepot\.(errors|httpcache|ports)\b).*"),
    ("py:class", r"entrepot\.ports\.tool\.Found"),  # a type variable
]

html_theme = "furo"
html_title = f"entrepot {release}"


def _keep_first_line(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Napoleon takes what stands before a colon in an attribute's first line for its type."""
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]  # an empty comment, which shows nowhere


def setup(app: Sphinx) -> None:
    """Run before Napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _keep_first_line, priority=400)
