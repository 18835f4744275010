"""The four-option fundus benchmark: cases, scores, statistics, reports."""
