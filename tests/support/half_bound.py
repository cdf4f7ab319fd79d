"""A vLLM worker that can bind half of what it loads, for the guard after a swap."""

from __future__ import annotations

from actors.vllm_worker import PublishedWeights


class HalfBound(PublishedWeights):
    def forget_half_of_adapter(self) -> None:
        """Every second LoRA layer loses its adapter."""
        for module in list(self.get_model().lora_manager.modules.values())[::2]:
            for buffer in module.lora_b_stacked:
                buffer.zero_()

    def keep_one_old_layer(self, path: str) -> None:
        """Reloads as `take_weights` does, but for one layer, which keeps what it had."""
        name, layer = next(
            (name, layer)
            for name, layer in self.get_model().named_modules()
            if "layers.1.mlp.down_proj" in name and "cpu_linear" in vars(layer)
        )
        kernel, weight = layer.cpu_linear, layer.weight.data.clone()
        self.take_weights(path)
        layer = self.get_model().get_submodule(name)
        layer.cpu_linear = kernel
        layer.weight.data.copy_(weight)  # empty where the kernel has a copy of its own
