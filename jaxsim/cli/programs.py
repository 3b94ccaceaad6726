"""Compiled programs, which JAX keeps from one command to the next."""

import importlib
import os
import re
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

from jaxsim import _files

PROGRAMS = "JAX_COMPILATION_CACHE_DIR"  # where JAX keeps compiled programs, and how long compiling has to have taken
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # how what is packed so begins
TORN = re.compile(r"Error reading persistent compilation cache entry for '([\w.-]+)'")


def keep() -> None:
    """Have JAX keep compiled programs in the user's folder for such things, which is said when it is made.

    What the environment or `--cache` says goes before.
    """
    forget_torn()
    if PROGRAMS in os.environ:
        return
    try:
        place = _files.private_folder("programs")
        new = not any(place.iterdir())
    except OSError:  # then every program is compiled again
        return
    os.environ[PROGRAMS] = str(place)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if new:
        print(f"Compiled programs are kept in {place}; {PROGRAMS}= keeps none.", file=sys.stderr)


def keep_in(cache: Path | None) -> None:
    """Have JAX keep compiled programs where `--cache` says, before its first computation; `none` keeps none."""
    import jax

    if cache == Path("none"):
        jax.config.update("jax_enable_compilation_cache", False)
    elif cache is not None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cache: cannot make the folder {str(cache)!r}: {error.strerror}") from error
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def forget_torn() -> None:
    """Remove kept programs that JAX cannot read, in place of its warning, which would come with every command.

    It writes them in their place, so that one is torn where its process was killed meanwhile, or is being written by
    another one. It is compiled again, and kept again where it is gone.
    """
    before = warnings.showwarning

    def show(message: Any, *rest: Any, **more: Any) -> None:
        torn = TORN.match(str(message))
        if torn is None:
            before(message, *rest, **more)
            return
        place = getattr(sys.modules["jax"].config, "jax_compilation_cache_dir", None)
        for path in Path(place).glob(f"{torn[1]}-*-cache") if place else ():
            if not _whole(path):
                path.unlink(missing_ok=True)

    warnings.showwarning = show


def _whole(path: Path) -> bool:
    """Whether a kept program can be unpacked."""
    try:
        packed = path.read_bytes()
        if packed.startswith(ZSTANDARD):
            unpacking: Any = importlib.import_module("zstandard").ZstdDecompressor().decompressobj()
        else:
            unpacking = zlib.decompressobj()
        unpacking.decompress(packed)
    except FileNotFoundError:
        return True
    except Exception:  # of either library
        return False
    return unpacking.eof
