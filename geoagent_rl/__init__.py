"""The method: everything that needs no cluster. Imports no ray, vllm, deepspeed or redis."""
