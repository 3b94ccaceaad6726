"""Full vectors of a CPU, only for programs all of whose operations have been proved to come out right with them.

XLA vectorises for half of a wide CPU's registers unless told otherwise, at a cost of 10 to 20% of the driver's speed.
Told so, jaxlib 0.10.2 compiles arctan, and what is made of it, to wrong numbers for 64 entries and more. So the option
is never taken on trust: a program gets it only if each of its operations is plain arithmetic or movement of data, or
an elementary function that was compared with NumPy's in this process, at the dtype and width at which the program uses
it. Whatever else a program holds, a user's function for example, leaves it with the default.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WIDE = {"xla_cpu_prefer_vector_width": "512"}
TOLERANCE = 64  # units of rounding; correct code is within a few, and wrong code misses by far more
LOOSER = {"log1p": 512}  # XLA's own is 117 off in float64 near -0.41, with the option and without

# Arithmetic, comparison, movement, control: one machine operation each, or none. Code that XLA does not compile.
PLAIN = frozenset(
    """abs add and argmax argmin broadcast_in_dim ceil concatenate convert_element_type copy cumsum custom_jvp_call div
    dot_general dynamic_slice dynamic_update_slice eq ffi_call gather ge gt integer_pow iota is_finite jit le lt
    max min mul ne neg not or pad pjit random_bits random_fold_in random_split random_unwrap random_wrap
    reduce_and reduce_max reduce_min reduce_or reduce_sum rem reshape rev scan scatter select_n shard_map sign
    slice sort split square squeeze stack sub svd transpose while xor""".split()
)

_Elementary = tuple[Callable[..., Any], Callable[..., Any], Callable[[np.ndarray, float], tuple[np.ndarray, ...]]]


def _signed(u: np.ndarray, reach: float) -> tuple[np.ndarray, ...]:
    return ((2 * u - 1) * reach,)


def _positive(u: np.ndarray, reach: float) -> tuple[np.ndarray, ...]:
    return (np.exp((2 * u - 1) * reach),)


# Primitive: the function, NumPy's, and arguments from numbers u in [0, 1] and the log of the dtype's largest number.
ELEMENTARY: dict[str, _Elementary] = {
    "exp": (jnp.exp, np.exp, _signed),
    "expm1": (jnp.expm1, np.expm1, lambda u, reach: ((2 * u - 1) ** 3 * 30,)),
    "log": (jnp.log, np.log, _positive),
    "log1p": (jnp.log1p, np.log1p, lambda u, reach: (np.expm1((2 * u - 1) ** 3 * 10),)),
    "logistic": (jax.nn.sigmoid, lambda x: 1 / (1 + np.exp(-x)), lambda u, reach: ((2 * u - 1) * 30,)),
    "pow": (jnp.power, np.power, lambda u, reach: (np.exp((2 * u - 1) * reach / 4), 3 * np.cos(50 * u))),
    "round": (jnp.round, np.round, lambda u, reach: ((2 * u - 1) * 1000,)),
    "rsqrt": (jax.lax.rsqrt, lambda x: 1 / np.sqrt(x), _positive),
    "sqrt": (jnp.sqrt, np.sqrt, _positive),
    "tanh": (jnp.tanh, np.tanh, lambda u, reach: ((2 * u - 1) ** 3 * 30,)),
}


class Compiled:
    """`jax.jit` of a function of positional arguments, with full vectors where they are proved."""

    def __init__(self, function: Callable[..., Any], **options: Any):
        self._default: Any = jax.jit(function, **options)
        self._wide: Any = jax.jit(function, **options, compiler_options=WIDE)

    def __call__(self, *args: Any) -> Any:
        """The function's value; the arguments are traced once, whichever program runs."""
        return (self._wide if self.wide(*args) else self._default)(*args)

    def wide(self, *args: Any) -> bool:
        """Whether the program for these arguments uses full vectors."""
        return jax.default_backend() == "cpu" and _proved(self._default.trace(*args).jaxpr)

    def compilations(self) -> int:
        """How many programs have been compiled."""
        return self._default._cache_size() + self._wide._cache_size()


@functools.lru_cache(maxsize=1024)
def _proved(jaxpr: Any) -> bool:
    """Whether every operation of a program is plain, or right at the dtype and width that it has there."""
    uses = set(_uses(jaxpr.jaxpr))
    known = all(name in PLAIN or name in ELEMENTARY for name, _, _ in uses)
    return known and all(right(*use) for use in uses if use[0] in ELEMENTARY)


def _uses(jaxpr: Any) -> Iterator[tuple[str, np.dtype, int]]:
    """Primitive, dtype and width of every equation, inner programs included."""
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval if equation.outvars else None
        shape = getattr(out, "shape", ())
        yield equation.primitive.name, getattr(out, "dtype", np.dtype(bool)), shape[-1] if shape else 1
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from _uses(inner)


@functools.cache
def right(name: str, dtype: np.dtype, width: int) -> bool:
    """Whether full vectors leave an elementary function right, for arrays of this dtype and length of the last axis.

    It is compiled with the option, by itself, and held against NumPy in float64, within a few units of rounding.
    """
    function, exact, made = ELEMENTARY[name]
    if not np.issubdtype(dtype, np.floating):
        return True
    u = (np.arange(1, max(1, 128 // width) * width + 1) * 0.6180339887498949) % 1  # fills [0, 1] evenly
    given = [a.astype(dtype).reshape(-1, width) for a in made(u, float(np.log(np.finfo(dtype).max)) * 0.95)]
    computed = np.asarray(jax.jit(function, compiler_options=WIDE)(*given), np.float64)
    expected = exact(*(a.astype(np.float64) for a in given))
    allowed = LOOSER.get(name, TOLERANCE) * float(np.finfo(dtype).eps)
    return bool(np.all(np.abs(computed - expected) <= allowed * np.abs(expected)))
