"""Grafts: put a vision tower into a multimodal LLM, fine-tune it, ask it."""
