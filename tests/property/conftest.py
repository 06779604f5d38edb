"""Settings of hypothesis for all properties."""

from __future__ import annotations

from hypothesis import settings

# No deadline: the machine is shared, and no property is about time.
settings.register_profile("syncd", deadline=None, print_blob=True)
settings.load_profile("syncd")
