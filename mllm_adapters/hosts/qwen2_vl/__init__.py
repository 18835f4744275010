"""The host Qwen2-VL."""
