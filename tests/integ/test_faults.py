# SPDX-License-Identifier: Apache-2.0
"""Every fault of tests/chaos once, under load, with certificates that live 20 s and ten changes of configuration a second. The long form is `make chaos`."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

from chaos import one_round, settle  # noqa: E402
from faults import FAULTS  # noqa: E402
from world import World  # noqa: E402


def test_no_fault_costs_a_get_repeats_a_post_or_changes_a_byte(net, tmp_path):
    world = World(net, tmp_path)
    try:
        world.good_now(20)
        for number, fault in enumerate(FAULTS):
            one_round(world, fault, int(os.environ.get("WEFT_SEED", "1")), number)
        before = settle(world)
        one_round(world, FAULTS[0], 1, 1000)
        assert settle(world)[0] <= before[0] + 8, (before, settle(world))
    finally:
        world.close()


@pytest.mark.plain("memory")
def test_after_faults_and_load_the_callers_sidecar_holds_what_it_held(net, tmp_path):
    world = World(net, tmp_path)
    quiet = [f for f in FAULTS if f.name in ("nothing", "app_killed", "worker_killed", "weftd_killed")]
    try:
        world.good_now(20)
        one_round(world, quiet[0], 1, 0)
        before = settle(world)
        for number, fault in enumerate(quiet * 2):
            one_round(world, fault, 2, number + 1)
        after = settle(world)
        assert after[0] <= before[0] + 8 and after[1] <= before[1] * 1.3 + 512, (before, after)
    finally:
        world.close()
