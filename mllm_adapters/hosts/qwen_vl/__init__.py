"""The host Qwen-VL."""
