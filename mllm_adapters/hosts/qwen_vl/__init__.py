"""Qwen-VL."""
