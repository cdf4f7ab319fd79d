"""What the rollout engine asks of vLLM; tests/stack/test_rollout.py has vLLM's own opinion of it."""

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
