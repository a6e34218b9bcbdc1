"""Generated from proto/sterna/v1 by scripts/gen-protos."""
