"""The host InternVL."""
