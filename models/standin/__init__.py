"""The stand-in: a tiny model of MedGemma's architecture, taught on drawn phantoms, shipped under `checkpoint`."""
