"""Every test runs in float64 on two CPU devices, with matplotlib off screen."""

import atexit
import itertools
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" not in os.environ:  # one folder for all processes of a test run, and none of the user's
    _caches = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, _caches, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = _caches
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(_caches, "programs"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

import jaxsim  # noqa: E402

collect_ignore = ["make_reference.py", "make_models.py"]  # scripts; they need mpmath
collect_ignore_glob = ["recipes/*", "plugin/*"]  # scripts; test_contributing.py runs them
DATA = pathlib.Path(__file__).parent / "data"


@pytest.fixture(scope="module", autouse=True)
def few_programs_at_once():
    """Compiled programs are let go after every module: a process may hold about 480 before its memory maps run out."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def problem():
    """Three sequences of four tokens in five dimensions: small enough for every oracle."""
    return jaxsim.data.unit_sphere(jax.random.key(7), n=3, T=4, d=5)


@pytest.fixture(scope="session")
def key():
    return jax.random.key(11)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """What the commands read: a run's folder, a finished study, data."""
    import commands

    return commands.prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def fresh(prepared, tmp_path):
    """A function that gives a new copy of it."""
    count = itertools.count()
    return lambda: shutil.copytree(prepared, tmp_path / f"copy-{next(count)}")
