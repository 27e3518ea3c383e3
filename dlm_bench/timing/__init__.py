"""Timing a decode: whole, or pass by pass and integrated over the schedule."""
