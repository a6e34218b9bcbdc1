"""A stand-in for a site: plant and meters on Modbus, traces, a trainer."""
