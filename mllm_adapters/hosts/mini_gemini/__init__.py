"""The host Mini-Gemini."""
