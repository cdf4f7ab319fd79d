"""What the documentation tells its reader to type: its fenced blocks, and the commands in them."""

import re
from dataclasses import dataclass

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
SHELLS = ("sh", "bash", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block. `mark`: the comment on the line above it. `title`: the file that it shows."""

    language: str
    mark: str
    title: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The command lines; one may go on after a backslash."""
        whole = self.text.replace("\\\n", " ").splitlines()
        lines = [line.strip().removeprefix("$ ") for line in whole]
        return [line for line in lines if line and not line.startswith("#")]


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    names = ("language", "mark", "title", "text")
    return [Block(*(found[name] or "" for name in names)) for found in BLOCK.finditer(text)]


def commands(text: str) -> list[str]:
    """Return the `geoagent-rl` command lines of the page's shell blocks."""
    shown = [line for block in blocks(text) if block.language in SHELLS for line in block.lines]
    bare = [line.removeprefix("PYTHONPATH=. ") for line in shown]
    return [line for line in bare if line.startswith("geoagent-rl ")]
