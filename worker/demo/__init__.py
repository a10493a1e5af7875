"""`dicom-worker run --profile demo`: the daemon with the stand-in model, a PACS of its own, and studies to send."""
