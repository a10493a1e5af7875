"""How fast a node takes images in: ours, pynetdicom's storescp, dcmtk's storescp and Orthanc, side by side."""
