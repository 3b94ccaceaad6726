"""Every array in an annotation is checked while the tests run: its kind, its dtype, its shape."""

import ast
import importlib
import inspect
import pkgutil

import jax.numpy as jnp
import numpy as np
import pytest
import shapes
from jaxtyping import Array, Float, TypeCheckError, jaxtyped

import jaxsim
from jaxsim.rules.base import times

KINDS = {"Float", "Int", "Integer", "UInt", "Bool"}


def annotated(scope, name):
    """Functions and methods of a module with an array in an annotation, by name."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.ClassDef) and "Protocol" not in {getattr(base, "id", "") for base in node.bases}:
            yield from annotated(node, f"{name}.{node.name}")
        elif isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            said = [part for part in (*(a.annotation for a in arguments), node.returns) if part]
            used = {n.id for part in said for n in ast.walk(part) if isinstance(n, ast.Name)}
            if used & KINDS and "Callable" not in used:
                yield f"{name}.{node.name}"


def test_every_function_of_the_package_is_checked():
    expected = set()
    for found in pkgutil.walk_packages(jaxsim.__path__, "jaxsim."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            expected |= set(annotated(ast.parse(inspect.getsource(module)), module.__name__))
    assert len(expected) > 150
    assert expected - shapes.CHECKED == set()


@jaxtyped(typechecker=shapes.checked)
def product(a: Float[Array, "n m"], b: Float[Array, " m"], times: float = 1) -> Float[Array, " n"]:
    return a @ b if times else a


def test_a_wrong_rank_a_wrong_length_a_wrong_kind_and_a_wrong_result_are_found():
    a, b = jnp.ones((2, 3)), jnp.ones(3)
    assert product(a, b).shape == (2,)
    for wrong in ((a[0], b), (a, b[:2]), (np.ones((2, 3)), b), (a, jnp.ones(3, int))):
        with pytest.raises(TypeCheckError):
            product(*wrong)
    with pytest.raises(TypeCheckError, match="return value"):
        product(a, b, times=0)
    assert product(a, b, times="no array, and not looked at").shape == (2,)


def test_it_is_on_in_this_run():
    with pytest.raises(TypeCheckError):
        times(jnp.ones((2, 2)), jnp.ones(3))
