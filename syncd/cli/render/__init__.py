"""Values in, blocks out: what a person reads. Pure."""
