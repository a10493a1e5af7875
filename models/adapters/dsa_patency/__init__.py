"""Vessel patency on XA runs: patent or blocked."""
