"""What the agent tells Prometheus."""
