"""The gRPC session with the coordinator."""
