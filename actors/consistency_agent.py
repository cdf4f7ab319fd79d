"""The consistency agent: a vLLM engine that reads a stage's reasoning and derives the conclusion.

One code, prompt and output form for every judge model: Qwen3-32B as GPTQ-INT4, the tiny Qwen3 of
the CPU pipeline and SmolLM2. A plain class; Ray Serve makes replicas of it. May know vLLM and the
prompt; nothing of the reward's formula."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from actors.gpu_share import hide_others, turn
from actors.vllm_engine import judge_engine_args, start_engine, within
from geoagent_rl.config.reward import JudgeConfig
from geoagent_rl.rewards.consistency_prompt import FORM, constant_parts, question, read_answer
from geoagent_rl.rewards.judge_models import judge_checkpoint
from geoagent_rl.rewards.services import JudgeItem, Verdict
from geoagent_rl.types import InfraError

TIMEOUT_S = 120.0  # for one verdict, waiting in the engine's queue included


class ConsistencyAgent:
    """The judge: a vLLM engine that is asked what a stage of reasoning concludes."""

    def __init__(self, judge: JudgeConfig) -> None:
        """Start the engine (10-30 s); convert the checkpoint first where that is needed."""
        from transformers import AutoTokenizer
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self.held = ExitStack()  # what ends with the engine
        hide_others(judge.gpus_per_replica)
        model, dtype = judge_checkpoint(judge.model, on_cpu=judge.gpus_per_replica == 0)
        with turn(judge.gpus_per_replica):
            self.engine = start_engine(judge_engine_args(judge, model, dtype), self.held)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.head, self.tail = constant_parts(self.tokenizer)
        self.name = Path(model).name
        self.room = judge.max_model_len - judge.max_tokens - len(self.head) - len(self.tail)
        self.params = SamplingParams(
            temperature=0,
            max_tokens=judge.max_tokens,
            structured_outputs=StructuredOutputsParams(regex=FORM),
            logprobs=0 if judge.cascade.enabled else None,  # of the sampled tokens alone
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self.numbers = itertools.count()
        self.answered, self.hung = time.monotonic(), False

    async def judge(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return one verdict for each item, in order; all are in the engine at once. InfraError
        when the engine fails."""
        return list(await asyncio.gather(*(self.verdict(item) for item in items)))

    async def verdict(self, item: JudgeItem) -> Verdict:
        """Return the conclusion of one stage. InfraError when the engine fails or hangs."""
        begin = time.monotonic()
        what = f"the consistency agent's verdict on a {item.stage}"
        try:
            text, reason, logprob = await within(
                TIMEOUT_S, what, self.complete(self.prompt_ids(item))
            )
        except InfraError:
            self.hung = self.answered < begin  # nobody has had an answer in all that time
            raise
        self.answered, self.hung = time.monotonic(), False
        try:
            conclusion = read_answer(text)
        except ValueError as error:
            raise InfraError(f"{what} ended with {reason!r}: {error}") from None
        return Verdict(conclusion, time.monotonic() - begin, self.name, logprob)

    def prompt_ids(self, item: JudgeItem) -> list[int]:
        """Return the prompt's ids. The question's characters never become special tokens; a
        question that is too long loses its middle."""
        ids = self.tokenizer(question(item), add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        if len(ids) > self.room:
            ids = ids[: self.room // 2] + ids[-(self.room - self.room // 2) :]
        return [*self.head, *ids, *self.tail]

    async def complete(self, ids: list[int]) -> tuple[str, str, float | None]:
        """Return the completion of a prompt, why it ended, and the mean log-probability of its
        tokens (before the grammar), where it is asked for.
        """
        name = f"judge/{next(self.numbers)}"
        outputs = [
            output
            async for output in self.engine.generate({"prompt_token_ids": ids}, self.params, name)
        ]
        completion = outputs[-1].outputs[0]
        total, tokens = completion.cumulative_logprob, len(completion.token_ids)
        mean = None if total is None or not tokens else total / tokens
        return completion.text, completion.finish_reason, mean

    async def check_health(self) -> None:
        """Raise where Ray Serve is to replace the replica: vLLM knows whether it is dead, not
        whether it hangs."""
        if self.hung:
            raise InfraError(f"the consistency agent has given no verdict for {TIMEOUT_S:g} s")
        await self.engine.check_health()

    def stop(self) -> None:
        """End the engine's processes. Idempotent."""
        self.held.close()
