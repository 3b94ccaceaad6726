"""Implicit bias of self-attention over the whole initialisation space.

>>> import jax, jaxsim
>>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
>>> jaxsim.max_margin(problem).status
'optimal'
"""

import ast
import functools
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxsim._names import *  # noqa: F403
else:

    @functools.cache
    def _homes() -> dict[str, str]:
        """The module of every public name, as `_names.py` imports it; it is read, and not run."""
        text = Path(__file__).with_name("_names.py").read_text(encoding="utf-8")
        imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
        return {alias.name: str(node.module) for node in imports for alias in node.names}

    def __getattr__(name: str) -> Any:
        """A room or a public name, imported when it is asked for: until then the package costs nothing.

        So the command line listens for Ctrl-C before the imports that take seconds.
        """
        if name == "__all__":
            return sorted(_homes())
        if name.startswith("__"):
            raise AttributeError(f"module 'jaxsim' has no attribute {name!r}")
        if importlib.util.find_spec(f"jaxsim.{name}") is not None:
            return importlib.import_module(f"jaxsim.{name}")
        if name not in _homes():
            raise AttributeError(f"module 'jaxsim' has no attribute {name!r}")
        globals()[name] = getattr(importlib.import_module(_homes()[name]), name)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *_homes()})
