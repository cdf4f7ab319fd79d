"""What each part of a run's work costs in seconds: the one cost model, of `plan` and of the
simulated cluster (tests/support/simulated_cluster.py).

A part's time is work over the share of the data sheet that is reached, and what is there whatever
the work. Constants: plan/rates.py. May know nothing of schedules: who waits for whom is
plan/schedule.py's, and in the simulation the driver's."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from geoagent_rl.config import Config
from geoagent_rl.plan.gpus import GPU
from geoagent_rl.plan.memory import Lengths, recomputes, sequences
from geoagent_rl.policy.architecture import Architecture

JUDGE_PROMPT_NEW, JUDGE_ANSWER = 120, 12  # tokens of a judge call that no prefix cache has; answer
PACKED_ROWS = 128  # of which a packed row's length is a multiple
NODE = 8  # GPUs that share fast links


@dataclass(frozen=True, slots=True)
class Costs:
    """The seconds of every part of a step for one configuration on one kind of GPU."""

    config: Config
    policy: Architecture
    judge: Architecture
    gpu: GPU
    lengths: Lengths

    # --- an engine -------------------------------------------------------------------------------

    @property
    def flops(self) -> float:
        """Return the data sheet's bf16 operations per second of one GPU."""
        return self.gpu.tflops * 1e12

    @property
    def bandwidth(self) -> float:
        """Return the bytes per second that decoding reads from one GPU's memory."""
        return self.gpu.gbytes_per_s * 1e9 * self.gpu.rates.read

    def engine_token(self, sequences: int, cached: float) -> float:
        """Return the seconds of one decoding step of an engine: a token for each of `sequences`,
        which see `cached` tokens in all."""
        r, rates, dtype = self.config.rollout, self.gpu.rates, self.config.policy.dtype
        gpus, layers = r.tensor_parallel, self.policy.layers
        weights, cache = self.policy.weight_bytes(dtype), cached * self.policy.kv_bytes(dtype)
        fixed = rates.iteration_s + (layers * rates.tensor_parallel_s if gpus > 1 else 0.0)
        if r.swap == "adapter":
            fixed += layers * rates.adapter_s
        return fixed + self.longer(self.policy, weights + cache, sequences, gpus)

    def longer(self, a: Architecture, read: float, sequences: int, gpus: int) -> float:
        """Return the seconds of reading, or of a token's products for each of the sequences,
        whichever is longer."""
        computing = 2 * a.parameters * sequences / (gpus * self.flops * self.gpu.rates.decode)
        return max(read / (gpus * self.bandwidth), computing)

    def engine_prompt(self) -> float:
        """Return the seconds of a new prompt with its picture; its completions share it."""
        work = 2 * self.policy.parameters * self.lengths.prompt
        gpus = self.config.rollout.tensor_parallel
        return work / (gpus * self.flops * self.gpu.rates.prefill) + self.gpu.rates.picture_s

    def decode(self, completions: Sequence[int]) -> float:
        """Return the seconds in which one engine generates completions of these lengths, in this
        order, at most `sequences` at once."""
        ends: list[int] = []
        most = sequences(self.config, self.policy)
        waiting, step, seconds = list(reversed(completions)), 0, 0.0
        produced = 0  # tokens so far of the sequences under way
        while ends or waiting:
            while waiting and len(ends) < most:
                heapq.heappush(ends, step + waiting.pop())
            count, steps = len(ends), ends[0] - step
            cached = count * self.lengths.prompt + produced + count * steps / 2
            seconds += steps * self.engine_token(count, cached)
            produced, step = produced + count * steps, ends[0]
            while ends and ends[0] == step:
                heapq.heappop(ends)
                produced -= produced // count
                count -= 1
        return seconds

    # --- the learner -----------------------------------------------------------------------------

    @property
    def balance(self) -> int:
        """Return the same as policy.rows.attention_balance: the row length at which attention costs
        as much as the linear layers."""
        return self.policy.linear_parameters // self.policy.layers // (2 * self.policy.hidden)

    @property
    def passes(self) -> int:
        """Count passes of a micro-batch: forward, backward, the reference's and recomputed ones."""
        reference = self.config.learner.kl_beta > 0
        return 2 + reference + recomputes(self.config, self.policy)

    def learn(self, load: float, completion: float) -> float:
        """Return the seconds of one rank's products for work of `load` (grpo.balance.cost: tokens,
        their attention included), `completion` tokens of which have logits. The base is frozen."""
        a, reference = self.policy, self.config.learner.kl_beta > 0
        adapter = 2.0 * a.lora_parameters(self.config.policy.lora_rank)
        layers = self.passes * (2.0 * a.linear_parameters + adapter)
        head = (2 + reference) * 2.0 * a.hidden * a.vocab
        return (load * layers + completion * head) / (self.flops * self.gpu.rates.learn)

    def host(self, micro_batches: float) -> float:
        """Return what micro-batches cost whatever their size: launches, masks, small kernels."""
        return micro_batches * self.passes * self.gpu.rates.pass_s

    def look(self, pictures: float) -> float:
        """Return the seconds of the vision tower over one rank's pictures, together."""
        v = self.policy.vision
        patches = v.pixels(self.config.policy.max_pixels) / v.patch**2 if v else 0.0
        return pictures * patches * self.gpu.rates.patch_s

    @property
    def lora_gb(self) -> float:
        """Return GB of an adapter in float32, as gradients are and as it is published."""
        return 4 * self.policy.lora_parameters(self.config.policy.lora_rank) / 1e9

    def reduce(self) -> float:
        """Return the seconds of one all-reduce of the gradients over all ranks."""
        ranks, rates = self.config.learner.ranks, self.gpu.rates
        rate = rates.link_gb_s if ranks <= NODE else rates.network_gb_s
        return 2 * (ranks - 1) / ranks * self.lora_gb / rate

    def optimizer(self) -> float:
        """Return the seconds of the optimizer's step."""
        return self.gpu.rates.optimizer_s

    # --- weights from the learner to the engines -------------------------------------------------

    def publish(self) -> float:
        """Return the seconds of a new adapter to where engines read it."""
        return self.lora_gb / self.gpu.rates.publish_gb_s

    @property
    def weights_gb(self) -> float:
        """Return GB of the policy's weights on one GPU of an engine."""
        whole = self.policy.weight_bytes(self.config.policy.dtype) / 1e9
        return whole / self.config.rollout.tensor_parallel

    def swap(self) -> float:
        """Return the seconds in which an engine reads, checks and proves an adapter. Merging it
        moves the base from main memory twice, once to check (actors/merged_weights.py)."""
        merging = 2 * self.weights_gb / self.gpu.rates.wake_gb_s
        loading = self.lora_gb / self.gpu.rates.load_gb_s
        return loading + (merging if self.config.rollout.swap == "merged" else 0.0)

    def sleep(self) -> float:
        """Return the seconds in which an engine gives its memory away: each of its GPUs copies its
        part of the weights."""
        return self.weights_gb / self.gpu.rates.sleep_gb_s

    def wake(self) -> float:
        """Return the seconds in which an engine takes its memory back."""
        return self.weights_gb / self.gpu.rates.wake_gb_s

    # --- rewards and the driver ------------------------------------------------------------------

    def judge_batch(self, questions: int) -> float:
        """Return the seconds in which one judge answers so many questions at once."""
        j, rates, a = self.config.judge, self.gpu.rates, self.judge
        gpus = j.tensor_parallel
        tokens = questions * JUDGE_PROMPT_NEW
        prefill = 2 * a.parameters * tokens / (gpus * self.flops * rates.prefill)
        read = a.weight_bytes("bfloat16") + tokens * a.kv_bytes("bfloat16")
        fixed = rates.iteration_s + (a.layers * rates.tensor_parallel_s if gpus > 1 else 0.0)
        return prefill + JUDGE_ANSWER * (fixed + self.longer(a, read, questions, gpus))

    def handout(self, completions: float) -> float:
        """Return the seconds of the driver's own work on so many completions."""
        return completions * self.gpu.rates.sample_s
