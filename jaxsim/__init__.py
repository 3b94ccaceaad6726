"""Implicit bias of self-attention over the whole initialisation space.

>>> import jax, jaxsim
>>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
>>> jaxsim.max_margin(problem).status
'optimal'
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxsim._names import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """A room or a public name, imported when it is asked for: until then the package costs nothing.

        So the command line listens for Ctrl-C before the imports that take seconds.
        """
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module 'jaxsim' has no attribute {name!r}")
        if importlib.util.find_spec(f"jaxsim.{name}") is not None:
            return importlib.import_module(f"jaxsim.{name}")
        names = importlib.import_module("jaxsim._names")
        if name != "__all__" and name not in names.__all__:
            raise AttributeError(f"module 'jaxsim' has no attribute {name!r}")
        globals()[name] = getattr(names, name)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *importlib.import_module("jaxsim._names").__all__})
