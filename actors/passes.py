"""The passes over one micro-batch: reference, loss, backward, and the sums that metrics are made
of.

Between two optimizer steps nothing is read back from the device, so a GPU is never waited for. May
know the policy, the objective and deepspeed_engine; nothing of files, rewards or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actors.deepspeed_engine import ShardedModule
from geoagent_rl.config import Config
from geoagent_rl.grpo import loss as objective
from geoagent_rl.grpo.batching import Layout, MicroBatch, Row, collate, to_device
from geoagent_rl.policy.attention import uses_flex
from geoagent_rl.policy.model import Policy
from geoagent_rl.policy.prompt import check_image_tokens
from geoagent_rl.policy.rows import Mask

SUMS = (
    "loss",
    "kl",
    "entropy",
    "clipped",
    "sampler_gap",
    "importance",
    "tokens",
    "sequences",
    "groups",
    "not_finite",
)


@dataclass(frozen=True, slots=True)
class Call:
    """What the micro-batches of one call of the learner have in common.

    grids [n, 3], on the CPU, and features of its `images`; tokens: completion tokens in all
    micro-batches and ranks."""

    images: Sequence[str]
    grids: Tensor
    features: Sequence[Tensor]
    tokens: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """A micro-batch on the device, ready for the policy."""

    batch: MicroBatch
    positions: Tensor
    mask: Mask


class Passes:
    """Forward and backward of micro-batches; `sums` [len(SUMS)] float64 grow until `clear`."""

    def __init__(
        self,
        config: Config,
        kind: str,
        policy: Policy,
        sharded: ShardedModule,
        layout: Layout,
        banned: Sequence[int],
        pad_id: int,
    ) -> None:
        """kind: "sft" or "grpo"; banned: token ids that the sampler cannot produce."""
        self.config, self.kind, self.policy, self.sharded = config, kind, policy, sharded
        self.layout, self.pad_id = layout, pad_id
        self.banned = torch.tensor(banned, device=sharded.device)
        self.clear()

    def clear(self) -> None:
        """Begin the sums of a new step."""
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=self.sharded.device)

    def add(self, **numbers: float) -> None:
        """Add numbers that the host knows to `sums`."""
        for name, number in numbers.items():
            self.sums[SUMS.index(name)] += number

    def inputs(self, rows: Sequence[Row], images: Sequence[str], grids: Tensor | None) -> Inputs:
        """Put rows on the device: all work of the host before a micro-batch."""
        device, network = self.sharded.device, self.policy.network
        image_token = network.config.image_token_id
        here = collate(rows, images, image_token, self.pad_id, self.layout.multiple)
        if grids is not None:
            merge = self.policy.family.merge(network.config)
            for block in here.blocks:
                prompt = here.input_ids[block.row, block.start : block.stop]
                tokens, grid = int((prompt == image_token).sum()), grids[block.image]
                check_image_tokens(images[block.image], tokens, grid, merge)
        positions = to_device(self.policy.position_ids(here, grids), device)
        batch = here.to(device)
        flex = self.layout.packed and uses_flex(network)  # packed rows of a CPU have a mask
        return Inputs(batch, positions, self.policy.mask(batch, positions, flex))

    def learn(self, rows: Sequence[Row], call: Call) -> None:
        """Add the gradient and the sums of one micro-batch of a call."""
        c, sft = self.config.learner, self.kind == "sft"
        inputs = self.inputs(rows, call.images, call.grids)
        sampling = (1.0, None) if sft else (self.config.rollout.temperature, self.banned)
        arguments = (inputs.batch, call.features, inputs.positions, *sampling, inputs.mask)
        reference = None
        if not sft and c.kl_beta > 0:
            with torch.no_grad():
                reference, _ = self.policy(*arguments, reference=True)
        logprobs, entropy = self.sharded.engine(*arguments, entropy=True)
        losses, found = (
            (-logprobs, {})
            if sft
            else objective.grpo_losses(logprobs, inputs.batch, reference, self.config)
        )
        mask, kind = inputs.batch.mask, "dapo" if sft else c.loss
        total = objective.unnormalised_loss(losses, mask, kind, call.tokens)
        self.sharded.backward(total)
        self.count(mask, total.detach(), {**found, "entropy": entropy})

    def count(self, mask: Tensor, total: Tensor, found: dict[str, Tensor]) -> None:
        """Add a micro-batch's loss and its values [B, T] of tokens, weighted by `mask`."""
        sums = {name: (values.detach() * mask).sum() for name, values in found.items()}
        sums |= {"loss": total, "tokens": mask.sum(), "not_finite": ~torch.isfinite(total)}
        places = torch.tensor([SUMS.index(name) for name in sums])
        values = torch.stack([value.double() for value in sums.values()])
        self.sums.index_add_(0, to_device(places, self.sums.device), values)
