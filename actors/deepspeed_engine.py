"""DeepSpeed as the learner uses it: start, explicit accumulation, one exact step, optimizer state
by parameter name.

Gradients of un-normalised losses accumulate in DeepSpeed ("managed_gradient_accumulation": false:
`backward` only adds, `step` is the boundary). What they are to be divided by is known only at the
step:
- ZeRO 0: the all-reduced gradients are divided, measured, clipped and, if not finite, dropped in a
  hook that torch runs just before AdamW's update. Exact.
- ZeRO 1, 2 and 3: the divisor is the loss scale of that one step, which DeepSpeed divides by before
  it clips.
Below ZeRO 2 gradients are reduced once, at the step; from there on in every backward pass. What
trains, and its gradients, are float32 whatever the frozen rest is.
May know DeepSpeed and torch; nothing of policies, rewards or Ray.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

MOMENTS = ("exp_avg", "exp_avg_sq")
MASTER = "float32"


def start_distributed(
    rank: int, world_size: int, address: str, gpu: bool, timeout_s: float
) -> None:
    """Join the process group. address: "host:port" of rank 0; unused with one rank. Wait at most
    timeout_s.
    """
    if not gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("LOCAL_RANK", "0")  # Ray shows each actor only its own GPU
    os.environ.setdefault("LOCAL_SIZE", str(world_size))
    import deepspeed

    # Its shared-memory all-reduce for CPUs compiles for a minute at the first start and gloo does
    # the same job.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not torch.distributed.is_initialized():
        limit = datetime.timedelta(seconds=timeout_s)
        where = {"store": HashStore()} if world_size == 1 else {"init_method": f"tcp://{address}"}
        torch.distributed.init_process_group(
            "nccl" if gpu else "gloo", rank=rank, world_size=world_size, timeout=limit, **where
        )


def stop_distributed() -> None:
    """Leave the process group, where there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def all_sum(values: Tensor) -> list[float]:
    """Return the sums over all ranks."""
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total.tolist()


class ShardedModule:
    """A module under DeepSpeed with AdamW over its trainable parameters.

    Gradients of a norm above max_norm are clipped to it, those of a norm above skip_norm make no
    update."""

    def __init__(
        self,
        module: nn.Module,
        stage: int,
        betas: tuple[float, float],
        weight_decay: float,
        max_norm: float,
        skip_norm: float = math.inf,
    ) -> None:
        import deepspeed

        self.stage, self.max_norm, self.skip_norm = stage, max_norm, skip_norm
        self.divisor, self.discard = 1.0, False  # of the step under way
        self.norm, self.applied = 0.0, False
        self.trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        # The rate is set at each step.
        optimizer = torch.optim.AdamW(
            self.trainable.values(), lr=0.0, betas=betas, weight_decay=weight_decay
        )
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,
            "zero_optimization": {
                "stage": stage,
                "overlap_comm": False,
                # all gradients at once; DeepSpeed's own size is three times a 7B's adapter
                "reduce_bucket_size": sum(p.numel() for p in self.trainable.values()),
            },
            "gradient_clipping": max_norm if stage else 0.0,
            "communication_data_type": "fp32",
            "steps_per_print": 10**9,
        }
        self.engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
        self.adamw = optimizer
        self.adamw.register_step_pre_hook(self.before_update)
        self.world_size = torch.distributed.get_world_size()

    @property
    def device(self) -> torch.device:
        """Return where the module is."""
        device: torch.device = self.engine.device
        return device

    def gather(self, parameters: list[nn.Parameter]) -> Any:
        """Return a context in which these parameters are whole on every rank (they are anyway below
        ZeRO 3)."""
        import deepspeed

        return deepspeed.zero.GatheredParameters(parameters, enabled=self.stage == 3)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of an un-normalised loss."""
        self.engine.backward(loss)

    def step(self, lr: float, normaliser: float, discard: bool) -> tuple[bool, float]:
        """Divide the summed gradients of all ranks by `normaliser`, clip, update; forget the
        gradients.

        discard: make no update. Returns (whether the update happened, gradient norm before
        clipping). It does not happen either when the norm is not finite or above skip_norm: weights
        and moments stay as they are."""
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.divisor = normaliser / self.world_size  # DeepSpeed averages over ranks
        if self.stage < 2:  # a rank without samples has none yet, which ZeRO 1 cannot reduce
            for p in self.trainable.values():
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
        self.discard, self.applied = discard, False
        if self.stage == 0:
            self.engine.step()
        else:
            self.engine.optimizer.loss_scale = self.divisor
            try:
                self.engine.step()
            finally:
                self.engine.optimizer.loss_scale = 1.0
            self.norm = float(self.engine.optimizer._global_grad_norm)
        return self.applied, self.norm

    def before_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Judge the step with the reduced gradients in place, just before AdamW looks at them."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.stage == 0:
            for p in parameters:
                if p.grad is not None:
                    p.grad.div_(self.divisor)
            limit = self.max_norm if self.max_norm > 0 else math.inf
            self.norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        else:
            self.norm = float(
                self.engine.optimizer._global_grad_norm
            )  # below 0: DeepSpeed's mark for not finite
        if self.discard or not (0 <= self.norm <= self.skip_norm and self.norm < math.inf):
            for p in parameters:
                p.grad = None  # AdamW passes over it
        else:
            self.applied = True

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("exp_avg.<parameter>", tensor), ...: AdamW's moments and, where ZeRO keeps them,
        the float32 master weights.

        Whole and on the CPU, on every rank (all ranks must ask together). Nothing before the first
        step."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if not self.adamw.state:
            return
        for name, parameter in self.trainable.items():
            found = {}
            for moment in MOMENTS:
                if self.stage == 0:
                    found[moment] = self.adamw.state[parameter][moment]
                else:
                    found[moment] = safe_get_full_optimizer_state(parameter, moment)
            if self.stage:
                found[MASTER] = safe_get_full_fp32_param(parameter)
            yield from (
                (f"{kind}.{name}", t.detach().to("cpu", copy=True)) for kind, t in found.items()
            )

    def set_state(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Put a saved `state` back, also that of another ZeRO stage; `steps` is the number of
        updates it has seen.

        The trainable parameters themselves must hold their saved values already. ZeRO 2 and 3 have
        room for the state only after a first step, which may be one of gradient and rate 0."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for name, parameter in self.trainable.items():
            moments = (
                {m: tensors[f"{m}.{name}"].to(self.device) for m in MOMENTS} if tensors else {}
            )
            if self.stage == 0:
                if moments:
                    self.adamw.state[parameter] = {"step": torch.tensor(0.0), **moments}
                continue
            with self.gather([parameter]):
                value = parameter.detach().clone().float()
            safe_set_full_fp32_param(
                parameter, tensors.get(f"{MASTER}.{name}", value).to(self.device)
            )
            for moment, tensor in moments.items():
                safe_set_full_optimizer_state(parameter, tensor, moment)
        for state in self.adamw.state.values():
            state["step"].fill_(steps)
