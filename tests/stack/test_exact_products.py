"""A row of a product is the same in any company, with the environment that the product sets up."""

import os
import subprocess
import sys

import pytest

EXACT = """
import sys
SET_UP
import torch
from torch.nn.functional import linear
from actors.cpu_invariance import with_enough_rows

for threads, wide in ((t, k) for t in (1, 2) for k in (64, 384, 1176)):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(wide)
    x = torch.randn(512, wide, generator=generator)
    weight = torch.randn(128, wide, generator=generator)
    together = linear(x, weight)
    for rows in range(1, 65):
        alone = with_enough_rows(lambda some: linear(some, weight), x[:rows])
        if not torch.equal(alone, together[:rows]):
            print(f"{rows} rows of {wide}, {threads} threads")
"""
SET_UPS = {
    "engine": "from actors.vllm_engine import set_environment; set_environment(cpu=True)",
    "learner": """
from types import SimpleNamespace
sys.modules["actors.learner"] = SimpleNamespace(Learner=lambda *_: SimpleNamespace(version=0))
from actors.learner_group import LearnerRank
LearnerRank().start(None, "", None, False, 0, 1, "")""",
}


@pytest.mark.parametrize("process", SET_UPS)
def test_a_row_is_the_same_in_any_company(process):
    """To the last bit, in a process that starts as the product's do. MKL reads its switch once, so
    this process cannot say."""
    env = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    code = EXACT.replace("SET_UP", SET_UPS[process])
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr[-2000:]
