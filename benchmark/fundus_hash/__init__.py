"""Fundus hash."""

from benchmark.fundus_hash.hashing import THRESHOLD, distances, fundus_hashes

__all__ = ["THRESHOLD", "distances", "fundus_hashes"]
