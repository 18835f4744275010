"""The host Qwen3-VL."""
