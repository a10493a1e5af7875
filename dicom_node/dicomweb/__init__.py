"""DICOMweb (PS3.18) without a web framework: media types, multipart, JSON, matching, frames, and a STOW-RS sender."""
