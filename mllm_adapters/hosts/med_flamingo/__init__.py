"""The host Med-Flamingo."""
