"""`make figures`: what the code is made of, counted, and how deep a pass calls, measured."""
