"""A site in closed loop: the production decision, the simulated plant and GPU, meters that lag."""
