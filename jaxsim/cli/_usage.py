"""Mistakes in the use of the command line, told in one line like all others."""

import contextlib
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

Usage: Any = typer.BadParameter.__base__  # whatever library typer stands on


class Commands(TyperGroup):
    """Commands that leave the telling of mistakes to `main`."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options before the command."""
        with _told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read what follows, and run it."""
        with _told():
            return super().invoke(ctx)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Mistakes as ValueErrors; asking for help by giving nothing is none."""
    try:
        yield
    except Usage as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        option: Any = getattr(error, "param", None)
        text = error.format_message()
        if option is not None:
            name = option.opts[0]
            missing = type(error) is not typer.BadParameter
            text = f"{name}: expected a value; got none" if missing else f"{name}: {error.message}"
        raise ValueError(" ".join(text.split())) from None
