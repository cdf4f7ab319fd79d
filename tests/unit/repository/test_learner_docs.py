"""docs/learner.md names the tests that prove its claims, and its table of divergences from TRL is
complete.
"""

import re

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
DOCUMENT = (ROOT / "docs" / "learner.md").read_text()


def names(text: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, text))


def test_every_test_that_is_named_exists():
    sources = {path.stem: path.read_text() for path in TESTS.rglob("*.py")}
    defined = {
        name for source in sources.values() for name in names(source, r"def (test_\w+)")
    } | sources.keys()
    named = names(DOCUMENT, r"\b(test_\w+)")
    assert len(named) > 20 and not named - defined


def test_the_table_of_divergences_is_the_list_of_their_tests():
    table = DOCUMENT.split("## What differs from TRL on purpose")[1].split("\n## ")[0]
    tests = (TESTS / "oracle" / "test_divergences.py").read_text()
    assert names(table, r"\b(test_divergence_\w+)") == names(tests, r"def (test_divergence_\w+)")


def test_every_setting_of_the_learner_is_described():
    from geoagent_rl.config import LearnerConfig

    described = names(DOCUMENT, r"`learner\.(\w+)")
    assert not described - LearnerConfig.__dataclass_fields__.keys()
    assert LearnerConfig.__dataclass_fields__.keys() <= described
