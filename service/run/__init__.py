"""One turn's worker: beginning, middle and end of a turn, synchronous, in one thread."""
