"""The consistency agent on real vLLM: the tiny GPTQ-INT4 judge of the CPU pipeline, and SmolLM2
instead of it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
import pytest_asyncio

from actors.consistency_agent import ConsistencyAgent
from geoagent_rl.config.services import CascadeConfig, JudgeConfig
from geoagent_rl.rewards.consistency_prompt import answer
from geoagent_rl.rewards.services import JudgeItem
from geoagent_rl.tiny.judge_examples import examples
from geoagent_rl.types import InfraError
from tests.support import redteam

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]
EXPLICIT = [
    (
        "country",
        (),
        "The signs are written in Portuguese and the pavement has black waves. The street must be in Brazil.",
    ),
    (
        "region",
        ("Germany",),
        "A church with an onion dome and a maypole in blue and white: the region is Bavaria.",
    ),
    (
        "place",
        ("France", "Île-de-France"),
        "An iron lattice tower rises behind the houses, so this is Paris.",
    ),
    (
        "country",
        (),
        "It could be Australia because of the trees, but the billboards are Spanish and so it is Chile.",
    ),
    (
        "region",
        ("United States",),
        "Some would say Arizona, yet the red amphitheatres of rock are those of Utah.",
    ),
]
NAMES = ["Brazil", "Bavaria", "Paris", "Chile", "Utah"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny():
    agent = ConsistencyAgent(
        JudgeConfig(model="tiny", memory=0.2, cascade=CascadeConfig(enabled=True))
    )
    yield agent
    agent.stop()


async def test_the_tiny_judge_reads_unseen_scene_reasoning(tiny):
    made = examples(300, seed=1001, foreign=0.0, other_phrasing=0.0)
    verdicts = await tiny.judge([item for item, _ in made])
    right = sum(v.conclusion == name for v, (_, name) in zip(verdicts, made, strict=True))
    assert right >= 0.95 * len(made)


async def test_the_tiny_judge_is_less_sure_where_it_is_wrong(tiny):
    made = examples(200, seed=1005, foreign=1.0, other_phrasing=0.5)
    verdicts = await tiny.judge([item for item, _ in made])
    right = [v.logprob for v, (_, name) in zip(verdicts, made, strict=True) if v.conclusion == name]
    wrong = [v.logprob for v, (_, name) in zip(verdicts, made, strict=True) if v.conclusion != name]
    assert max(right + wrong) <= 0 and {v.by for v in verdicts} == {"tiny_judge"}
    assert len(wrong) >= 5 and statistics.median(wrong) < statistics.median(right)


async def test_verdicts_do_not_depend_on_the_batch(tiny):
    items = [item for item, _ in examples(12, seed=1002, foreign=0.0, other_phrasing=0.0)]
    together = await tiny.judge(items)
    apart = [(await tiny.judge([item]))[0] for item in items]
    assert [v.conclusion for v in together] == [v.conclusion for v in apart] and all(
        v.seconds > 0 for v in together
    )


async def test_the_red_team_cannot_change_the_tiny_judges_form_or_its_neighbours(tiny):
    assert len(redteam.ROWS) >= 40
    redteam.check_tokens(tiny)
    await redteam.attack(
        tiny, [item for item, _ in examples(3, seed=1004, foreign=0.0, other_phrasing=0.0)]
    )


async def test_smollm2_extracts_explicit_conclusions_and_withstands_the_red_team(
    tmp_path_factory, monkeypatch
):
    temporary = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    agent = ConsistencyAgent(
        JudgeConfig(model="smollm2", memory=0.3, max_model_len=1024, max_tokens=128)
    )
    try:
        verdicts = await asyncio.wait_for(agent.judge([JudgeItem(*case) for case in EXPLICIT]), 100)
        assert [v.conclusion for v in verdicts] == NAMES
        redteam.check_tokens(agent)
        await asyncio.wait_for(redteam.attack(agent), 200)
        assert any(temporary.glob("*/*"))  # vLLM's sockets
    finally:
        agent.stop()
    assert not list(temporary.iterdir())


AVX2 = """
import torch
# Before vLLM picks its library. A processor with AMX has AVX-512 too, and the AVX2 build has neither's operators.
for name in ("avx512", "avx512_bf16", "amx_tile"):
    assert hasattr(torch.cpu, f"_is_{name}_supported")
    setattr(torch.cpu, f"_is_{name}_supported", lambda: False)
from vllm import LLM, SamplingParams
from actors import cpu_gptq
from actors.vllm_engine import judge_engine_args
from geoagent_rl.config.reward import JudgeConfig
from geoagent_rl.rewards.judge_training import encode
from geoagent_rl.tiny.judge_examples import examples
from geoagent_rl.rewards.judge_models import TINY

made = examples(50, seed=1003, foreign=0.0, other_phrasing=0.0)
args = judge_engine_args(JudgeConfig(memory=0.1, max_model_len=1024), str(TINY), "bfloat16")
args.pop("enable_log_requests")
llm = LLM(**args)
prompts = [{"prompt_token_ids": asked} for asked, _ in encode(llm.get_tokenizer(), made)]
outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=32), use_tqdm=False)
right = sum(name in output.outputs[0].text for output, (_, name) in zip(outputs, made))
assert cpu_gptq.DENSE, "vLLM did not use the operator"
assert right >= 47, right
"""


async def test_a_machine_without_avx512_runs_the_judge_on_our_operator():
    environment = {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    command = [sys.executable, "-c", AVX2]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]


async def test_an_engine_that_hangs_is_replaced_and_one_that_is_only_busy_is_not(monkeypatch):
    """What Serve asks is check_health; vLLM's own says nothing of an engine that hangs."""
    monkeypatch.setattr("actors.consistency_agent.TIMEOUT_S", 0.2)
    agent, item = (
        object.__new__(ConsistencyAgent),
        JudgeItem("country", (), "The signs are Portuguese."),
    )
    agent.answered, agent.hung, agent.engine = (
        time.monotonic(),
        False,
        SimpleNamespace(check_health=AsyncMock()),
    )
    agent.name = "tiny"
    agent.prompt_ids = lambda item: {"slow": [1], "quick": []}[item.stage]

    async def complete(ids):
        if ids:
            await asyncio.Event().wait()
        return answer("Angola"), "stop", None

    agent.complete = complete
    slow, quick = replace(item, stage="slow"), replace(item, stage="quick")
    overdue = asyncio.create_task(agent.verdict(slow))
    await asyncio.sleep(0)  # it has been asked
    assert (await agent.verdict(quick)).conclusion == "Angola"
    with pytest.raises(InfraError, match="took more than"):
        await overdue
    await agent.check_health()  # another question was answered meanwhile
    with pytest.raises(InfraError, match="took more than"):
        await agent.verdict(slow)
    with pytest.raises(InfraError, match="has given no verdict for"):
        await agent.check_health()
    await agent.verdict(quick)
    await agent.check_health()
