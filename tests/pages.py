"""The pages of the documentation: their text, their links, their examples."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("jaxsim/**/README.md"), *ROOT.glob("benchmarks/README.md"))
)


def text(page: str) -> str:
    """The whole page."""
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """The page without its blocks."""
    return FENCE.sub("", text(page))


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a language, in order."""
    return [content for name, content in FENCE.findall(text(page)) if name == language]


def block(page: str, language: str, mark: str) -> str:
    """The first block that contains `mark`."""
    return next(content for content in blocks(page, language) if mark in content)


def anchors(page: str) -> set[str]:
    """What a link may name after #: headings in lower case, without punctuation, with dashes for spaces."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[tuple[str, str]]:
    """Relative links as (page or file from the root, anchor)."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            found.append((str(path.resolve().relative_to(ROOT.resolve())), anchor))
    return found
