"""Readers: other people's data sets in, a manifest out."""
