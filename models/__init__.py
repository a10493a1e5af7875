"""Machine learning: adapters, rendering, engines, confidence; only `models.engines` and `models.weights` use torch."""
