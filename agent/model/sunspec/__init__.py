"""SunSpec register tables with pure encode and decode."""
