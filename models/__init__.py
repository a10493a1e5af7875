"""Machine learning: adapters, rendering, engines, confidence. Only `models.engines` and `models.weights` import torch."""
