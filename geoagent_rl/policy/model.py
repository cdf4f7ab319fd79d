"""The policy network: a vision-language model of any family (families/), tiny or real, with LoRA on
the language model. Loading, log-probabilities, saving.

The vision tower is frozen: its features are computed once for an image and shared by all sequences
and passes that show it. The KL reference is the same network with the adapter switched off. May
know nothing of DeepSpeed or Ray; `gather` arguments let a sharded learner bring parameters
together."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from geoagent_rl.files import directory_at_once
from geoagent_rl.grpo.batching import MicroBatch
from geoagent_rl.grpo.logprobs import selective_logprobs
from geoagent_rl.policy.checkpoint import checkpoint_dir
from geoagent_rl.policy.digest import weights_digest
from geoagent_rl.policy.families import family_named, family_of
from geoagent_rl.policy.families.family import Family
from geoagent_rl.policy.lora import merged_weight
from geoagent_rl.policy.rows import Mask
from geoagent_rl.types import UserError

ADAPTER_CONFIG, ADAPTER_TENSORS = "adapter_config.json", "adapter_model.safetensors"

Gather = Callable[[list[nn.Parameter]], contextlib.AbstractContextManager[Any]]


class Policy(nn.Module):
    """A network (with or without LoRA) that answers one question: how likely are these
    completions?
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.family = family_named(self.network.config.model_type, "the policy")
        self.lora_layers = tuple(m for m in model.modules() if isinstance(m, LoraLayer))

    @property
    def network(self) -> Any:
        """Return the Hugging Face model itself, LoRA layers in place."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @contextlib.contextmanager
    def adapter_off(self) -> Iterator[None]:
        """Yield the base model for a while. (PEFT's own context manager inspects all layers each
        time: 15 ms.)
        """
        for layer in self.lora_layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.lora_layers:
                layer.enable_adapters(True)

    @contextlib.contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Yield the policy as an engine computes it, whole, and then be as before."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def image_features(self, pixel_values: Tensor, image_grid_thw: Tensor) -> tuple[Tensor, ...]:
        """Return features of each image, [tokens of the image, W]. pixel_values: all images' rows;
        grid: [images, 3], on the CPU.
        """
        return self.family.image_features(self.network, pixel_values, image_grid_thw)

    def position_ids(self, batch: MicroBatch, image_grid_thw: Tensor | None = None) -> Tensor:
        """Return rotary positions [R, L] or [axes, R, L] on the CPU. image_grid_thw: [images, 3];
        None: no images. Both must be on the CPU."""
        return self.family.position_ids(self.network, batch, image_grid_thw)

    def mask(self, batch: MicroBatch, positions: Tensor, flex: bool = False) -> Mask:
        """Return which tokens see which, as `forward` takes it. flex: for flex attention.

        batch and positions are on the network's device."""
        family, network = self.family, self.network
        if flex:
            return family.blocks(network.config, batch, positions)
        return family.mask(network.config, batch, positions, network.dtype)

    def forward(
        self,
        batch: MicroBatch,
        features: Sequence[Tensor],
        position_ids: Tensor | None,
        temperature: float = 1.0,
        banned: Tensor | None = None,
        mask: Mask = None,
        reference: bool = False,
        entropy: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return log p(token) of the completions, [B, T] float32, 0.0 on padding; and their entropy
        where it is asked for, detached.

        features: of the caller's images, which the batch's blocks refer to; none, and no positions,
        for texts without images on a CPU. mask: `mask` of the batch; None for rows of one sequence
        where image tokens are causal. reference: with the adapter off. Reads nothing back from the
        device."""
        if mask is None and not (batch.plain and (self.family.causal or not features)):
            raise ValueError("rows of several completions, and images not causal, need a mask")
        network = self.network
        more: dict[str, Any] = {}
        shown = [features[block.image] for block in batch.blocks] if features else []
        with self.adapter_off() if reference else contextlib.nullcontext():
            inputs = network.get_input_embeddings()(batch.input_ids)
            if shown:
                values = torch.cat(shown).to(inputs.dtype)
                inputs, more = self.family.embed(inputs, values, batch)
            if position_ids is None:
                position_ids = self.position_ids(batch)
            hidden = network.model.language_model(
                inputs_embeds=inputs,
                attention_mask=mask,
                position_ids=position_ids,
                use_cache=False,
                **more,
            ).last_hidden_state
            logprobs, entropies = selective_logprobs(
                hidden.flatten(0, 1).index_select(0, batch.places),
                network.lm_head,
                batch.targets.flatten().index_select(0, batch.slots),
                network.config.text_config.vocab_size,
                temperature,
                banned,
                entropy=entropy,
            )
        found = None if entropies is None else self.in_slots(entropies, batch)
        return self.in_slots(logprobs, batch), found

    def in_slots(self, values: Tensor, batch: MicroBatch) -> Tensor:
        """Turn [N] into [B, T], 0.0 on padding."""
        empty = torch.zeros(batch.targets.numel(), device=values.device)
        return empty.index_copy(0, batch.slots, values).view(batch.targets.shape)

    def text_logprobs(self, ids: Sequence[int]) -> Tensor:
        """Return log p(ids[i] | ids[:i]) for i >= 1 of a text without images, at temperature 1, no
        bans; float32."""
        device = self.network.lm_head.weight.device
        tokens = torch.tensor([list(ids)], device=device)
        with torch.no_grad(), self.without_dropout():
            hidden = self.network.model(input_ids=tokens, use_cache=False).last_hidden_state
            vocabulary = self.network.config.text_config.vocab_size
            return selective_logprobs(
                hidden[0, :-1], self.network.lm_head, tokens[0, 1:], vocabulary
            )[0]


def load_network(model_dir: str, dtype: str = "float32") -> Any:
    """Return a checkpoint, directory or hub name, in transformers' class of its family. UserError
    if it cannot be found or its family is not supported."""
    family_of(model_dir)
    try:
        return AutoModelForImageTextToText.from_pretrained(model_dir, dtype=getattr(torch, dtype))
    except OSError as error:
        raise UserError(f"no policy model {model_dir}: {str(error).splitlines()[0]}") from None


def load_policy(
    model_dir: str,
    dtype: str = "float32",
    lora: tuple[int, int] | None = None,
    gradient_checkpointing: bool = False,
    seed: int = 0,
    lora_dropout: float = 0.0,
) -> Policy:
    """Load any supported model; lora=(rank, alpha) adds a fresh adapter (B = 0: the policy equals
    the base at first). lora_dropout: in training mode, the share of its inputs that it does not
    see.

    With LoRA only the adapter trains; without, everything but the vision tower. The adapter is
    initialised from `seed` without touching the global random state."""
    network = load_network(model_dir, dtype)
    family = family_named(network.config.model_type, model_dir)
    for name in family.vision_modules:
        getattr(network.model, name).requires_grad_(False)
    if gradient_checkpointing:
        network.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    if lora is None:
        return Policy(network)
    config = LoraConfig(
        r=lora[0],
        lora_alpha=lora[1],
        lora_dropout=lora_dropout,
        target_modules=family.lora_targets,
        exclude_modules=family.lora_excluded,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Policy(get_peft_model(network, config))


def everything_here(_: list[nn.Parameter]) -> contextlib.AbstractContextManager[Any]:
    """Be the `gather` of a learner whose parameters are not sharded."""
    return contextlib.nullcontext()


def merged_tensors(
    policy: Policy, gather: Gather = everything_here
) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor) of the checkpoint that equals base + adapter: W + scaling * B A, nothing
    changed in place.

    Tied output weights are left out, as in a checkpoint. Names are those of the network's modules.
    """
    network = policy.network
    tied = network.config.tie_word_embeddings
    lora: dict[str, Any] = {  # PEFT does not annotate their members
        name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)
    }
    for name, parameter in network.named_parameters():
        if ".lora_" in name or (tied and name == "lm_head.weight"):
            continue
        owner = name.removesuffix(".weight").removesuffix(".base_layer")
        if name.endswith(".base_layer.weight") and owner in lora:
            layer = lora[owner]
            with gather(
                [parameter, *(p for n, p in layer.named_parameters() if ".lora_" in f".{n}")]
            ):
                a, b = (m["default"].weight.detach() for m in (layer.lora_A, layer.lora_B))
                scaling = layer.scaling["default"]
                tensor = merged_weight(parameter.detach(), a, b, scaling)
        else:
            with gather([parameter]):
                tensor = (
                    parameter.detach().clone()
                    if gather is not everything_here
                    else parameter.detach()
                )
        yield name.replace(".base_layer.", "."), tensor


def checkpoint_name(name: str, family: Family, old: bool) -> str:
    """Return the tensor name in the checkpoint of a module name. old: in the names that the hub's
    checkpoints of some families keep."""
    for module, tensor in family.old_names if old else ():
        if name.startswith(module):
            return tensor + name.removeprefix(module)
    return name


def has_old_names(base: Path, family: Family) -> bool:
    """Say whether a checkpoint directory has the family's older names: the tower's tell
    ("visual.…", not "model.visual.…").
    """
    if not family.old_names:
        return False
    _, tower = family.old_names[0]
    index = base / "model.safetensors.index.json"
    if index.exists():
        return any(name.startswith(tower) for name in json.loads(index.read_text())["weight_map"])
    with safe_open(base / "model.safetensors", framework="pt") as file:
        return any(name.startswith(tower) for name in file.keys())


def save_merged(
    policy: Policy,
    base_model: str,
    out_dir: str,
    gather: Gather = everything_here,
    write: bool = True,
) -> str:
    """Write base + adapter as one Hugging Face directory that transformers and vLLM load; the
    policy is untouched. Return the digest of what it wrote, "" where it wrote nothing.

    Whole or absent. Tensor names, configuration, tokenizer and processor are those of the base
    checkpoint. `write` is False on ranks that only take part in gathering. Raises UserError where
    it would replace the base itself."""
    base = checkpoint_dir(base_model)
    if Path(out_dir).resolve() == base.resolve():
        raise UserError(f"{out_dir} is the base checkpoint, which is never written over")
    old = has_old_names(base, policy.family)
    tensors = {}
    for name, tensor in merged_tensors(policy, gather):
        if write:
            tensors[checkpoint_name(name, policy.family, old)] = tensor.cpu().contiguous()
    if not write:
        return ""
    with directory_at_once(Path(out_dir)) as out:
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
        for file in base.iterdir():
            if file.suffix in (".json", ".jinja", ".txt") and "safetensors" not in file.name:
                shutil.copyfile(file, out / file.name)
    return weights_digest(tensors)


def adapter_state(policy: Policy, gather: Gather = everything_here) -> dict[str, Tensor]:
    """Return the adapter's tensors under PEFT's names, on the CPU."""
    with gather([p for n, p in policy.named_parameters() if ".lora_" in n]):
        state = get_peft_model_state_dict(policy.model)
        return {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in state.items()
        }


def adapter_files(policy: Policy, state: Mapping[str, Tensor]) -> dict[str, NDArray[np.uint8]]:
    """Return the files of a PEFT adapter directory, the form that vLLM takes too: name to bytes.

    state: an `adapter_state` of the policy, in the dtype that the files are to have."""
    adapters: Any = policy.model.peft_config
    with tempfile.TemporaryDirectory() as folder:
        adapters["default"].save_pretrained(folder)
        config = Path(folder, ADAPTER_CONFIG).read_bytes()
    tensors = save(dict(state), metadata={"format": "pt"})
    found = {ADAPTER_CONFIG: config, ADAPTER_TENSORS: tensors}
    return {name: np.frombuffer(data, np.uint8) for name, data in found.items()}


def save_adapter(policy: Policy, state: Mapping[str, Tensor], out: Path) -> None:
    """Write an `adapter_state` of the policy as a PEFT adapter directory."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in adapter_files(policy, state).items():
        (out / name).write_bytes(data.data)


def load_adapter(policy: Policy, adapter_dir: str, gather: Gather = everything_here) -> None:
    """Put a saved adapter into the policy's own, in place."""
    state = load_file(Path(adapter_dir) / ADAPTER_TENSORS)
    with gather([p for n, p in policy.named_parameters() if ".lora_" in n]):
        set_peft_model_state_dict(policy.model, state)
