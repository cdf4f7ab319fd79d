"""Pictures as the policy takes them: decoded and processed once, by the engine as their prompt
starts or else here; looked at once for all samples and passes of a call.

May know the policy and the pictures' files; nothing of rewards, DeepSpeed or Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.grpo.batching import to_device
from geoagent_rl.policy.model import Policy
from geoagent_rl.policy.prompt import EncodedPrompt, Processor, encode

Fetch = Callable[[Any], EncodedPrompt | None]
KEPT = 128  # encoded pictures; a group's samples and later epochs share them


class Pictures:
    """The pictures of one learner rank."""

    def __init__(
        self, config: Config, processor: Processor, policy: Policy, fetch: Fetch = lambda sent: sent
    ) -> None:
        """fetch: makes a picture of what stands for it in a group; None where that is lost."""
        self.config, self.processor, self.policy = config, processor, policy
        self.fetch = fetch
        self.kept: dict[str, EncodedPrompt] = {}
        self.sent: dict[str, Any] = {}  # what stands for pictures that engines have processed

    def encoded(self, image: str) -> EncodedPrompt:
        """Return pixels and prompt ids of an image file; the KEPT most recently used stay in
        memory.

        Raises BadImage (UserError) for a file that cannot be decoded."""
        sent, prompt = self.sent.pop(image, None), self.kept.pop(image, None)
        if prompt is None and sent is not None:
            prompt = self.fetch(sent)
        if prompt is None:
            picture = open_image(image, self.config.data.max_image_megapixels)
            p = self.config.policy
            asked = (p.system_prompt, p.max_pixels, p.user_prompt)
            prompt = encode(self.processor, picture, *asked)
        self.kept[image] = prompt
        while len(self.kept) > KEPT:
            self.kept.pop(next(iter(self.kept)))
        return prompt

    def look(
        self, images: Sequence[str], device: torch.device
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return grids [n, 3], on the CPU, and frozen vision features [tokens, W] of n images, on
        `device`.
        """
        encoded = [self.encoded(image) for image in images]
        grids = torch.cat([e.image_grid_thw for e in encoded])
        pixels = to_device(torch.cat([e.pixel_values for e in encoded]), device)
        return grids, self.policy.image_features(pixels, grids)
