"""Settings of hypothesis for all properties."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

# No deadline: the machine is shared, and no property is about time.
settings.register_profile("syncd", deadline=None, print_blob=True)
# mutmut asks whether a test breaks, not for the smallest example: shrinking would only run into its time limit.
settings.register_profile("mutation", settings.get_profile("syncd"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutation" if "MUTANT_UNDER_TEST" in os.environ else "syncd")
