"""How a setting such as reward.geocoder.nodes names nodes: a custom resource, or a label written
"key=value".
"""

from __future__ import annotations

from typing import Any

SLIVER = 0.001  # of a custom resource: a mark of the node, never a limit (a thousand replicas)


def split_label(where: str) -> tuple[str, str] | None:
    """Split "key=value"; None for what is no label."""
    key, equals, value = where.partition("=")
    return (key.strip(), value.strip()) if equals else None


def node_options(where: str) -> dict[str, Any]:
    """Return Ray actor options that keep an actor on those nodes; none for ""."""
    label = split_label(where)
    if label is not None:
        return {"label_selector": {label[0]: label[1]}}
    return {"resources": {where: SLIVER}} if where else {}
