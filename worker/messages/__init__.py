"""Messages to systems that do not speak DICOM: FHIR R4, HL7 v2 and CloudEvents, written here and sent here."""
