"""From what a sensor gives to what a model reads, in integers, each with the same in C: `points` of a radar, `sound`."""
