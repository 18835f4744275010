"""Mini-Gemini."""
