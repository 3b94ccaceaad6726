"""What the driver compiles is right, whatever functions a program holds and however wide its arrays are."""

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
import pytest
import scipy.special

from jaxsim.driver.compile import ELEMENTARY, PLAIN, Compiled, _uses, right


def with_rows_turned(function):
    """Of two arguments, one."""
    return lambda x: function(x, x[::-1])


NAMES = """sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh exp exp2 expm1 log log2 log10 log1p
sqrt cbrt square reciprocal abs sign floor ceil rint trunc sinc deg2rad rad2deg positive negative""".split()
SPECIAL = "erf erfc erfinv gammaln digamma logit ndtr i0e i1e log_ndtr".split()
PAIRS = "arctan2 hypot logaddexp logaddexp2 power fmod copysign".split()
FUNCTIONS = {name: (getattr(jnp, name), getattr(np, name)) for name in NAMES}
FUNCTIONS |= {name: (getattr(special, name), getattr(scipy.special, name)) for name in SPECIAL}
FUNCTIONS |= {
    "sigmoid": (jax.nn.sigmoid, scipy.special.expit),
    "softplus": (jax.nn.softplus, lambda x: np.logaddexp(0, x)),
    "silu": (jax.nn.silu, lambda x: x * scipy.special.expit(x)),
}
FUNCTIONS |= {name: (with_rows_turned(getattr(jnp, name)), with_rows_turned(getattr(np, name))) for name in PAIRS}
UNIT = ("arcsin", "arccos", "arctanh", "erfinv")
POSITIVE = ("log", "log2", "log10", "log1p", "sqrt", "cbrt", "reciprocal", "gammaln", "digamma", "power", "sinc")


def arguments(name: str, width: int, dtype) -> np.ndarray:
    x = 2 * np.random.default_rng(width).normal(size=(3, width))
    x = 0.9 * np.tanh(x) if name in UNIT else abs(x) + 1e-3 if name in POSITIVE else x
    x = 1 / (1 + np.exp(-x)) if name == "logit" else 1 + abs(x) if name == "arccosh" else x
    return x.astype(dtype)


def wrong_ones(width: int, dtype) -> list:
    """Functions that come out wrong, in one program of those that get full vectors and one of the others."""
    given = {name: arguments(name, width, dtype) for name in FUNCTIONS}
    full = {name for name, x in given.items() if Compiled(FUNCTIONS[name][0]).wide(x)}
    wrong = []
    for names in (full, set(given) - full):
        every = Compiled(lambda values: {name: FUNCTIONS[name][0](x) for name, x in values.items()})
        values = {name: given[name] for name in names}
        assert every.wide(values) == (names is full)
        for name, found in every(values).items():
            expected = FUNCTIONS[name][1](given[name].astype(np.float64))
            error = np.abs(np.asarray(found, np.float64) - expected)
            if not np.all(error <= 300 * np.finfo(dtype).eps * (np.abs(expected) + 1)):
                wrong.append((name, width, error.max()))
    assert {"exp", "log", "log1p", "sqrt", "tanh", "sigmoid"} <= full
    return wrong


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [64, 256])
def test_every_elementary_function_is_right_through_the_drivers_compiler(width, dtype):
    assert wrong_ones(width, dtype) == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 2, 3, 8, 16, 31, 100, 128, 512, 1024])
def test_every_elementary_function_is_right_at_every_width(width, dtype):
    assert wrong_ones(width, dtype) == []


def test_functions_with_wrong_vector_code_are_never_taken_as_proved():
    assert "atan" not in ELEMENTARY and "atan2" not in ELEMENTARY and not PLAIN & set(ELEMENTARY)
    holding = Compiled(lambda x: jnp.exp(x) + jnp.arctan(x))
    assert not holding.wide(np.ones((3, 64)))


def test_a_function_that_comes_out_wrong_is_left_out(monkeypatch):
    monkeypatch.setitem(ELEMENTARY, "exp", (lambda x: jnp.exp(x) * 1.001, *ELEMENTARY["exp"][1:]))
    monkeypatch.setitem(ELEMENTARY, "log", (lambda x: jnp.log(x).at[0, 0].set(jnp.nan), *ELEMENTARY["log"][1:]))
    width = 48  # which nothing else uses, so that nothing is remembered
    assert [right(name, np.dtype(np.float32), width) for name in ("exp", "log", "tanh")] == [False, False, True]
    assert not Compiled(jnp.exp).wide(np.ones((3, width), np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 16, 64, 256])
def test_what_the_project_uses_is_proved(dtype, width):
    # On a machine or compiler where one is missing, runs are right and slower; here all must be found.
    assert [name for name in ELEMENTARY if not right(name, np.dtype(dtype), width)] == []


def test_inner_programs_are_looked_into():
    def outer(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: jnp.arctan(y), x)

    assert "atan" in {name for name, _, _ in _uses(jax.jit(outer).trace(np.ones(4)).jaxpr.jaxpr)}
