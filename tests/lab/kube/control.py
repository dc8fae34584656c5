# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane of a cluster: etcd, API server and controllers, as processes in the lab's network namespace.

They end with it: ``hosts.down`` kills whatever runs in there.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from tests.lab import hosts
from tests.lab.hosts import Lab
from tests.lab.images import LabError, run
from tests.lab.kube import artefacts

HERE = Path(__file__).resolve().parent
ADDRESS = f"{hosts.MANAGEMENT}.1"
PORT = 6443


def folder(lab: Lab) -> Path:
    """What the control plane writes: keys, tokens, the database, logs."""
    return lab.folder / "control"


def kubeconfig(lab: Lab) -> Path:
    """What opens the cluster from the machine's own network namespace."""
    return folder(lab) / "kubeconfig"


def start(lab: Lab) -> None:
    """Start the control plane; it answers some seconds later (``wait``)."""
    own = folder(lab)
    own.mkdir(mode=0o700)
    _make_keys(own)
    token = secrets.token_hex(16)
    (own / "tokens.csv").write_text(f'{token},lab,lab,"system:masters"\n')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = (str(listener.fileno()), ADDRESS, str(PORT))
        _spawn(lab, "forward", [sys.executable, str(HERE / "forward.py"), *words], (listener.fileno(),))
        outside = listener.getsockname()[1]
    for name, server in (("kubeconfig", f"127.0.0.1:{outside}"), ("node-kubeconfig", f"{ADDRESS}:{PORT}")):
        (own / name).write_text(json.dumps(_kubeconfig(own, f"https://{server}", token), indent=2))
        (own / name).chmod(0o600)
    _run(lab, "etcd", {"data-dir": own / "etcd", "logger": "zap"})
    start_api_server(lab)


def start_api_server(lab: Lab) -> None:
    """Start the API server alone: in the beginning, and after ``stop_api_server``."""
    _run(lab, "kube-apiserver", _api_server(folder(lab)))


def stop_api_server(lab: Lab) -> None:
    """Kill the API server; all others stay, and try again."""
    hosts.end(_api_servers(lab))


def bring_back_api_server(lab: Lab) -> None:
    """Start the API server again, as whoever supervises it would: on a busy machine it may give up. Returns when it answers."""

    def answers() -> bool:
        if not _api_servers(lab):
            start_api_server(lab)
        return bool(request(lab, "GET", "/version"))

    wait(lab, "the API server answers again", answers)


def _api_servers(lab: Lab) -> list[int]:
    inside = map(int, run("ip", "netns", "pids", lab.netns).split())
    names = {number: Path(f"/proc/{number}/comm") for number in inside}
    return [
        number for number, name in names.items() if name.exists() and name.read_text() == "kube-apiserver\n"
    ]


def start_controllers(lab: Lab) -> None:
    """Start what works through the API server, and gives up if that does not answer yet."""
    for name in ("kube-controller-manager", "kube-scheduler"):
        _run(lab, name, {"kubeconfig": folder(lab) / "node-kubeconfig", "leader-elect": "false"})


def _run(lab: Lab, name: str, options: dict[str, object]) -> None:
    program = artefacts.programs() / "control" / name
    _spawn(lab, name, [str(program), *(f"--{option}={value}" for option, value in options.items())])


def _make_keys(own: Path) -> None:
    """One self-signed certificate for the API server; its key also signs the tokens of service accounts."""
    names = f"subjectAltName=IP:{ADDRESS},IP:127.0.0.1,DNS:localhost"
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=lab", "-addext", names,
        "-keyout", str(own / "key.pem"), "-out", str(own / "cert.pem"),
    )  # fmt: skip


def _kubeconfig(own: Path, server: str, token: str) -> dict[str, t.Any]:
    encoded = base64.b64encode((own / "cert.pem").read_bytes()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": encoded}}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }


def _api_server(own: Path) -> dict[str, object]:
    return {
        "etcd-servers": "http://127.0.0.1:2379",
        "advertise-address": ADDRESS,
        "secure-port": PORT,
        "tls-cert-file": own / "cert.pem",
        "tls-private-key-file": own / "key.pem",
        "token-auth-file": own / "tokens.csv",
        "authorization-mode": "RBAC",
        "service-cluster-ip-range": "10.96.0.0/16",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-signing-key-file": own / "key.pem",
        "service-account-key-file": own / "key.pem",
        "disable-admission-plugins": "ServiceAccount",
        "allow-privileged": "true",
        "kubelet-preferred-address-types": "InternalIP",
    }


def _spawn(lab: Lab, name: str, argv: t.Sequence[str], descriptors: t.Sequence[int] = ()) -> None:
    with (folder(lab) / f"{name}.log").open("ab") as log:
        subprocess.Popen(
            ["ip", "netns", "exec", lab.netns, *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder(lab),
            pass_fds=descriptors,
            start_new_session=True,
            env={"PATH": os.environ["PATH"]},
        )


def request(lab: Lab, method: str, path: str, body: t.Any = None) -> t.Any:
    """Ask the API server; LabError with what it says against it."""
    opened = json.loads(kubeconfig(lab).read_text())
    asked = urllib.request.Request(
        opened["clusters"][0]["cluster"]["server"] + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={
            "Authorization": f"Bearer {opened['users'][0]['user']['token']}",
            "Content-Type": "application/json",
        },
    )
    trusted = ssl.create_default_context(cafile=str(folder(lab) / "cert.pem"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    )
    try:
        with opener.open(asked, timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise LabError(f"the API server refuses {method} {path}: {error.read().decode()[-1000:]}") from error
    except (OSError, ValueError) as error:
        raise LabError(f"the API server does not answer: {error}") from error


def wait(lab: Lab, what: str, holds: t.Callable[[], bool], seconds: float = 300.0) -> None:
    """Until that holds; what the API server cannot answer yet does not hold yet."""
    deadline = time.monotonic() + seconds
    last = ""
    while True:
        try:
            if holds():
                return
            last = ""
        except LabError as error:
            last = f": {error}"
        if time.monotonic() > deadline:
            raise LabError(
                f"cluster {lab.name}: not within {seconds:g} s: {what}{last}; logs are in {folder(lab)}"
            )
        time.sleep(0.3)
