"""DICOM only: receiving, decoding, writing and sending. No database, queue, web framework or torch in here."""
