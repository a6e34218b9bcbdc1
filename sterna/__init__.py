"""What both daemons share: units, errors, clock, config, log, notify, supervise, identity."""
