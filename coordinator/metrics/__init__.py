"""What the coordinator tells Prometheus."""
