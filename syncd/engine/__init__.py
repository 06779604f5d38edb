"""One pass over a link: observe, diff, plan, guard, apply, record. Knows the core and the ports, no HTTP and no SQL."""
