# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts on the page of a rollout: as rows of a table, and each with all that is known of it."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import plots
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import COUNTED, Facts, Stream
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.markup import Html, join, tag
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.verdict import (
    BAD,
    GOOD,
    PLAIN,
    WARNING,
    counted,
    in_utc,
)

TONES = {
    "failed": BAD,
    "unreachable": BAD,
    "unknown": BAD,
    "unconfirmed": WARNING,
    "upgraded": GOOD,
    "resumed": GOOD,
    "planned": PLAIN,
    "unchanged": GOOD,
    "at work": PLAIN,
    "untouched": PLAIN,
}
_SIGNS = {BAD: "✕", WARNING: "!", GOOD: "✓", PLAIN: "·"}
NOTHING = "–"
# A phone has no room for the word.
_ESTABLISHED = Html('Lost <span class="wide">established</span><span class="phone">est.</span>')


def badge(host: Facts) -> Html:
    """How it ended, in a word, with a sign and a colour."""
    tone = WARNING if host.remark else TONES[host.outcome]
    return tag(
        "span", tag("span", f"{_SIGNS[tone]} ", aria_hidden="true"), host.outcome, class_=f"badge {tone}"
    )


def table(hosts: t.Sequence[tuple[str, Facts]], caption: str) -> Html:
    """One row for each; the first of each pair is the id of what else is known of it."""
    heading = [
        tag("th", word, scope="col", class_=class_)
        for word, class_ in (
            ("Host", None), ("Outcome", None), ("Version", "wide"), ("Strategy", "wide"), ("Nobody forwarded", "number wide"),
            (_ESTABLISHED, "number"), ("Lost new", "number"), ("Longest silence", "number wide"),
        )
    ]  # fmt: skip
    body = [_row(id_, host) for id_, host in hosts]
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *heading)),
        tag("tbody", *body),
        class_="hosts",
    )


def _row(id_: str, host: Facts) -> Html:
    return tag(
        "tr",
        tag("th", tag("a", host.name, href=f"#{id_}"), scope="row"),
        tag("td", badge(host)),
        tag("td", versions(host), class_="wide versions"),
        tag("td", host.strategy or NOTHING, class_="wide"),
        tag("td", ms(host.window_ms), class_="number wide"),
        _lost_cell(host.established),
        _lost_cell(host.new_flows),
        tag(
            "td",
            ms(max((each.longest_gap_ms or 0 for each in host.streams), default=None)),
            class_="number wide",
        ),
    )


def _lost_cell(found: Stream | None) -> Html:
    lost = bool(found and found.lost)
    return tag("td", f"{found.lost:,}" if found else NOTHING, class_="number late" if lost else "number")


def versions(host: Facts) -> str:
    """From which to which."""
    if not host.to_version or host.to_version == host.from_version:
        return host.from_version or NOTHING
    return f"{host.from_version or '?'} → {host.to_version}"


def ms(value: float | None) -> str:
    """Milliseconds, or a dash."""
    return NOTHING if value is None else f"{value:,.1f} ms"


def details(id_: str, host: Facts, open_: bool, in_short: bool = False) -> Html:
    """A card that opens. The id is inside, so that a link to it opens it; ``in_short`` is for the many of a fleet."""
    summary = tag(
        "summary", tag("strong", host.name), " ", badge(host), " ", tag("span", _in_short(host), class_="who")
    )
    known = [(name, lines) for name, lines in _facts(host) if lines]
    content = tag("p", _as_text(known)) if in_short else tag("dl", *_as_list(known))
    return tag("details", summary, tag("div", *_messages(host), content, id=id_), class_="host", open=open_)


def _in_short(host: Facts) -> str:
    lost = f"{counted(host.lost, 'packet')} lost" if host.lost else ""
    stage = f"in {host.step}" if host.failure and host.step else ""
    return ", ".join(each for each in (stage, lost) if each)


def _messages(host: Facts) -> t.Iterator[Html]:
    if host.failure:
        yield tag("p", host.failure, class_="said")
    if host.remark:
        yield tag("p", f"After the upgrade: {host.remark}", class_="said")
    if host.hidden:
        yield tag("p", "Some of what its tasks said is hidden by no_log.")


def _as_list(known: t.Iterable[tuple[str, t.Sequence[str]]]) -> t.Iterator[Html]:
    for name, lines in known:
        yield tag("dt", name)
        yield tag("dd", lines[0] if len(lines) == 1 else tag("ul", *(tag("li", line) for line in lines)))


def _as_text(known: t.Iterable[tuple[str, t.Sequence[str]]]) -> str:
    return " · ".join(f"{name}: {'; '.join(lines)}" for name, lines in known)


def _facts(host: Facts) -> t.Iterator[tuple[str, t.Sequence[str]]]:
    """Name and lines; without lines there is nothing to tell."""
    stays = f"goes back by itself at {in_utc(host.deadline)} unless it is confirmed" if host.deadline else ""
    state = ", ".join(filter(None, (host.transaction, host.state.replace("_", " "), stays)))
    yield "Version", [versions(host)] if host.from_version or host.to_version else []
    yield "Strategy", [host.strategy] if host.strategy else []
    yield "Why no other", [f"{name}: {'; '.join(why)}" for name, why in host.reasons]
    yield "Nobody forwarded", [ms(host.window_ms)] if host.window_ms is not None else []
    yield "Packets", [*_packets("established", host.established), *_packets("new flows", host.new_flows)]
    yield "Its own counters", _own_counters(host)
    yield "Over the limits", host.breaches
    yield "Objects", _objects(host)
    yield "Changed by others", host.changes
    yield "Not carried over", host.not_carried
    yield "Could not be undone", host.not_undone
    yield "Warnings", host.warnings
    yield "Proof", [host.proof] if host.proof else []
    yield "Besides", host.besides
    yield "Transaction", [state] if host.transaction else []
    yield "Afterwards", [host.measured] if host.measured else []
    yield "Snapshot", [host.snapshot] if host.snapshot else []


def _packets(kind: str, found: Stream | None) -> t.Iterator[str]:
    if found:
        twice = f", {found.duplicated:,} twice" if found.duplicated else ""
        yield f"{kind}: {found.lost:,} of {found.sent:,} lost{twice}, longest silence {ms(found.longest_gap_ms)}"


def _own_counters(host: Facts) -> list[str]:
    """Of all traffic, and without what a process has taken with it: a bound and no measurement."""
    if not host.own_counters:
        return []
    upcalls, drops = host.own_counters
    return [
        f"of all traffic, at least {upcalls:,} packets lost on their way to ovs-vswitchd, {drops:,} dropped by ports"
    ]


def _objects(host: Facts) -> list[str]:
    pairs = {name: (host.before[name], host.after[name]) for name in COUNTED}
    if all(after is None for __, after in pairs.values()):
        known = [f"{name} {before:,}" for name, (before, __) in pairs.items() if before is not None]
        return [f"{', '.join(known)} before; not counted again"] if known else []
    both = ", ".join(f"{name} {_both(*counts)}" for name, counts in pairs.items())
    return [f"{both}: {'every difference is accounted for' if host.verified else 'not verified'}"]


def _both(before: int | None, after: int | None) -> str:
    shown = [NOTHING if each is None else f"{each:,}" for each in (before, after)]
    return shown[0] if before == after else " → ".join(shown)


def traffic(host: Facts) -> Html:
    """The packets around the longest silence of each stream that has told them."""
    figures = [
        _figure(kind, each)
        for kind, each in (("Established flow", host.established), ("New flows", host.new_flows))
        if each and each.points
    ]
    return tag("div", *figures, class_="plots") if figures else join([])


def _figure(kind: str, found: Stream) -> Html:
    told = (
        f"{found.lost:,} of {found.sent:,} packets lost; longest silence {ms(found.longest_gap_ms)}, "
        f"the sender's own longest pause {ms(found.longest_send_gap_ms)}."
    )
    each = f" Each point stands for {found.each:,} packets." if found.each > 1 else ""
    return tag(
        "figure",
        plots.arrivals(found, f"{kind}: {told}"),
        tag("figcaption", tag("strong", f"{kind}. "), told + each),
    )
