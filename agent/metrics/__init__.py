"""What the agent tells Prometheus: the families, the text, the port. It reads, and changes nothing."""
