"""How commands are made: each takes --plugin, and mistakes in their use are told in one line like all others."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

Usage: Any = typer.BadParameter.__base__  # whatever library typer stands on


PLUGIN_HELP = "Module that registers rules, laws, data families or what to train: a name or a FILE.py; repeatable."


class App(typer.Typer):
    """Commands all of which take --plugin."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """A decorator that makes a command of a function, and gives the function back."""
        options.setdefault("cls", Command)
        made = super().command(name, **options)

        def decorate(function: Any) -> Any:
            made(_with_plugins(function))
            return function

        return decorate


class Command(TyperCommand):
    """A command whose help names what is registered when it is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with members from outside in their places."""
        for option in self.params:
            text = getattr(option, "help", None)
            if text and ("{more_" in text or "{also_" in text):
                option.help = filled(text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def filled(text: str) -> str:
    """A text with the members of a kind from outside where it says {more_KIND}, in a list, or {also_KIND}, after it."""
    from jaxsim._plugins import REGISTRIES

    for kind, registry in REGISTRIES.items():
        if f"_{kind}}}" in text:
            names = ", ".join(registry.outside())
            text = text.replace(f"{{more_{kind}}}", names and f", {names}")
            text = text.replace(f"{{also_{kind}}}", names and f"; also {names}")
    return text


def _with_plugins(function: Any) -> Any:
    """The function as a command that imports what --plugin names before it looks at anything else."""

    @functools.wraps(function)
    def command(*args: Any, plugin: Any = None, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    option = typer.Option("--plugin", metavar="MODULE", help=PLUGIN_HELP, callback=_load, is_eager=True)
    given = inspect.signature(function, eval_str=True)
    plugin = inspect.Parameter(
        "plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[list[str] | None, option]
    )
    vars(command)["__signature__"] = given.replace(parameters=[*given.parameters.values(), plugin])
    command.__annotations__ = {**function.__annotations__, "plugin": plugin.annotation}
    return command


def _load(modules: list[str] | None) -> None:
    from jaxsim import _plugins

    for module in modules or ():
        before = _computes()
        _plugins.load(module)
        if _computes() and not before:
            raise ValueError(
                f"plugin: {module!r} computes with JAX while it is imported, before the command has set JAX up; "
                "expected arrays to be made inside functions"
            )


def _computes() -> bool:
    """Whether JAX has begun to use devices, after which it can no longer be set up."""
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


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
