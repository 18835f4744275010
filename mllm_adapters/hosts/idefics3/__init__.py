"""The host Idefics3."""
