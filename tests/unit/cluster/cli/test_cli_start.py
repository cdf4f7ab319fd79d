"""`geoagent-rl -h` is quick and orderly: nothing heavy is imported for it, and what a new user
needs comes first.
"""

import json
import subprocess
import sys

HEAVY = (
    "torch",
    "ray",
    "vllm",
    "deepspeed",
    "transformers",
    "pandas",
    "scipy",
    "starlette",
    "sentence_transformers",
)
SCRIPT = f"""
import json, sys
from cluster.cli import main
print(json.dumps(sorted(set({HEAVY}) & set(sys.modules))))
sys.argv = ["geoagent-rl", "-h"]
main.main()
"""


def test_help_imports_nothing_heavy_and_lists_what_to_start_with_first():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    loaded, _, shown = done.stdout.partition("\n")
    assert json.loads(loaded) == []
    assert (
        shown.index("doctor") < shown.index("demo") < shown.index("train") < shown.index("predict")
    )
