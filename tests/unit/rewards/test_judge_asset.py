"""The tiny judge that lies in the repository is the one that its build script made from today's
phrases and prompt.
"""

import hashlib
import json

from geoagent_rl.rewards.judge_models import TINY
from geoagent_rl.tiny.judge_build import FILES, fingerprint
from geoagent_rl.tiny.judge_examples import examples

NOTE = json.loads((TINY / "BUILD.json").read_text())


def test_the_asset_is_what_the_build_script_wrote_and_small():
    assert NOTE["sha256"] == {
        name: hashlib.sha256((TINY / name).read_bytes()).hexdigest() for name in FILES
    }
    assert sum(file.stat().st_size for file in TINY.iterdir()) <= 2_000_000


def test_the_asset_was_trained_on_the_phrases_names_and_prompt_of_today():
    assert NOTE["fingerprint"] == fingerprint(), (
        "run: python -m geoagent_rl.tiny.judge_build (its docstring says how)"
    )


def test_examples_are_reproducible_and_name_their_conclusion():
    made = examples(200, seed=5)
    assert made == examples(200, seed=5) != examples(200, seed=6)
    for item, name in made:
        assert name == "unknown" or name in item.reasoning
