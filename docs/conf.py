"""Settings of the site: `make site` copies this file beside the pages that `tools/build_site.py` writes."""

import importlib.metadata

project = "utils_cv"
author = "The utils_cv contributors"
project_copyright = author
release = importlib.metadata.version("utils_cv")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["conf.py"]

# The committed outputs are shown; nothing is executed, and no widget's script is fetched.
nb_execution_mode = "off"
nb_ipywidgets_js: dict = {}
nb_merge_streams = True
myst_enable_extensions: list = []  # what GitHub shows, and no more: $ is a dollar
myst_heading_anchors = 4  # as on GitHub
# Tables of documents begin where they are read; names in fenced blocks that are no language are plain text.
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes in a list, beside their annotations
default_role = "literal"  # docstrings write `name` as Markdown does
add_module_names = False
python_maximum_signature_line_length = 88

html_theme = "furo"
pygments_dark_style = "monokai"  # furo's own underlines names of modules, as if they were links
html_title = "Image classification in notebooks"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
