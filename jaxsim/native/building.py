"""Machine code made where it runs: by this machine's compiler, for its own instructions, once, and kept in a folder."""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib

from jaxsim._files import private_folder, settle

HERE = Path(__file__).parent
SHARED = ("vector.h", "product.h", "head.h", "handler.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-shared", "-fPIC", "-fvisibility=hidden")
SECONDS = 120  # after which a compiler is given up


class NotBuilt(Exception):
    """Why there is no machine code."""


def library(source: str, settings: dict[str, int | str]) -> ctypes.CDLL:
    """The library of a source and these settings, built if it is not there.

    Args:
        source: the name of its file.
        settings: what the source is compiled with, by the names that it has there.

    Raises:
        NotBuilt: where there is no compiler, or it fails, or its work cannot be loaded.
    """
    defined = [f"-D{name}={value}" for name, value in sorted(settings.items())]
    texts = [(HERE / name).read_text(encoding="utf-8") for name in (*SHARED, source)]
    key = hashlib.sha256("\0".join([*texts, *defined, *FLAGS, *_circumstances()]).encode()).hexdigest()[:32]
    try:
        made = private_folder("native") / f"{key}.so"
    except OSError as error:
        raise NotBuilt(str(error)) from None
    if not made.exists():
        _build(source, defined, made)
    with contextlib.suppress(OSError):  # of a disk that is only read
        os.utime(made)  # in use, which some disks do not write down
    try:
        return ctypes.CDLL(str(made))
    except OSError as error:
        raise NotBuilt(f"{made} cannot be loaded ({error})") from None


def _build(source: str, defined: list[str], made: Path) -> None:
    """Compile under a name of this process alone in the same folder, and rename: readers see all of it or nothing."""
    with tempfile.TemporaryDirectory(dir=made.parent) as inside:
        out = Path(inside) / made.name
        what = [f"-I{HERE}", f"-I{jax.ffi.include_dir()}", *defined, str(HERE / source)]
        command = [*compiler(), *FLAGS, *what, "-o", str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotBuilt(f"the compiler {command[0]} did not run ({error})") from None
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
            raise NotBuilt(f"the compiler {command[0]} failed: {said}")
        settle(out, made)


@functools.cache
def compiler() -> tuple[str, ...]:
    """The command of a C++ compiler: $CXX, or c++, g++ or clang++.

    Raises:
        NotBuilt: where there is none.
    """
    asked = shlex.split(os.environ.get("CXX", ""))
    for command in [asked] if asked else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return tuple(command)
    raise NotBuilt(f"there is no C++ compiler; looked for {asked[0] if asked else 'c++, g++ and clang++'}")


def has_compiler() -> bool:
    """Whether there is one."""
    try:
        return bool(compiler())
    except NotBuilt:
        return False


@functools.cache
def _circumstances() -> tuple[str, ...]:
    """What else decides how the machine code comes out: compiler, headers of JAX, processor."""
    said = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    return (*compiler(), said.stdout, jaxlib.__version__, platform.machine(), _processor())


def _processor() -> str:
    """What the processor calls itself and what it can do, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
