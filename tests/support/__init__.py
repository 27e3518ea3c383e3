"""Helpers of the tests: cases, records, references, workers and a browser."""
