"""What engines ask of vLLM; tests/stack/test_rollout.py has vLLM's own opinion of it."""

import os
import subprocess
import sys

import pytest

from actors.vllm_engine import rollout_engine_args
from geoagent_rl.config import load
from geoagent_rl.types import UserError


def arguments(*overrides):
    return rollout_engine_args(load(None, ["data.manifest=x", *overrides]), "model", {})


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (8, 8), (24, 32), (64, 64), (300, 320)])
def test_adapters_of_any_rank_find_room(rank, room):
    """vLLM makes room for a few ranks only and refuses to start for the others."""
    assert arguments(f"policy.lora_rank={rank}")["max_lora_rank"] == room


def test_an_adapter_beyond_all_of_them_is_refused_at_once():
    with pytest.raises(UserError, match="policy.lora_rank=600 .*rollout.swap=merged"):
        arguments("policy.lora_rank=600")
    assert "max_lora_rank" not in arguments("policy.lora_rank=600", "rollout.swap=merged")


HANDLERS = """
import logging, sys
from logging.handlers import MemoryHandler
handler = MemoryHandler(1, target=logging.StreamHandler())  # as Ray Serve's; closed, it has no target
from actors.vllm_engine import set_environment
set_environment(cpu=True)
from vllm.config.logging import LoggingConfig
from vllm.logger import configure_logging, init_logger
configure_logging(LoggingConfig())  # as every engine does when it starts
init_logger("vllm.x").info("not said")
init_logger("vllm.x").warning("said")
sys.exit(handler.target is None)
"""


@pytest.mark.timeout(120)  # imports vLLM
def test_vllm_leaves_the_log_of_its_process_alone_and_says_only_warnings():
    """Serve's controller, started again after its death, asks a replica for its log file and
    replaces one without.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    done = subprocess.run(
        [sys.executable, "-c", HANDLERS], capture_output=True, text=True, env=env, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not said" not in done.stderr and "said" in done.stderr
