"""InternVL in its makers' own layout."""
