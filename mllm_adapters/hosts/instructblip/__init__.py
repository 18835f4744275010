"""The host InstructBLIP."""
