"""Where commands print: rich's console, for text that may hold names that users gave."""

from typing import Any

import rich.console
from rich.text import Text

from jaxsim._text import fitting, printable


class Console(rich.console.Console):
    """One that reads no emoji codes, obeys no control characters and lays out what its stream has characters for.

    Markup counts: names go through `jaxsim._text.marked`, or are printed with markup=False.
    """

    def __init__(self, **options: Any):
        super().__init__(emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich does, which calls this for every string, in cells of tables, too."""
        return super().render_str(fitting(printable(text, keep="\n"), self.encoding), **options)


def line(text: object, error: bool = False) -> None:
    """A plain line, however long, on standard output or standard error."""
    Console(stderr=error).print(str(text), markup=False, highlight=False, soft_wrap=True)


def error(message: object) -> None:
    """What went wrong, on standard error."""
    text = Text.assemble(("error", "bold red"), " ", printable(message, keep="\n"))
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
