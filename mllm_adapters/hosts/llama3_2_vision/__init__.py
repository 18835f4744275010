"""The host Llama 3.2 Vision."""
