"""The two namespaces of a host of these tests reach each other and nothing else."""

import socket
import subprocess
from pathlib import Path

from tests.host.internet import CA, HOST, internet

_OTHERS = ("192.0.2.1", "198.41.0.4", "10.255.255.53")


def test_there_is_no_way_out_of_the_closed_internet(tmp_path: Path) -> None:
    ours = {str(facts[4][0]) for facts in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    with internet(tmp_path, "certctl-closed") as net:
        for namespace, neighbour in ((net.namespace, HOST), (net.host_namespace, CA)):
            links = _ip(namespace, "-brief", "link").splitlines()
            assert {line.split()[0].split("@")[0] for line in links} == {"lo", "net0"}
            assert all(line.startswith("20.20.0.0/16 dev net0") for line in _ip(namespace, "route").splitlines())
            assert "dev net0" in _ip(namespace, "route", "get", neighbour)
            for address in (*_OTHERS, *ours):
                if not address.startswith("127."):
                    assert "unreachable" in _ip(namespace, "route", "get", address), address


def _ip(namespace: str, *words: str) -> str:
    ended = subprocess.run(["ip", "-n", namespace, *words], capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr
