"""What learner_bench measures: a policy of the asked shape, groups of samples, the passes.

actors/passes.py is driven without DeepSpeed, files or a tokenizer."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from actors.passes import Call, Passes
from geoagent_rl.config import Config
from geoagent_rl.grpo.batching import Layout, Row, micro_batches
from geoagent_rl.grpo.samples import TrainSample, by_prompt
from geoagent_rl.policy.attention import BLOCK, flex_works, use_flex
from geoagent_rl.policy.families import FAMILIES
from geoagent_rl.policy.logits import use_float32_logits
from geoagent_rl.policy.lora import use_fast_adapters
from geoagent_rl.policy.model import Policy
from geoagent_rl.policy.rows import attention_balance
from tests.gpu.measuring import Mark, device_api, gradient, measure, profiled
from tests.gpu.random_weights import network_config
from tests.gpu.results import GIB, Results
from tests.gpu.shapes import shape_of

LORA = {"r": 64, "lora_alpha": 128}
BF16 = torch.bfloat16
Batches = Sequence[Sequence[Row]]
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
        self.grids = torch.tensor([self.size.grid])
        self.features = (0.02 * self.normal(self.image_tokens, self.shape.hidden),)  # made up
        sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
        given = (self.shape.hidden, self.shape.mlp, self.shape.heads, self.shape.kv_heads)
        self.balance = attention_balance(SimpleNamespace(**dict(zip(sizes, given, strict=True))))
        self.group = self.samples(8)
        # one copy of the prompt behind which the whole group stands, in one row
        self.wide = micro_batches(self.group, self.layout("packed"))

    def normal(self, *size: int, **more: Any) -> Tensor:
        return torch.randn(*size, **({"device": self.device, "dtype": BF16} | more))

    def layout(self, kind: str, budget: int = 0) -> Layout:
        """kind: "separate" rows (causal attention), "shared" rows (a dense mask) or one "packed"
        row (flex attention, where it works)."""
        budget, shared = budget or self.size.budgets[0], kind != "separate"
        packed = kind == "packed" and self.flex
        return Layout(budget, self.balance, shared, packed, BLOCK if packed else 8)

    @cached_property
    def flex(self) -> bool:
        """Whether flex attention compiles here and is right; recorded with the seconds it takes."""
        start, a = time.monotonic(), self.shape
        works = flex_works(self.device, a.heads, a.kv_heads, a.head_dim)
        self.results.record("flex", "works", works=works, seconds=time.monotonic() - start)
        return works

    def samples(self, n: int, number: int = 0) -> list[TrainSample]:
        """n completions of prompt `number`; their lengths are log-normal."""
        seed, size = torch.Generator().manual_seed(number), self.size
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
        """As load_policy and the learner make it: bfloat16 base, float32 adapters."""
        start = time.monotonic()
        marks = ("vision_start_token_id", "vision_end_token_id", None, "image_token_id")
        ids = {name: self.special + i for i, name in enumerate((*marks, "video_token_id")) if name}
        with self.device:
            network = Qwen2_5_VLForConditionalGeneration._from_config(
                network_config(self.shape, ids), dtype=BF16
            )
        network.model.visual.requires_grad_(False)
        family = FAMILIES["qwen2_5_vl"]
        targets, others = family.lora_targets, family.lora_excluded
        lora = LoraConfig(**LORA, target_modules=targets, exclude_modules=others)
        policy = Policy(get_peft_model(network, lora)).train()
        use_fast_adapters(policy.lora_layers)
        use_float32_logits(network.lm_head)
        if self.flex:
            use_flex(policy.network)
        for name, p in policy.named_parameters():
            if ".lora_B." in name:
                nn.init.normal_(p, 0, 0.01)  # at 0 the gradient of A would be 0 too
        held = self.gpu.memory_allocated() / GIB
        self.results.record("policy", self.shape_name, seconds=time.monotonic() - start, GiB=held)
        return policy

    def learner(
        self,
        kind: str = "packed",
        engine: Any = None,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        checkpointing: bool = True,
    ) -> Callable[..., None]:
        """Return learn(batches, mark, features): Passes.learn of each, its passes marked."""
        network = self.policy.network
        network.gradient_checkpointing_enable({"use_reentrant": False})
        if not checkpointing:
            network.gradient_checkpointing_disable()
        sharded = SimpleNamespace(device=self.device, engine=engine or self.policy)
        bans = self.banned.tolist()
        passes = Passes(self.config, "grpo", self.policy, sharded, self.layout(kind), bans, 0)  # type: ignore[arg-type]

        def learn(batches: Batches, mark: Mark, features: Features = self.features) -> None:
            # what ends where the policy's first and second pass begin
            names = cycle(("prepare", "reference"))

            def marked(loss: Tensor) -> None:
                mark("forward")
                backward(loss)
                mark("backward")

            sharded.backward = marked
            call = Call(["x"], self.grids, features, 1)
            with self.policy.register_forward_pre_hook(lambda *_: mark(next(names))):
                for rows in batches:
                    passes.learn(rows, call)
                    mark("count")

        return learn

    @contextlib.contextmanager
    def pefts_form(self, wanted: bool = True) -> Iterator[None]:
        """PEFT's own forward of the adapters for a while, in bfloat16, its fastest."""
        layers = self.policy.lora_layers if wanted else ()
        adapters = [p for p in self.policy.parameters() if p.requires_grad] if wanted else []
        for layer in layers:
            del layer.forward
        for p in adapters:
            p.grad, p.data = None, p.data.to(BF16)
        try:
            yield
        finally:
            for p in adapters:
                p.grad, p.data = None, p.data.float()
            if layers:
                use_fast_adapters(layers)

    def needed(self, batches: Batches) -> tuple[dict[str, float], int, int]:
        """Return useful FLOPs by pass, tokens, and completion tokens.

        Of real tokens and visible pairs, no prompt twice; a multiply-add counts 2."""
        tokens, completion, pairs, p = 0, 0, 0.0, self.size.prompt
        samples = [s for rows in batches for row in rows for block in row for s in block]
        for group in by_prompt(samples):
            sizes = [len(s.completion_ids) for s in group]
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
