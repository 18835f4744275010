"""Med-Flamingo."""
