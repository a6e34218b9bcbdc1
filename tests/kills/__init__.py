"""Kills by the thousand: a fleet of the shipped daemons that is never at rest, and whoever may die in it."""
