"""Captions of X-ray and MR images: one clinical description in words, in the language that is asked for."""
