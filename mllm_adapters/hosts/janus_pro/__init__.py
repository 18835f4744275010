"""The host Janus-Pro."""
