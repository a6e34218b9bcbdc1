"""Events and current-state tables in one database."""
