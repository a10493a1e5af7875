"""Pages for those who run the daemon: pipeline, destinations, failures, adapters, routes."""
