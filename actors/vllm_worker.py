"""What the rollout engine adds to vLLM's workers (vLLM's `worker_extension_cls`). May know vLLM
only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from actors.merged_weights import MergedWeights


class PublishedWeights:
    """Mixed into vLLM's worker class, in the process that holds the model."""

    if TYPE_CHECKING:  # what vLLM's worker class has

        def reload_weights(self, weights_path: str) -> None:
            """Load all weights from a directory."""

        def get_model(self) -> nn.Module:
            """Return the model that runs here."""
            ...

    merged_weights: MergedWeights  # from `keep_base` on

    def take_weights(self, path: str) -> None:
        """Reload all weights from a checkpoint directory, in place.

        vLLM 0.32's reload misses an output layer that is tied to the embeddings: on CPUs where it
        keeps a packed copy for oneDNN (AVX512), that copy stays the old one. So it is packed again.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        self.reload_weights(weights_path=path)
        for layer in self.get_model().modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)

    def keep_base(self, path: str) -> str:
        """Keep the base that adapters are merged into; return what is wrong with it, "" when the
        model holds the checkpoint `path` whole."""
        from actors.merged_weights import MergedWeights

        problem = self.weights_problem(path)
        if not problem:
            self.merged_weights = MergedWeights(self.get_model(), path)
        return problem

    def merge(self, path: str) -> str:
        """See MergedWeights.merge."""
        return self.merged_weights.merge(path)

    def weights_problem(self, path: str) -> str:
        """See bound_weights.weights_problem."""
        from actors.bound_weights import weights_problem

        return weights_problem(self.get_model(), path)

    def adapter_problem(self, lora_id: int, path: str) -> str:
        """See bound_weights.adapter_problem."""
        from actors.bound_weights import adapter_problem

        return adapter_problem(self.get_model(), lora_id, path)
