"""Text of users is text: what names of theirs must become before a terminal, a figure or a page shows them."""

import unicodedata

SPELT = 10**9  # numbers of steps below are written with all their digits

# What a console without the character shows; others become their base character or their number.
PLAINER = {
    "‖": "||", "–": "-", "—": "-", "−": "-", "×": "x", "·": ".", "…": "...", "≤": "<=", "≥": ">=", "∝": "~", "→": "->",
    "∇": "grad ", "α": "alpha", "β": "beta", "δ": "delta", "η": "eta", "μ": "mu", "σ": "sigma", "φ": "phi", "Φ": "Phi",
    "λ": "lambda", "Σ": "sum ", "ℓ": "l", "°": " deg",
}  # fmt: skip


def printable(text: object, keep: str = "") -> str:
    """The text with control characters written out, so that a terminal obeys none of them.

    Args:
        text: anything; what `str` makes of it.
        keep: characters that stay as they are, such as the ends of lines.

    Example:
        >>> printable("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in str(text))


def fitting(text: str, encoding: str) -> str:
    """The text in characters that the encoding has, for consoles that lack some.

    Example:
        >>> fitting("‖W₀‖", "ascii")
        '||W0||'
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_fitting(c, encoding) for c in text)
    except LookupError:
        pass
    return text


def _fitting(character: str, encoding: str) -> str:
    plain = unicodedata.normalize("NFKD", character)
    base = "".join(c for c in plain if not unicodedata.combining(c))
    for text in (character, PLAINER.get(character, character), base):
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            continue
        return text
    return character.encode("unicode_escape").decode("ascii")


def marked(text: object) -> str:
    """The text for rich's markup, which would read square brackets."""
    from rich.markup import escape

    return escape(printable(text))


def drawn(text: object) -> str:
    r"""The text for matplotlib, which would read dollar signs as mathematics.

    Example:
        >>> drawn("costs $5 and $6")
        'costs \\$5 and \\$6'
    """
    return printable(text).replace("$", r"\$")


def counted(steps: float) -> str:
    """A number of steps as people read it.

    Example:
        >>> counted(2000), counted(10**15), counted(1e300)
        ('2,000', '1e15', '1e300')
    """
    return f"{int(steps):,}" if steps < SPELT else f"{float(steps):.6g}".replace("e+", "e")


def paged(text: object) -> str:
    """The text for HTML."""
    import html

    return html.escape(printable(text))
