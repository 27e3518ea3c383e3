"""A pytest plugin (`-p support.counted_passes`): the clock of pass_clock.py for a whole session."""

import pytest

from support.pass_clock import PassClock

PassClock(pytest.MonkeyPatch())
