# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab host is made of: kernel, package repository and root file systems, built once and cached.

Everything comes from Debian's own archive. Each artefact lives in a folder of the cache that is named
after the hash of what went into it, and appears there by one rename: half-built ones are never used.

    kernel-<key>/     linux.uml (runs on any glibc), modules/<release>
    repo-<key>/       a flat apt repository with Open vSwitch of every suite
    root-<ovs>-<key>/ a trixie root with that Open vSwitch installed, the lab's SSH key, the repo in /srv/ovsops
    disk-<ovs>-<key>/ the same as an ext4 image for the UML hosts
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
MIRROR = os.environ.get("LAB_DEBIAN_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ROOT_SUITE = "trixie"

# Upstream version -> the suite that packages it.
OVS_SUITES = {"2.15.0": "bullseye", "3.1.0": "bookworm", "3.5.0": "trixie", "4.0.0": "sid"}
OVS_PACKAGES = ("openvswitch-common", "openvswitch-switch")
# What an old suite's Open vSwitch needs and trixie no longer has.
EXTRA_PACKAGES = {"bullseye": ("libssl1.1", "lsb-base"), "bookworm": (), "trixie": (), "sid": ()}
# Newest first; the next one is taken where a suite's kernel cannot be had or does not run.
KERNEL_SUITES = ("sid", "trixie", "bookworm")

ROOT_PACKAGES = (
    "dbus", "ethtool", "iproute2", "iputils-ping", "kmod", "needrestart", "netbase", "openssh-server", "openssl",
    "procps", "python3-apt", "python3-minimal", "python3-netifaces", "python3-openvswitch", "python3-pyroute2",
    "python3-six", "systemd-sysv", "tcpdump", "uuid-runtime",
)  # fmt: skip
MASKED_UNITS = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "fstrim.timer", "getty@.service", "serial-getty@.service", "systemd-udev-trigger.service",
    "systemd-networkd-wait-online.service", "systemd-timesyncd.service", "systemd-logind.service",
)  # fmt: skip
# Each runs at every daemon-reload, of which a hand-over needs some; a lab host has nothing for them.
MASKED_GENERATORS = tuple(
    f"systemd-{name}-generator"
    for name in (
        "debug",
        "getty",
        "gpt-auto",
        "hibernate-resume",
        "rc-local",
        "run",
        "ssh",
        "system-update",
        "tpm2",
    )
)
NO_DOCS = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")]
DISK_SIZE = "1600M"


Known = t.TypeVar("Known")


class LabError(Exception):
    """Something about the lab that its user has to know, as a sentence."""


def program(main: t.Callable[[], int]) -> None:
    """Run a program of the lab to its end: its errors as a sentence, its exit status for the shell."""
    try:
        sys.exit(main())
    except LabError as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted; 'tests/tools/lab clean' removes what is left")
        sys.exit(130)


def say(text: str) -> None:
    """One line of progress for whoever waits."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def run(*argv: str, cwd: Path | None = None, quiet: bool = True) -> str:
    """Run argv to its end and return what it printed; LabError with its last words if it fails."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; 'make setup' installs what the lab needs") from error
    if done.returncode:
        raise LabError(f"{' '.join(argv[:6])} … failed with {done.returncode}:\n{done.stdout[-3000:]}")
    if not quiet:
        say(done.stdout.strip())
    return done.stdout


def cache_dir() -> Path:
    """Where images live: ${XDG_CACHE_HOME:-~/.cache}/ovsops/lab, created if need be."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "ovsops" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(*parts: object) -> str:
    """A short name for everything that goes into an artefact."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def tree_digest(path: Path) -> str:
    """The hash of a small tree: names, modes and contents."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return digest(*[(str(p.relative_to(path)), oct(p.stat().st_mode), p.read_text()) for p in files])


@contextlib.contextmanager
def locked(name: str) -> t.Iterator[None]:
    """One builder at a time: a second one waits for the first and then finds its work done."""
    with (cache_dir() / f".{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(kind: str, key: str, build: t.Callable[[Path], None]) -> Path:
    """The artefact's folder; built into a temporary one and renamed if it is not there yet."""
    final = cache_dir() / f"{kind}-{key}"
    with locked(kind):
        if final.exists():
            return final
        sweep(kind)
        began = time.monotonic()
        say(f"building {final.name} …")
        work = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=cache_dir()))
        try:
            build(work)
            work.chmod(0o755)
            work.rename(final)
        finally:
            if work.exists():
                shutil.rmtree(work)
        say(f"built {final.name} in {time.monotonic() - began:.0f} s")
    return final


def sweep(kind: str) -> None:
    """Remove what an interrupted build of this kind left behind (the caller holds the lock)."""
    for left in cache_dir().glob(f".{kind}-*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


# --- Debian's archive -------------------------------------------------------------------------------


class Archive:
    """One Debian suite, read through an apt area of its own: this machine's apt is left alone.

    With ``kind`` deb-src it is the suite's source packages.
    """

    def __init__(self, suite: str, kind: str = "deb") -> None:
        self.suite = suite
        self.area = cache_dir() / "apt" / (suite if kind == "deb" else f"{suite}-{kind}")
        for sub in ("state/lists/partial", "cache/archives/partial", "etc"):
            (self.area / sub).mkdir(parents=True, exist_ok=True)
        (self.area / "etc/sources.list").write_text(f"{kind} [signed-by={KEYRING}] {MIRROR} {suite} main\n")

    def _options(self) -> list[str]:
        settings = {
            "Dir::State": self.area / "state",
            "Dir::Cache": self.area / "cache",
            "Dir::Etc::SourceList": self.area / "etc/sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::status": "/dev/null",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        run("apt-get", "-qq", *self._options(), "update")

    def version(self, package: str) -> str:
        """The candidate version of a package."""
        text = run("apt-cache", *self._options(), "show", "--no-all-versions", package)
        return next(line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("Version: "))

    def download(self, into: Path, *packages: str) -> None:
        self._get("download", into, *packages)

    def source_version(self, package: str) -> str:
        """The version of a source package."""
        text = run("apt-cache", *self._options(), "showsrc", "--only-source", package)
        return next(line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("Version: "))

    def download_source(self, into: Path, package: str) -> None:
        """A source package; apt compares it with the checksums that the archive has signed."""
        self._get("source", into, "--download-only", "--only-source", package)

    def _get(self, verb: str, into: Path, *words: str) -> None:
        into.mkdir(parents=True, exist_ok=True)
        try:
            run("apt-get", "-qq", *self._options(), verb, *words, cwd=into)
        except LabError as error:
            raise LabError(
                f"{error}\nWhere {self.suite} has moved on since: 'tests/tools/lab prune' looks for its packages anew"
            ) from error

    def download_missing(self, into: Path, root_dir: Path, *packages: str) -> None:
        """Download packages with all that they need and a root file system has not."""
        into.mkdir(parents=True, exist_ok=True)
        self.update()
        (into / "partial").mkdir()
        settings = {"Dir::State::status": root_dir / "var/lib/dpkg/status", "Dir::Cache::archives": into}
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        run(
            "apt-get", "-qq", *self._options(), *options, "--yes", "--no-install-recommends", "--download-only",
            "install", *packages,
        )  # fmt: skip


def wanted(suite: str) -> list[str]:
    """The packages that the lab takes from a suite."""
    names = [*OVS_PACKAGES, *EXTRA_PACKAGES[suite]]
    if suite in KERNEL_SUITES:
        names.append("user-mode-linux")
    if suite == ROOT_SUITE:
        names.append("libc6")
    return names


def remembered(name: str, look: t.Callable[[], Known]) -> Known:
    """What ``look()`` found when it was called once, so that a lab does not change under its user."""
    path = cache_dir() / f"{name}.json"
    with locked(name):
        if path.exists():
            return t.cast(Known, json.loads(path.read_text()))
        found = look()
        path.write_text(json.dumps(found, indent=2))
        return found


def resolved() -> dict[str, dict[str, str]]:
    """Suite -> package -> version, looked up once.

    A suite that cannot be had (old ones leave the mirrors) is left out; only what needs it is missing then.
    """
    return remembered("resolved", _resolve)


def _resolve() -> dict[str, dict[str, str]]:
    versions: dict[str, dict[str, str]] = {}
    for suite in OVS_SUITES.values():
        say(f"reading the package index of {suite}")
        archive = Archive(suite)
        try:
            archive.update()
            versions[suite] = {name: archive.version(name) for name in wanted(suite)}
        except LabError as error:
            say(f"the suite {suite} cannot be had, so the lab goes without it: {error}")
    return versions


def package_version(ovs: str) -> str:
    """The Debian version of openvswitch-switch that packages upstream version ovs."""
    if ovs not in OVS_SUITES:
        raise LabError(f"no Open vSwitch {ovs} in the lab; there are {', '.join(OVS_SUITES)}")
    suite = OVS_SUITES[ovs]
    if suite not in resolved():
        raise LabError(
            f"no Open vSwitch {ovs} in the lab: Debian's {suite} could not be had; 'tests/tools/lab prune' tries again"
        )
    return resolved()[suite]["openvswitch-switch"]


# --- the artefacts ----------------------------------------------------------------------------------


def kernel() -> Path:
    """The newest User Mode Linux that starts here: a folder with linux.uml and modules/<release>."""
    tried = []
    for suite in KERNEL_SUITES:
        versions = resolved()[suite]
        libc = resolved()[ROOT_SUITE]["libc6"]
        try:
            return cached(
                "kernel", digest(versions["user-mode-linux"], libc), functools.partial(_build_kernel, suite)
            )
        except LabError as error:
            tried.append(f"{suite}: {error}")
            say(f"no usable kernel from {suite}, trying the next suite")
    raise LabError("no User Mode Linux runs on this machine:\n" + "\n".join(tried))


def kernel_key(suite: str) -> str:
    return digest(resolved()[suite]["user-mode-linux"], resolved()[ROOT_SUITE]["libc6"])


def _build_kernel(suite: str, work: Path) -> None:
    Archive(suite).download(work / "debs", "user-mode-linux")
    Archive(ROOT_SUITE).download(work / "debs", "libc6")
    for deb in (work / "debs").glob("*.deb"):
        run("dpkg", "-x", str(deb), str(work / "x"))
    libc = work / "libc"
    shutil.copytree(work / "x/usr/lib/x86_64-linux-gnu", libc, symlinks=True)
    binary = work / "linux.uml"
    shutil.copy2(work / "x/usr/bin/linux.uml", binary)
    # The binary of a newer suite wants a newer glibc than this machine may have: give it trixie's, first where it
    # is now, to see it run, then where it will be after the rename.
    for folder in (work, cache_dir() / f"kernel-{kernel_key(suite)}"):
        loader = folder / "libc/ld-linux-x86-64.so.2"
        run("patchelf", "--set-interpreter", str(loader), "--set-rpath", str(folder / "libc"), str(binary))
        if folder == work:
            run(str(binary), "--version")
    modules = work / "x/usr/lib/uml/modules"
    shutil.copytree(modules, work / "modules", symlinks=True)
    shutil.rmtree(work / "x")
    shutil.rmtree(work / "debs")


def repo() -> Path:
    """A flat apt repository with Open vSwitch of every suite, for hosts without a network."""
    return cached("repo", digest(resolved(), "1"), _build_repo)


def _build_repo(work: Path) -> None:
    for suite in resolved():
        Archive(suite).download(work / "pool", *OVS_PACKAGES, *EXTRA_PACKAGES[suite])
    index = run("apt-ftparchive", "packages", "pool", cwd=work)
    (work / "Packages").write_text(index)


def testcontroller(ovs: str) -> Path:
    """Upstream's ovs-testcontroller, for a host with that version, whose libraries it takes."""
    key = digest(package_version(ovs))
    return (
        cached("testcontroller", key, lambda work: _unpack_testcontroller(ovs, work)) / "ovs-testcontroller"
    )


def _unpack_testcontroller(ovs: str, work: Path) -> None:
    Archive(OVS_SUITES[ovs]).download(work, "openvswitch-testcontroller")
    [package] = work.glob("*.deb")
    run("dpkg-deb", "--extract", str(package), str(work / "x"))
    (work / "x/usr/bin/ovs-testcontroller").rename(work / "ovs-testcontroller")
    shutil.rmtree(work / "x")
    package.unlink()


def ssh_key() -> Path:
    """The private key that opens the lab's hosts; made once, kept in the cache."""
    path = cache_dir() / "id_ed25519"
    with locked("key"):
        if not path.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ovsops-lab", "-f", str(path))
    return path


def base() -> Path:
    """A folder with root.tar: trixie with everything but Open vSwitch."""
    return cached("base", digest(ROOT_PACKAGES, NO_DOCS, ROOT_SUITE), _build_base)


def _build_base(work: Path) -> None:
    run(
        "mmdebstrap", "--variant=apt", f"--include={','.join(ROOT_PACKAGES)}", *NO_DOCS,
        "--aptopt=Acquire::Languages \"none\"", ROOT_SUITE, str(work / "root.tar"), MIRROR,
    )  # fmt: skip


def root_key(ovs: str) -> str:
    public = ssh_key().with_suffix(".pub").read_text()
    return digest(
        base().name,
        repo().name,
        kernel().name,
        public,
        tree_digest(HERE / "rootfs"),
        MASKED_UNITS,
        MASKED_GENERATORS,
        ovs,
        3,
    )


def root(ovs: str | None) -> Path:
    """A root file system with that upstream version installed; None: without Open vSwitch. Never write to it."""
    if ovs is not None:
        package_version(ovs)
    return cached(f"root-{ovs or 'none'}", root_key(ovs or "none"), lambda work: _build_root(ovs, work))


def _build_root(ovs: str | None, work: Path) -> None:
    run("tar", "-C", str(work), "--numeric-owner", "-xf", str(base() / "root.tar"))
    shutil.copytree(repo(), work / "srv/ovsops")
    (work / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/ovsops ./\n")
    shutil.copytree(HERE / "rootfs", work, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(kernel() / "modules", work / "usr/lib/modules", symlinks=True, dirs_exist_ok=True)
    (work / "etc/fstab").write_text("")
    (work / "etc/hostname").write_text("lab\n")
    (work / "etc/hosts").write_text("127.0.0.1 localhost lab\n")
    keys = work / "root/.ssh/authorized_keys"
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    keys.write_text(ssh_key().with_suffix(".pub").read_text())
    keys.chmod(0o600)
    units = work / "etc/systemd/system"
    for unit in MASKED_UNITS:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    generators = work / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    for generator in MASKED_GENERATORS:
        (generators / generator).symlink_to("/dev/null")
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/lab-network.service").symlink_to(
        "/etc/systemd/system/lab-network.service"
    )
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    for release in (kernel() / "modules").iterdir():
        inside(work, "depmod", release.name)
    with _no_services(work):
        inside(work, "apt-get", "-qq", "update")
        if ovs is not None:
            version = package_version(ovs)
            names = [f"{name}={version}" for name in OVS_PACKAGES]
            inside(work, "apt-get", "-qq", "install", "--allow-downgrades", *names)


def inside(root_dir: Path, *argv: str) -> str:
    """Run argv chrooted into a root of ours, with an environment that asks no questions."""
    env = [
        "env",
        "-i",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND=noninteractive",
        "LC_ALL=C.UTF-8",
        "HOME=/root",
    ]
    # A mount namespace of its own: /proc goes away with it, whatever happens.
    mounts = ["unshare", "--mount", "--", "sh", "-euc", 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"']
    return run(*mounts, str(root_dir), *env, *argv)


@contextlib.contextmanager
def _no_services(root_dir: Path) -> t.Iterator[None]:
    policy = root_dir / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def disk(ovs: str | None) -> Path:
    """The same root as an ext4 image; hosts put a copy-on-write layer over it."""
    source = root(ovs)
    folder = cached(
        f"disk-{ovs or 'none'}", digest(source.name, DISK_SIZE), lambda work: _build_disk(source, work)
    )
    return folder / "disk.img"


def _build_disk(source: Path, work: Path) -> None:
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-E",
        "lazy_itable_init=0",
        "-d",
        str(source),
        str(work / "disk.img"),
        DISK_SIZE,
    )


def prune() -> None:
    """Remove every artefact: the next start builds anew."""
    for path in cache_dir().iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith("id_ed25519"):
            path.unlink()
