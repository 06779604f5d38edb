"""What the outside may see of syncd: logs without secrets, metrics, and the clock everything runs by."""
