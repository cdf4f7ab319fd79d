"""What the documentation's site does (hooks of mkdocs.yml) with links to files outside docs/, which
it does not hold: it shows their names. And a name for its search, for who hears a page."""

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:configs|tests|cluster)/[^)]*|[A-Z]+\.md)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with `[text](../configs/file)` as text and name."""
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Return the page with a name for the dialog that searches."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
