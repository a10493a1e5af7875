"""The commands of `dicom-worker`, one module per subject. Heavy imports happen inside the commands."""
