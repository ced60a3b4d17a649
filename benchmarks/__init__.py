"""Measurements against real servers; `make bench` runs them."""
