"""The same kills on a machine: what a killed run leaves on a disk of its own, the next one heals.

SLIPWAY_KILLS and SLIPWAY_SEED are those of test_killed. The moments are spread over what the run of an undisturbed
machine took: five minutes where it is emulated.
"""

from __future__ import annotations

import pytest

from tests.e2e._machine import answers, oom, settled
from tests.e2e.conftest import MakeHost
from tests.e2e.test_killed import FIRST_RUN, LATER_RUN, kill_again_and_again, same, state

pytestmark = [pytest.mark.story, pytest.mark.hours]


def test_an_apply_killed_at_random_moments_converges_on_a_machine(make_host: MakeHost) -> None:
    """One machine: deployed at once, then taken back to where it was bare, and killed again and again."""
    host = make_host("killedvm", "debian13", machine=True)
    host.settings(apps__notes__watch=1, apps__notes__keep_warm=0)
    host.keep("bare")
    first = host.deploy().seconds * 0.8
    undisturbed = state(host)
    host.go_back("bare")
    kill_again_and_again(host, first, first * LATER_RUN / FIRST_RUN)
    assert answers(host) == host.release()
    same(undisturbed, state(host))
    assert oom(host) == ""
    settled(host)
    host.verify()
