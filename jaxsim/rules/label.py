"""A rule in few words, from its text."""

import ast
import inspect

from jaxsim import rules


def short_rule(text: str) -> str:
    """The name of a rule, its step size and what differs from the defaults, from its text.

    Example:
        >>> short_rule("PerBlock(NGD(eta=0.1), Mirror(eta=0.5, p=3.0))")
        'PerBlock NGD 0.1, Mirror 0.5, p=3.0'
        >>> short_rule("Polyak(scale=1.0, optimal_loss=None, max_step=1000.0)")
        'Polyak 1.0'
    """
    try:
        return _short(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a schedule shows as its name
        name, _, rest = text.partition("(")
        return f"{name} {rest.partition('=')[2].split(',')[0].rstrip(')')}"


def _short(call: ast.AST) -> str:
    """The first parameter bare, others where they differ from their defaults."""
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        return ast.unparse(call)
    name, parts = call.func.id, [_short(rule) for rule in call.args]
    known = inspect.signature(getattr(rules, name, lambda: None)).parameters
    for k, given in enumerate(call.keywords):
        text, default = ast.unparse(given.value), getattr(known.get(str(given.arg)), "default", None)
        if k == 0 and given.arg == next(iter(known), given.arg):
            parts.append(text)
        elif text not in (repr(default), repr(default).removesuffix(".0")):
            parts.append(f"{given.arg}={text}")
    return " ".join([name, ", ".join(parts)]).strip()
