"""The site, made of the pages that stand here: ``sphinx-build -W -n docs docs/_build``."""

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
]

html_theme = "furo"
html_title = f"entrepot {release}"
