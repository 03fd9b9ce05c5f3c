# SPDX-License-Identifier: Apache-2.0
"""The test certificates are what they say: openssl accepts the good one, strictly, and each wrong one is wrong in its own way."""
import subprocess
import warnings

import pytest

from harness import pki

ca = pki.Authority("weft.test")


def verify(paths, *options):
    cert, _, roots = paths
    done = subprocess.run(["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *options, "-CAfile", roots,
                           "-untrusted", cert, cert], capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def test_a_good_leaf_is_accepted(tmp_path):
    ok, text = verify(ca.leaf("shop", "orders").write(tmp_path, "orders"))
    assert ok, text


@pytest.mark.parametrize("name", ["expired", "not_yet_valid", "wrong_eku", "other_authority", "self_signed", "sha1"])
def test_what_any_verifier_refuses_is_refused(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ok, _ = verify(pki.evil(name, ca).write(tmp_path, name), "-auth_level", "2")
    assert not ok


@pytest.mark.parametrize("name", ["two_uris", "nul_in_uri", "no_eku", "other_trust_domain", "dns_beside_uri"])
def test_what_only_a_mesh_refuses_passes_a_plain_verifier(tmp_path, name):
    ok, text = verify(pki.evil(name, ca).write(tmp_path, name))
    assert ok, text
