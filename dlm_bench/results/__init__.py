"""Measured records and the append-only file that keeps them."""
