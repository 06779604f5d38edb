"""The decisions of syncd, without any I/O: no clock, no network, no SQL, no logging."""
