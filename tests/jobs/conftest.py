"""A judge for the jobs that are not about it: an endpoint needs no engine, whose start takes longer
than such a job's work. (The main job, its resumed run and the cluster's have the real one.)"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chat_server import as_judge, chatting


@pytest.fixture(scope="session")
def judge() -> Iterator[list[str]]:
    """The settings that name it."""
    with chatting() as server:
        yield as_judge(server)
