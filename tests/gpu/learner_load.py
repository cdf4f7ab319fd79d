"""What learner_bench measures: a policy of the asked shape, a group of samples, the learner's pass.

May know the learner's class from inside: it is driven without DeepSpeed, files or a tokenizer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from actors.learner import Learner
from geoagent_rl.config import Config
from geoagent_rl.grpo.batching import TrainSample, plan, rows_of
from geoagent_rl.policy.model import LORA_EXCLUDED, LORA_TARGETS, Policy
from geoagent_rl.policy.rows import attention_balance
from tests.gpu.measuring import Mark, device_api, gradient, measure, profiled
from tests.gpu.random_weights import network_config, shape_of
from tests.gpu.results import GIB, Results

LORA = {"r": 64, "lora_alpha": 128}
BF16 = torch.bfloat16
Batches = Sequence[Sequence[TrainSample]]
Features = tuple[Tensor, ...]
# grid: of the picture in patches, four of which make a token; completion: mean tokens; budgets:
# micro_batch_tokens; rows, lora, logits, chunks: sizes of the kernel sections
REAL = {
    "grid": (1, 30, 34),
    "prompt": 400,
    "completion": 600,
    "longest": 1024,
    "budgets": (8192, 4096),
    "matmul": 8192,
    "copy": 2**32,
    "rows": (1000, 1600, 4000, 8000),
    "lora": (1600, 4096),
    "logits": 5000,
    "chunks": (25, 28),
}
TINY = {
    "grid": (1, 8, 12),
    "prompt": 60,
    "completion": 60,
    "longest": 100,
    "budgets": (512, 256),
    "matmul": 256,
    "copy": 2**24,
    "rows": (128, 250),
    "lora": (64, 128),
    "logits": 300,
    "chunks": (14, 17),
}


class Load:
    """Sizes, samples and the policy, which is made when it is first asked for."""

    def __init__(self, shape: str, results: Results) -> None:
        self.results, self.cuda, self.config = results, results.cuda, Config()
        self.device = torch.device("cuda" if self.cuda else "cpu")
        self.gpu = device_api(self.cuda)
        self.size = SimpleNamespace(**(TINY if shape == "tiny" else REAL))
        self.shape_name, self.shape = shape, shape_of(shape)
        self.ceiling = math.nan  # FLOP/s, measured by the first section
        # vision's start, end, pad, image, video
        self.special = min(151652, self.shape.vocab - 8)
        self.banned = torch.arange(self.special, self.special + 5, device=self.device)
        self.image_tokens = math.prod(self.size.grid) // 4
        self.grids = torch.tensor([self.size.grid], device=self.device)
        self.features = (0.02 * self.normal(self.image_tokens, self.shape.hidden),)  # made up
        sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
        given = (self.shape.hidden, self.shape.mlp, self.shape.heads, self.shape.kv_heads)
        self.balance = attention_balance(SimpleNamespace(**dict(zip(sizes, given, strict=True))))
        self.group = self.samples(8)
        budgets = self.size.budgets
        self.wide, self.narrow = (plan(self.group, 1, b, self.balance)[0] for b in budgets)

    def normal(self, *size: int, **more: Any) -> Tensor:
        return torch.randn(*size, **({"device": self.device, "dtype": BF16} | more))

    def samples(self, n: int) -> list[TrainSample]:
        """n completions of one prompt; their lengths are log-normal."""
        seed, size = torch.Generator().manual_seed(0), self.size
        drawn = size.completion * torch.exp(0.35 * torch.randn(n, generator=seed) - 0.06)
        text_of_prompt = size.prompt - self.image_tokens - 2
        lengths = [text_of_prompt, *drawn.clamp(max=size.longest).int().tolist()]
        texts = [
            tuple(torch.randint(1, self.special, (k,), generator=seed).tolist()) for k in lengths
        ]
        image = [self.special, *[self.special + 3] * self.image_tokens, self.special + 1]
        prompt = (*texts[0][:20], *image, *texts[0][20:])
        return [
            TrainSample(str(i), "x", prompt, text, 1.0 - i / 4) for i, text in enumerate(texts[1:])
        ]

    @cached_property
    def policy(self) -> Policy:
        """As load_policy makes it, from a configuration; bfloat16 adapters as under DeepSpeed."""
        start = time.monotonic()
        marks = ("vision_start_token_id", "vision_end_token_id", None, "image_token_id")
        ids = {name: self.special + i for i, name in enumerate((*marks, "video_token_id")) if name}
        with self.device:
            network = Qwen2_5_VLForConditionalGeneration._from_config(
                network_config(self.shape, ids), dtype=BF16
            )
        network.model.visual.requires_grad_(False)
        lora = LoraConfig(**LORA, target_modules=LORA_TARGETS, exclude_modules=LORA_EXCLUDED)
        policy = Policy(get_peft_model(network, lora)).train()
        for name, p in policy.named_parameters():
            p.data = p.data.to(BF16)
            if ".lora_B." in name:
                nn.init.normal_(p, 0, 0.01)  # at 0 the gradient of A would be 0 too
        held = self.gpu.memory_allocated() / GIB
        self.results.record("policy", self.shape_name, seconds=time.monotonic() - start, GiB=held)
        return policy

    def learner(
        self,
        engine: Any = None,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        checkpointing: bool = True,
    ) -> Callable[..., None]:
        """Return learn(batches, mark, features): Learner.learn_batch of each, its passes marked."""
        policy, found = self.policy, object.__new__(Learner)
        policy.network.gradient_checkpointing_enable({"use_reentrant": False})
        if not checkpointing:
            policy.network.gradient_checkpointing_disable()
        vars(found).update(
            config=self.config,
            policy=policy,
            device=self.device,
            balance=self.balance,
            banned=self.banned,
            processor=SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0)),
            phase=SimpleNamespace(kind="grpo"),
        )
        found.clear()

        def learn(batches: Batches, mark: Mark, features: Features = self.features) -> None:
            # what ends where the policy's first and second pass begin
            names = cycle(("prepare", "reference"))

            def marked(loss: Tensor) -> None:
                mark("forward")
                backward(loss)
                mark("backward")

            found.sharded = SimpleNamespace(engine=engine or policy, backward=marked)
            with policy.register_forward_pre_hook(lambda *_: mark(next(names))):
                for samples in batches:
                    found.learn_batch(samples, ["x"], self.grids, features, 1)
                    mark("count")

        return learn

    def needed(self, batches: Batches) -> tuple[dict[str, float], int, int]:
        """Return useful FLOPs by pass, tokens, and completion tokens.

        Of real tokens and visible pairs, nothing twice; a multiply-add counts 2."""
        tokens, completion, pairs, p = 0, 0, 0.0, self.size.prompt
        for samples in batches:
            for row in rows_of(samples, self.balance):
                sizes = [len(samples[i].completion_ids) for i in row]
                tokens, completion = tokens + p + sum(sizes), completion + sum(sizes)
                pairs += p * (p + 1) / 2 + sum(n * p + n * (n + 1) / 2 for n in sizes)
        a = self.shape
        linear = 2.0 * (tokens * a.linear_parameters + completion * a.hidden * a.vocab)
        scores = 4 * a.layers * a.heads * a.head_dim * pairs
        adapter = 2 * tokens * a.lora_parameters(LORA["r"])
        flops = {"reference": linear + scores, "forward": linear + scores + adapter}
        flops["backward"] = linear + 2 * (scores + adapter)
        return flops, tokens, completion

    def measure(self, work: Callable[[Mark], Any]) -> dict[str, float]:
        return measure(work, self.cuda)

    def profiled(self, work: Callable[[Mark], Any]) -> dict[str, Any]:
        return profiled(work, self.cuda)

    def gradient(
        self,
        function: Callable[[], Any],
        inputs: Sequence[Tensor],
        outer: Any = None,
        prefix: str = "",
    ) -> tuple[dict[str, Any], tuple[Any, Any]]:
        return gradient(function, inputs, self.cuda, outer, prefix)
