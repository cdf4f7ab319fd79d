"""What the documentation's site does with links to files outside docs/, which a site does not hold:
it shows their names (a hook of mkdocs.yml)."""

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:configs|tests|cluster)/[^)]*|[A-Z]+\.md)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with `[text](../configs/file)` as text and name."""
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)
