"""`sterna-power`: root's few verbs. Standard library only."""
