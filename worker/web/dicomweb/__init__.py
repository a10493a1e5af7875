"""The node's own store over DICOMweb (PS3.18): QIDO-RS, WADO-RS and STOW-RS below /dicom-web."""
