"""Studies: large Monte Carlo runs over grids, which stop when the answer is known and survive anything.

What needs the schema library is imported when it is asked for, so that importing the package stays light.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsim.study.basins import basin_map, shells
    from jaxsim.study.quantities import medians, shares
    from jaxsim.study.reading import Reader
    from jaxsim.study.running import run
    from jaxsim.study.spec import Study
    from jaxsim.study.toml import build, load

__all__ = ["Study", "basin_map", "build", "load", "medians", "open_study", "run", "shares", "shells"]

_HOMES = {
    "Study": "spec", "basin_map": "basins", "build": "toml", "load": "toml", "medians": "quantities",
    "run": "running", "shares": "quantities", "shells": "basins",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxsim.study.{_HOMES[name]}"), name)


def open_study(path: "str | os.PathLike") -> "Reader":
    """Read the folder of a study, finished or not, also while it runs.

    Args:
        path: the folder that `jaxsim study run --out` wrote.

    Returns:
        A `jaxsim.study.reading.Reader`: fractions with intervals by cell, and a lazy table of all lanes.

    Raises:
        ValueError: where the folder holds no study, or one of a newer version.
    """
    from jaxsim.study.reading import Reader

    return Reader(path)
