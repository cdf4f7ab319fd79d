"""Between two steps nothing is read back from the device: a GPU would be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from actors.passes import Call, Passes
from actors.pictures import Pictures
from geoagent_rl.grpo.batching import Layout, micro_batches
from geoagent_rl.grpo.samples import train_group
from geoagent_rl.policy.lora import use_fast_adapters
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import banned_ids, load_processor
from geoagent_rl.policy.rows import visible_blocks
from tests.support import tiny_random
from tests.support.learner_cases import config, group

# item, tolist, float, bool and if; what has as many values as the device finds; host comparisons
READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "equal")


class NoReads(TorchDispatchMode):
    """Refuses what reads values back."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function._schema.name.removeprefix("aten::") in READS:
            raise AssertionError(f"{function} reads a value back")
        return function(*args, **(kwargs or {}))


@contextmanager
def host_work_may_read(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`inputs` is made on the CPU, before it goes to the device: it is left out."""
    inputs = passes.inputs

    def outside(*given: Any) -> Any:
        with torch.utils._python_dispatch._disable_current_modes():
            return inputs(*given)

    monkeypatch.setattr(passes, "inputs", outside)
    with NoReads():
        yield


@pytest.mark.parametrize("recompute", [False, True])
def test_a_pass_reads_nothing_back(recompute, tmp_path, monkeypatch):
    model = tiny_random.build(tmp_path / "model", hidden=64)
    pictures = [tiny_random.picture(tmp_path / f"{i}.png", i, (84, 56)) for i in range(2)]
    policy = load_policy(model, lora=(8, 16), gradient_checkpointing=recompute).train()
    use_fast_adapters(policy.lora_layers)
    processor, asked = load_processor(model), config()
    sharded = SimpleNamespace(
        engine=policy, device=torch.device("cpu"), backward=lambda loss: loss.backward()
    )
    layout, tokenizer = Layout(8192, 800, multiple=8), processor.tokenizer
    banned = banned_ids(processor)
    passes = Passes(asked, "grpo", policy, sharded, layout, banned, tokenizer.pad_token_id)
    grids, features = Pictures(asked, processor, policy).look(pictures, sharded.device)
    samples = [s for i in range(2) for s in train_group(group((model, pictures), i, 0)).samples()]
    (rows,) = micro_batches(samples, layout)
    with host_work_may_read(passes, monkeypatch):
        passes.learn(rows, Call(pictures, grids, features, 100))
    assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)
    batch = passes.inputs(rows, pictures, grids).batch
    with NoReads():
        visible_blocks(batch)
