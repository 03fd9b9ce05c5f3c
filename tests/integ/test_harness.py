# SPDX-License-Identifier: Apache-2.0
"""The harness itself: were it wrong, tests above it could not fail."""

import os
import signal
import subprocess
import sys

import pytest
from harness import netns

ECHO = """
import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, a = s.accept(); c.sendall(c.recv(100)); c.close()
"""


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_hosts_reach_each_other_and_the_wire_shows_it(net, two_hosts, family):
    a, b = two_hosts
    b.start_python(ECHO, 8080)
    b.wait_port(8080)
    wire, other = net.sniff("tcp"), net.sniff("udp")
    s = a.connect(getattr(b, family), 8080)
    s.sendall(b"marker-of-this-run")
    assert s.recv(100) == b"marker-of-this-run"
    assert s.getpeername()[0] == getattr(b, family)
    assert wire.contains(b"marker-of-this-run") and wire.packets() > 4
    assert not other.contains(b"marker-of-this-run")


def test_commands_run_inside_and_as_another_user(two_hosts):
    a, b = two_hosts
    assert a.ip4 in a.run(["ip", "-o", "addr"]).stdout and b.ip4 not in a.run(["ip", "-o", "addr"]).stdout
    assert a.run(["id", "-u"], user=4800).stdout.strip() == "4800"
    with pytest.raises(AssertionError, match="exit 3"):
        a.run(["sh", "-c", "exit 3"])


def test_a_host_without_ipv6_has_none(net):
    assert "inet6" not in net.host("old", ipv6=False).run(["ip", "addr"]).stdout


def test_nothing_is_left_after_an_interrupt():
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom harness import netns\nn = netns.Net(); h = n.host('a')\n" \
           "h.popen(['sleep', '1000'])\nprint(n.id, flush=True)\nimport time; time.sleep(1000)"
    for sig in (signal.SIGINT, signal.SIGTERM):
        p = subprocess.Popen([sys.executable, "-c", code, os.path.dirname(__file__)], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell ignores it for what runs behind
        name = p.stdout.readline().strip()
        assert any(ns.startswith(name) for ns in os.listdir("/run/netns"))
        p.send_signal(sig)
        p.wait(20)
        assert not any(ns.startswith(name + "-") for ns in os.listdir("/run/netns"))


def test_the_next_run_cleans_up_after_a_killed_one():
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom harness import netns\nn = netns.Net(); h = n.host('a')\n" \
           "print(n.id, flush=True)\nimport time; time.sleep(1000)"
    p = subprocess.Popen([sys.executable, "-c", code, os.path.dirname(__file__)], stdout=subprocess.PIPE, text=True)
    name = p.stdout.readline().strip()
    p.kill()
    p.wait(10)
    netns.Net().close()
    assert not any(ns.startswith(name + "-") for ns in os.listdir("/run/netns"))
