"""A world in which the engine is driven: both sides, outside writers, lost answers, crashes, and a clock that is ours."""
