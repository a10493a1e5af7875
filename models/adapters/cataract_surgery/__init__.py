"""Cataract surgery: reasoning about a scene, and an instruction for a resident."""
