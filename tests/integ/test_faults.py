# SPDX-License-Identifier: Apache-2.0
"""Every fault of tests/chaos once, under load, with certificates that live 20 s and ten changes of configuration a second. The long form is `make chaos`."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

from chaos import at_once, one_round  # noqa: E402
from faults import FAULTS  # noqa: E402
from held import held, leaked  # noqa: E402
from world import World  # noqa: E402


def test_no_fault_costs_a_get_repeats_a_post_or_changes_a_byte(net, tmp_path):
    world, before = World(net, tmp_path), None
    try:
        world.good_now(20)
        for number, fault in enumerate(FAULTS):
            one_round(world, fault, int(os.environ.get("WEFT_SEED", "1")), number)
            before = before or held(world)  # the first round is without a fault
        one_round(world, FAULTS[0], 1, 1000)
        print(leaked(world, before))
    finally:
        world.close()


@pytest.mark.plain("time and memory")
def test_all_at_once_costs_no_get_and_leaves_nothing_behind(net, tmp_path):
    """Certificates renewed every 2 s, ten changes a second, one fault upon the other, streams open, under one load. The long form lasts five minutes."""
    world = World(net, tmp_path, lifetime_s=4)
    try:
        world.good_now(20)
        one_round(world, FAULTS[0], 1, 0)
        before = held(world)
        at_once(world, int(os.environ.get("WEFT_SEED", "1")), 15 / 60)
        one_round(world, FAULTS[0], 1, 1)
        print(leaked(world, before))
    finally:
        world.close()
