"""The audit trail: who saw which patient's data, who decided what, who may log in (DICOM PS3.15 A.5)."""
