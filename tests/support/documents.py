"""What a page of the documentation tells its reader to type."""

import re


def commands(text: str) -> list[str]:
    """The `geoagent-rl` command lines of the page's shell blocks; a line may go on after a
    backslash.
    """
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [
        line.removeprefix("$ ")
        for line in lines
        if line.removeprefix("$ ").startswith("geoagent-rl ")
    ]
