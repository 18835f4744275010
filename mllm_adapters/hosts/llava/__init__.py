"""The host LLaVA."""
