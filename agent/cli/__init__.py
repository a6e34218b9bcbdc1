"""Commands of `sterna-agent` beside the daemon itself."""
