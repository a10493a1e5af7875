"""The web pages and the read-only HTTP API. They change nothing: decisions are made with `dicom-worker review`."""
