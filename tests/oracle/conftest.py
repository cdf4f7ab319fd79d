"""The model that is compared, and a line that says with which TRL."""

from importlib.metadata import version

import pytest

from tests.support import tiny_random


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    """(policy, processor): a tiny random Qwen2.5-VL whose adapter is not zero."""
    from tests.support.trl_harness import trained_policy

    return trained_policy(tiny_random.build(tmp_path_factory.mktemp("tiny")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"oracle: compared with TRL {version('trl')}")
