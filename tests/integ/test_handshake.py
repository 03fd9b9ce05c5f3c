# SPDX-License-Identifier: Apache-2.0
"""What a full handshake costs, measured beside a bare OpenSSL program in the same process."""

import json
import subprocess

import pytest
from conftest import weft_program


@pytest.mark.plain("CPU time")
def test_a_full_handshake_costs_no_more_than_a_tenth_above_a_bare_openssl_programs():
    """The median of several rounds, taken in turns; another load on the machine in just one of the two would be seen as a difference: three tries."""
    seen = []
    for _ in range(3):
        r = json.loads(subprocess.run([weft_program("handshake"), "11"], check=True, capture_output=True, text=True).stdout)
        seen.append(r["ratio"])
        if r["ratio"] <= 1.1:
            return
    raise AssertionError(seen)
