"""`sterna`: the operator's command."""
