"""Text of users is text: what names of theirs must become before a terminal, a figure or a page shows them."""

import html

from rich.markup import escape


def printable(text: object) -> str:
    """The text with control characters written out, so that a terminal obeys none of them.

    Example:
        >>> printable("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def marked(text: object) -> str:
    """The text for rich's markup, which would read square brackets."""
    return escape(printable(text))


def drawn(text: object) -> str:
    r"""The text for matplotlib, which would read dollar signs as mathematics.

    Example:
        >>> drawn("costs $5 and $6")
        'costs \\$5 and \\$6'
    """
    return printable(text).replace("$", r"\$")


def paged(text: object) -> str:
    """The text for HTML."""
    return html.escape(printable(text))
