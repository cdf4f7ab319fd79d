"""The rollout actor: a vLLM engine that completes prompts, streams finished completions and takes
new weights.

May know vLLM, the policy's prompt and the shared records; nothing of rewards, advantages or the
learner. `RolloutEngine` is a plain class (tests drive it without Ray); `cluster` makes a Ray actor
of it, and remote_rollout.py has the driver's end of that actor."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from PIL.Image import Image

from actors.engine_weights import SWAP_TIMEOUT_S, EngineWeights
from actors.gpu_share import hide_others, turn
from actors.vllm_engine import (
    mean_gap,
    one_line,
    request_seed,
    rollout_engine_args,
    start_engine,
    within,
)
from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.policy.families import check_engine
from geoagent_rl.policy.prompt import (
    EncodedPrompt,
    banned_ids,
    encode,
    end_id,
    image_budget,
    load_processor,
    probe_ids,
    prompt_text,
)
from geoagent_rl.types import InfraError, PolicyVersion, Prompt, Rollout, Sampling, UserError

BAN = -100.0  # logit bias: in float32 the banned tokens' share of the softmax is below 1e-30
TOGETHER_S = 0.02
BROKEN = -1  # version number of an engine whose swap failed
# Nats, on average over the probe's tokens: two engines' kernels, not two policies. Single tokens
# say nothing in bfloat16, whose logits are rounded to steps of 0.125 from 16 on: two attention
# kernels under SmolLM2-135M differ by 0.03 to 0.05 on average and by up to 0.37 at one token; vLLM
# and the learner under a random 3B on an H100 by 0.08 to 0.13, as much as a step moves it. So the
# probe only tells a wrong policy; which weights are held is compared number by number (`take`). The
# gap belongs to the weights: a false alarm would come again in every engine and every life.
PROBE_TOLERANCE = {"float32": 2e-3, "bfloat16": 0.2}


class RolloutEngine:
    """One policy in one vLLM engine. Every method but `start` needs a started engine."""

    def __init__(
        self,
        config: Config,
        model: str,
        version: int = 0,
        store: Callable[[EncodedPrompt], Any] | None = None,
    ) -> None:
        """`model` is the checkpoint directory that holds policy version `version` (or, for
        adapters, their base). store: puts a processed picture where the learner can fetch it and
        returns what stands for it; None: the learner processes pictures itself.
        """
        self.store = store
        self.config = config
        self.model = model
        self.version = PolicyVersion(version, "checkpoint", model)
        self.weights = EngineWeights(config, model)
        self.engine: Any = None
        self.held = ExitStack()  # what ends with the engine
        self.probe: tuple[float, ...] = ()  # the engine's own log-probabilities of the probe, now
        self.broken_by = 0  # the version whose swap failed
        self.in_flight = 0
        self.asleep = False
        self.idle = asyncio.Event()  # no request in the engine
        self.open = asyncio.Event()  # no swap under way
        self.idle.set()
        self.open.set()

    async def start(self, further_gpus: Sequence[str] = ()) -> float:
        """Start vLLM; return seconds. Blocks this process's event loop meanwhile (the engine must
        own it).

        further_gpus: beside the first, where the engine has a share of several (placement.py)."""
        begin = time.monotonic()
        hide_others(self.config.rollout.gpus_per_engine, further_gpus)
        self.processor = processor = load_processor(self.model)
        check_engine(processor.family, self.config)
        self.tokenizer = processor.tokenizer
        policy = self.config.policy
        text = prompt_text(processor, policy.system_prompt, policy.user_prompt)
        self.unexpanded_ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        self.bans = {token: BAN for token in banned_ids(processor)}
        self.end = end_id(processor)
        budget = image_budget(processor, self.config.policy.max_pixels)
        with turn(self.config.rollout.gpus_per_engine):
            args = rollout_engine_args(self.config, self.model, budget)
            self.engine = start_engine(args, self.held)
        await self.weights.begin(self.engine)
        self.probe = await self.probe_logprobs()
        return time.monotonic() - begin

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Rollout]:
        """Yield the completions of `prompt`, each as it finishes, all by the version that is
        current at submission.

        They do not depend on the order or the size of the batch, up to the rounding of the kernels.
        Raises BadImage (UserError) for a broken picture, InfraError when the engine fails or takes
        longer than rollout.timeout_s."""
        async for finished in self.generate_lists(prompt, sampling):
            for rollout in finished:
                yield rollout

    async def generate_lists(
        self, prompt: Prompt, sampling: Sampling
    ) -> AsyncIterator[list[Rollout]]:
        """Do what `generate` does in fewer messages: completions that end within TOGETHER_S of each
        other come as one list."""
        deadline = time.monotonic() + self.config.rollout.timeout_s
        what = f"prompt {prompt.uid}: generation"
        while (
            not self.open.is_set()
        ):  # checked again: another swap may begin before this coroutine continues
            await within(
                self.config.rollout.timeout_s,
                "waiting for the weight swap to end",
                self.open.wait(),
            )
        if self.version.number == BROKEN:
            raise InfraError(
                f"this engine failed to take the weights of version {self.broken_by}; start another one"
            )
        self.in_flight += 1
        self.idle.clear()
        running: set[asyncio.Task[Rollout]] = set()
        picture: asyncio.Task[Any] | None = None  # for the learner, made beside generation
        try:
            submitted = time.monotonic()
            megapixels = self.config.data.max_image_megapixels
            image = await asyncio.to_thread(open_image, prompt.image, megapixels)
            if sampling.learnt and self.store is not None:
                picture = asyncio.create_task(asyncio.to_thread(self.kept_picture, image))
            engine_input = await self.render(prompt, image)
            room = self.config.rollout.max_model_len - len(engine_input["prompt_token_ids"])
            if room < 1:  # vLLM would refuse the request in words of its own
                where, why = f"{prompt.uid} ({prompt.image})", "no token is left for an answer"
                raise UserError(
                    f"{where}: rollout.max_model_len is too small for its prompt: {why}"
                )
            for index in range(sampling.n):
                params = self.sampling_params(prompt.uid, index, sampling, room)
                work = self.complete(prompt.uid, index, dict(engine_input), params, submitted)
                running.add(asyncio.create_task(within(deadline - time.monotonic(), what, work)))
            while running:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                finished, running = await asyncio.wait(running, timeout=TOGETHER_S)
                rollouts = [task.result() for task in finished]
                if picture is not None:
                    rollouts[0] = replace(rollouts[0], picture=await picture)
                    picture = None
                yield rollouts
        finally:
            for task in (*running, *([picture] if picture else [])):
                task.cancel()  # a consumer that went away: vLLM aborts the request
            await asyncio.gather(*running, return_exceptions=True)
            self.in_flight -= 1
            if self.in_flight == 0:
                self.idle.set()

    def kept_picture(self, image: Image) -> Any:
        """Process a picture as the learner takes it, once for all its ranks; return what stands for
        it."""
        assert self.store is not None
        p = self.config.policy
        asked = (p.system_prompt, p.max_pixels, p.user_prompt)
        return self.store(encode(self.processor, image, *asked))

    async def render(self, prompt: Prompt, image: Image) -> dict[str, Any]:
        """Return the prompt as vLLM's engine takes it, image tokens expanded once by vLLM for all
        completions.

        The picture's identity (path, size, time of change) is its key in vLLM's processor cache.
        """
        from vllm.exceptions import VLLMValidationError
        from vllm.renderers.inputs.preprocess import parse_model_prompt

        stat = await asyncio.to_thread(os.stat, prompt.image)
        raw = {
            "prompt_token_ids": self.unexpanded_ids,
            "multi_modal_data": {"image": image},
            "multi_modal_uuids": {"image": [f"{prompt.image}:{stat.st_size}:{stat.st_mtime_ns}"]},
        }
        parsed = parse_model_prompt(self.engine.model_config, raw)
        try:
            rendered: dict[str, Any]
            (rendered,) = await self.engine.renderer.render_cmpl_async([parsed])
        except VLLMValidationError as error:
            where = f"{prompt.uid} ({prompt.image})"
            raise UserError(
                f"{where}: rollout.max_model_len is too small for its prompt: {one_line(error)}"
            ) from None
        return rendered

    def sampling_params(self, uid: str, index: int, sampling: Sampling, room: int) -> Any:
        """Return vLLM's settings of completion number `index`; `room` tokens fit behind the
        prompt.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        c = self.config.rollout
        own = sampling.temperature  # an evaluation's, which samples from the whole distribution
        return SamplingParams(
            temperature=c.temperature if own is None else own,
            top_p=c.top_p if own is None else 1.0,
            top_k=c.top_k if own is None else 0,
            seed=request_seed(sampling.seed, uid, index),
            max_tokens=min(self.config.rollout.max_tokens, room),
            stop_token_ids=[self.end],
            logprobs=0,  # of the sampled token only
            flat_logprobs=True,
            logit_bias=self.bans | dict.fromkeys(sampling.banned, BAN),
            detokenize=False,  # once, at the end
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def complete(
        self, uid: str, index: int, engine_input: Any, params: Any, submitted: float
    ) -> Rollout:
        """Return one completion of a prompt as a Rollout."""
        version = self.version.number
        request_id = f"{uid}/{index}/{params.seed}/{version}"
        output = await self.run(engine_input, params, request_id, self.weights.adapter)
        completion = output.outputs[0]
        if completion.finish_reason not in ("stop", "length"):
            raise InfraError(
                f"prompt {uid}: vLLM ended completion {index} with {completion.finish_reason!r}"
            )
        if self.version.number != version and self.weights.replaces(self.version):
            raise InfraError(
                f"prompt {uid}: the weights changed ({version} to {self.version.number}) under its completion"
            )
        ids = tuple(completion.token_ids)
        return Rollout(
            uid=uid,
            index=index,
            prompt_ids=tuple(output.prompt_token_ids),
            completion_ids=ids,
            logprobs=tuple(completion.logprobs.logprobs),
            text=self.tokenizer.decode(ids, skip_special_tokens=True),
            finish_reason=completion.finish_reason,
            version=version,
            spans={"submitted": submitted, "generated": time.monotonic()},
        )

    async def swap(self, version: PolicyVersion, files: Any = None) -> float:
        """Take the weights of `version`; return seconds. New prompts wait meanwhile.

        Weights change in place once the completions in flight have ended (rollout.swap=merged, and
        whole checkpoints). An adapter that is served goes beside those that are still in use
        (max_staleness + 2 are kept), so nothing waits for it. A version that is there already is
        not loaded again. Either way a completion is the work of one version. Raises InfraError when
        the engine cannot prove that it holds the new weights; it then refuses further work. files:
        those of the version, where it comes without them."""
        begin = time.monotonic()
        self.open.clear()
        try:
            if self.asleep:
                await within(SWAP_TIMEOUT_S, "waking the engine", self.engine.wake_up())
                self.asleep = False
            await self.take(version if files is None else replace(version, files=files))
            await within(SWAP_TIMEOUT_S, "the probe after the swap", self.prove(version))
        except Exception as error:  # failure taxonomy: whatever went wrong, what is held is unknown
            self.version = replace(version, number=BROKEN)
            self.broken_by = version.number
            if isinstance(error, InfraError):
                raise
            raise InfraError(f"the swap to version {version.number}: {one_line(error)}") from error
        finally:
            self.open.set()
        return time.monotonic() - begin

    async def take(self, version: PolicyVersion) -> None:
        """Load the weights of `version` unless they are there, and check every number of them."""
        if self.holds(version):
            return
        if self.weights.replaces(version):
            limit_s = self.config.rollout.timeout_s  # what the completions have
            await within(limit_s, "waiting for completions before the swap", self.idle.wait())
        await self.weights.take(version)

    def holds(self, version: PolicyVersion) -> bool:
        """Say whether `version` is what the engine works with: a skipped step, or the run's start.

        Not by number or path alone: a run that goes back to a checkpoint writes both anew. Only the
        start's checkpoint, number 0, is nobody's to write."""
        mine, asked = ((v.number, v.kind, v.path, v.digest) for v in (self.version, version))
        return mine == asked and (version.digest != "" or version.number == 0)

    async def sleep(self) -> None:
        """Give the GPU's memory to others until the next `swap`: the weights go to main memory,
        cached keys and values are forgotten (level 1; level 2 would drop the weights, which
        adapters need). Prompts wait meanwhile."""
        self.open.clear()
        await within(SWAP_TIMEOUT_S, "waiting for completions before the sleep", self.idle.wait())
        await within(SWAP_TIMEOUT_S, "putting the engine to sleep", self.engine.sleep(level=1))
        self.asleep = True

    async def prove(self, version: PolicyVersion) -> None:
        """Raise unless the guard holds: the engine's log-probabilities of the probe equal the
        learner's and moved if the learner's did."""
        before, learner_before = self.probe, self.version.probe_logprobs
        after = await self.probe_logprobs()
        if version.probe_logprobs:
            gap = mean_gap(after, version.probe_logprobs)
            if gap > PROBE_TOLERANCE[self.config.policy.dtype]:
                raise InfraError(
                    f"after the swap to version {version.number} the engine's log-probabilities of the probe differ "
                    f"from the learner's by {gap:.2g} nats: it does not hold those weights"
                )
        both = learner_before and version.probe_logprobs  # a plain checkpoint comes without
        moved = mean_gap(version.probe_logprobs, learner_before) if both else 0.0
        if moved > 1e-5 and after == before:
            raise InfraError(
                f"the swap to version {version.number} left the engine's log-probabilities of the probe unchanged, "
                f"while the learner's moved by {moved:.2g} nats: the new weights are not bound"
            )
        self.probe, self.version = after, version

    async def probe_logprobs(self) -> tuple[float, ...]:
        """Return log-probabilities (temperature 1) of the probe's tokens after the first, by the
        weights in the engine."""
        from vllm import SamplingParams

        params = SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=0, flat_logprobs=True, detokenize=False
        )
        name = f"probe/{time.monotonic_ns()}"
        prompt = {"prompt_token_ids": list(probe_ids(self.tokenizer))}
        flat = (await self.run(prompt, params, name, self.weights.adapter)).prompt_logprobs
        spans = zip(flat.start_indices, flat.end_indices, strict=True)
        return tuple(flat.logprobs[start] for start, end in spans if end > start)

    async def run(self, prompt: Any, params: Any, request_id: str, adapter: Any) -> Any:
        """Return the one, final output of a request (see RequestOutputKind.FINAL_ONLY)."""
        outputs = [
            output
            async for output in self.engine.generate(
                prompt, params, request_id, lora_request=adapter
            )
        ]
        return outputs[-1]

    async def check(self) -> None:
        """Make one short request. Raises InfraError when the engine is dead, hung or without valid
        weights. A swap under way has limits and a proof of its own, and may have to wait for long
        completions."""
        if not self.open.is_set():
            return
        if self.version.number == BROKEN:
            raise InfraError(f"this engine failed to take the weights of version {self.broken_by}")
        self.in_flight += 1  # a swap waits for it
        self.idle.clear()
        try:
            await within(SWAP_TIMEOUT_S, "the engine's health check", self.probe_logprobs())
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self.idle.set()

    async def stop(self) -> None:
        """End the engine's processes. Idempotent."""
        self.held.close()
