"""Solid-organ injury and haemorrhage on abdominal CT."""
