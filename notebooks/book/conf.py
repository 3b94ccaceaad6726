"""The book: notebooks with their output, the pages beside the code, and the reference.

    pip install '.[book]' && sphinx-build -W -c notebooks/book . site
"""

import jaxsim

project, author = "jaxsim", "the authors of jaxsim"
version = release = jaxsim.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
root_doc = "notebooks/book/index"
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "jaxsim/*/README.md", "notebooks/*.ipynb",
    "notebooks/book/*.md",
]  # fmt: skip
nb_execution_mode = "off"  # notebooks are stored with what a kernel made of them, and a test runs them
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, False, True
napoleon_custom_sections = [("Other Args", "params_style")]
autodoc_typehints, autodoc_member_order = "none", "bysource"
html_theme, html_title = "furo", "jaxsim"
html_show_sphinx = False


def setup(app):
    """Bars in docstrings are absolute values."""
    app.connect("autodoc-process-docstring", escape_bars)


def escape_bars(_app, _what, _name, _obj, _options, lines):
    """Sphinx would take |x| for a name to be replaced."""
    lines[:] = [line.replace("|", "\\|") for line in lines]
