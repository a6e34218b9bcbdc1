"""Pure decisions: feasibility, windows, planning, the migration table."""
