"""The guard after a swap, exact in every precision: an engine never works with old or half weights.

One engine with adapters, whose base can be reloaded too, on a random tiny Qwen2.5-VL."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import pytest_asyncio
import torch
from safetensors.torch import load, save

from actors import rollout
from actors.publishing import published
from actors.rollout import RolloutEngine
from geoagent_rl.config import Config
from geoagent_rl.policy.model import (
    ADAPTER_TENSORS,
    Policy,
    everything_here,
    load_policy,
    save_merged,
)
from geoagent_rl.types import InfraError, PolicyVersion
from tests.support import tiny_random

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
UNSHARDED = SimpleNamespace(gather=everything_here)
STEP = 2e-3  # of the adapter's weights: about what a small step of the learner changes


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_random.build(tmp_path_factory.mktemp("policy"), hidden=64)


@pytest.fixture(scope="module")
def versions(model, dtype, tmp_path_factory) -> dict[str, PolicyVersion]:
    """Versions 1 and 2, a small step apart, in both forms."""
    policy, folder = load_policy(model, dtype, lora=(8, 16)), tmp_path_factory.mktemp(dtype)
    found = {}
    for number, scale in ((1, 0.05), (2, STEP)):
        move(policy, scale, number)
        whole = str(folder / f"whole{number}")
        files, digest = published(policy, UNSHARDED, config_of(dtype), write=True)
        found[f"adapter {number}"] = PolicyVersion(number, "adapter", digest=digest, files=files)
        digest = save_merged(policy, model, whole)
        found[f"checkpoint {number}"] = PolicyVersion(number, "checkpoint", whole, digest=digest)
    return found


def config_of(dtype: str) -> Config:
    config = Config()
    config.policy.max_pixels, config.policy.lora_rank, config.policy.dtype = 84 * 84, 8, dtype
    config.rollout.swap, config.rollout.max_tokens = "adapter", 24
    config.rollout.max_model_len, config.rollout.memory, config.rollout.timeout_s = 512, 0.1, 120
    return config


def move(policy: Policy, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += (scale * noise).to(parameter.dtype)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model, dtype):
    config = config_of(dtype)
    arguments = rollout.rollout_engine_args

    def half_bound(*given):
        return arguments(*given) | {"worker_extension_cls": "tests.support.half_bound.HalfBound"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "rollout_engine_args", half_bound)
        engine = RolloutEngine(config, model)
        await engine.start()
        yield engine
        await engine.stop()


async def test_logits_are_float32_in_every_precision(engine):
    """As the learner's are: policy/logits.py."""
    assert engine.engine.vllm_config.model_config.head_dtype == torch.float32


@pytest.mark.parametrize("kind", ["adapter", "checkpoint"])
async def test_each_version_is_taken_once(engine, versions, kind, monkeypatch):
    for number in (1, 2):
        await engine.swap(versions[f"{kind} {number}"])
        assert engine.version.number == number
    monkeypatch.setattr(engine.weights, "take", None)  # a skipped step: the version comes again
    await engine.swap(versions[f"{kind} 2"])


@pytest.mark.parametrize("kind", ["adapter", "checkpoint"])
async def test_old_weights_under_a_new_number_are_refused(engine, versions, kind):
    """As from a file system that still shows the last version's file."""
    old, new = versions[f"{kind} 1"], versions[f"{kind} 2"]
    with pytest.raises(InfraError, match="not hold the weights that the learner published"):
        await engine.swap(replace(new, path=old.path, files=old.files))
    with pytest.raises(InfraError, match="failed to take the weights"):
        await engine.check()
    await engine.swap(new)


async def test_half_an_adapter_is_refused(engine, versions):
    """vLLM itself takes a file that lacks layers without a word."""
    new = versions["adapter 2"]
    tensors = load(new.files[ADAPTER_TENSORS].tobytes())
    half = save({k: v for k, v in tensors.items() if ".layers.1." not in k})
    with pytest.raises(InfraError, match="not hold the weights that the learner published"):
        await engine.swap(replace(new, files={**new.files, ADAPTER_TENSORS: half}))
    await engine.swap(new)


async def test_an_adapter_that_is_bound_by_half_is_refused(engine, versions, monkeypatch):
    load = engine.weights.load

    async def half(number, path):
        await load(number, path)
        await engine.engine.collective_rpc("forget_half_of_adapter")

    monkeypatch.setattr(engine.weights, "load", half)
    with pytest.raises(InfraError, match=r"layers\.0\.\S+ does not hold the published adapter"):
        await engine.swap(versions["adapter 1"])
    monkeypatch.undo()
    await engine.swap(versions["adapter 1"])


async def test_a_layer_that_keeps_its_old_weights_is_refused(engine, versions, monkeypatch):
    await engine.swap(versions["checkpoint 1"])

    workers = engine.weights.workers

    async def almost(method, *args, what):
        other = "keep_one_old_layer" if method == "take_weights" else method
        return await workers(other, *args, what=what)

    monkeypatch.setattr(engine.weights, "workers", almost)
    with pytest.raises(InfraError, match=r"layers\.1\.mlp\.down_proj does not hold the weight"):
        await engine.swap(versions["checkpoint 2"])
    monkeypatch.undo()
    await engine.swap(versions["checkpoint 2"])


async def test_the_start_under_an_adapter_needs_no_loading(engine, model, versions, monkeypatch):
    """A run whose first step is skipped: the learner's version is still the start's."""
    start = PolicyVersion(0, "checkpoint", model)
    await engine.swap(start)
    await engine.swap(versions["adapter 1"])
    monkeypatch.setattr(engine.weights, "workers", None)
    await engine.swap(start)
    assert engine.weights.adapter is None and engine.version.number == 0
