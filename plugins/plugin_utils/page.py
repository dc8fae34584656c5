# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout as one HTML page: it loads nothing and runs nothing, and says first what an operator has to know."""

from __future__ import annotations

import base64
import hashlib
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import page_hosts, plots
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.document import moment
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import OUTCOMES, Facts
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.markup import Html, escaped, join, tag
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.page_style import STYLE
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.progress import clock
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import (
    CUT_OVERS,
    RUNNING,
    Batch,
    Host,
    Rollout,
)
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.verdict import (
    NAMES,
    Action,
    Verdict,
    counted,
)

# A fleet's page has to open at once: cards that are open, pictures of traffic, hosts with a line of their own in the timeline.
_OPEN, _PICTURES, _LINES, _NAMED = 10, 50, 40, 30
_BEFORE = ("begin", "unfinished", "preflight", "snapshot", "packages")
_MEANINGS = {
    "upgraded": "the new version runs, was verified, and is final",
    "resumed": "the hand-over of an earlier run was verified and confirmed by this one",
    "unconfirmed": "the new version runs; the host goes back by itself unless somebody confirms it in time",
    "planned": "nothing was changed; this is what would be done",
    "unchanged": "what is on the disk runs already; nothing was done",
    "failed": "refused, or taken back: its message says what forwards now",
    "unreachable": "Ansible lost the host; what was under way it ends, or takes back, by itself",
    "unknown": "the run ended in the middle of this host",
    "untouched": "nothing was done on this host",
}
Ids = t.Mapping[str, str]


def page(rollout: Rollout, hosts: t.Sequence[Facts], found: Verdict) -> str:
    """The text of the file."""
    # Of an untouched host there is nothing to be looked at. One that another play has lost is in no batch.
    begun = {name for batch in rollout.batches for name in batch.hosts}
    shown = (host.name for host in hosts if host.name in begun or host.outcome != "untouched")
    ids = {name: f"host-{number}" for number, name in enumerate(shown)}
    pictured = _pictured(hosts)
    parts = [
        _answers(hosts, found, ids),
        _section(
            "Hosts that need you", _cards([host for host in hosts if host.needs_somebody], ids, pictured)
        ),
        _section("Traffic around the cut-over", _traffic(hosts, ids, pictured)),
        _section("Timeline", _timeline(rollout)),
        _section("All hosts", _all(rollout, hosts, ids, pictured)),
    ]
    body = [_banner(rollout, found), tag("main", *parts), _footer(rollout)]
    return "<!DOCTYPE html>\n" + tag("html", _head(found), tag("body", *body), lang="en") + "\n"


def _head(found: Verdict) -> Html:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{found.headline} – Open vSwitch rollout"),
        Html('<link rel="icon" href="data:,">'),
        tag("style", Html(STYLE)),
    )


def _banner(rollout: Rollout, found: Verdict) -> Html:
    began, written = (moment(each) or "" for each in (rollout.began, rollout.now))
    mode = ", check mode" if rollout.check_mode else ""
    when = f"{began[:10]}, {began[11:19]} to {written[11:19]} UTC, took {clock(rollout.now - rollout.began)}"
    lines = [tag("p", " ".join(found.lost[:2]), class_="lead")] if found.lost else []
    name = f"Rollout {rollout.name}" if rollout.name else "Rollout"
    lines.append(
        tag("p", f"{name} of Open vSwitch by {rollout.playbook or 'ansible-playbook'}{mode}: {when}")
    )
    if rollout.state == RUNNING:
        running = "If nothing runs any more, the run was killed: start it again."
        lines.append(tag("p", f"Written at {written[11:19]} UTC, while the rollout was running. {running}"))
    return tag("div", tag("header", tag("h1", found.headline), *lines), class_=f"banner {found.tone}")


def _answers(hosts: t.Sequence[Facts], found: Verdict, ids: Ids) -> Html:
    actions = tag("ol", *(_action(each, ids) for each in found.actions))
    back = found.way_back
    todo = [
        actions if found.actions else tag("p", "Nothing. The rollout needs nobody."),
        tag("details", tag("summary", back.why), tag("pre", tag("code", back.line))) if back else "",
    ]
    return tag(
        "section",
        tag("div", tag("h2", "What must I do now?"), *todo, class_=f"card wanted {found.tone}"),
        tag("div", tag("h2", "What happened?"), _shares(hosts), _list(found.happened), class_="card"),
        tag("div", tag("h2", "Is anything lost?"), _list(found.lost), class_="card"),
        class_="answers",
        aria_label="In short",
    )


def _action(action: Action, ids: Ids) -> Html:
    who = join([tag("strong", _linked(action.hosts, ids)), ": "]) if action.hosts else ""
    commands = (
        join([tag("p", f"{why}:", class_="why") if why else "", tag("pre", tag("code", line))])
        for why, line in action.commands
    )
    return tag("li", who, tag("span", action.what, class_="said"), *commands)


def _linked(names: t.Sequence[str], ids: Ids) -> Html:
    """As ``verdict.named`` has them."""
    links = [tag("a", name, href=f"#{ids[name]}") if name in ids else escaped(name) for name in names[:NAMES]]
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return join([Html(", ".join(links)), more])


def _list(lines: t.Sequence[str]) -> Html:
    return tag("ul", *(tag("li", line) for line in lines)) if lines else tag("p", "Nothing yet.")


def _shares(hosts: t.Sequence[Facts]) -> Html:
    counts = [(name, sum(host.outcome == name for host in hosts)) for name in OUTCOMES]
    parts = [
        (f"o-{'none' if name == 'untouched' else page_hosts.TONES[name]}", count)
        for name, count in counts
        if count
    ]
    label = ", ".join(f"{count} {name}" for name, count in counts if count)
    return plots.shares(parts, label) if parts else join([])


def _section(title: str, content: t.Sequence[Html]) -> Html:
    return tag("section", tag("h2", title), *content, aria_label=title) if content else join([])


def _pictured(hosts: t.Sequence[Facts]) -> set[str]:
    """Those whose traffic is drawn: the worst, as many as a page can hold."""
    found = [host for host in hosts if host.stands_out and any(each.points for each in host.streams)]
    worst = sorted(
        found, key=lambda host: (-host.lost, -max(each.longest_gap_ms or 0 for each in host.streams))
    )
    return {host.name for host in worst[:_PICTURES]}


def _cards(hosts: t.Sequence[Facts], ids: Ids, pictured: t.Container[str]) -> list[Html]:
    return [
        tag(
            "div",
            page_hosts.details(ids[host.name], host, open_=number < _OPEN),
            page_hosts.traffic(host) if host.name in pictured else "",
            class_="card",
        )
        for number, host in enumerate(hosts)
    ]


def _traffic(hosts: t.Sequence[Facts], ids: Ids, pictured: t.Container[str]) -> list[Html]:
    """Of hosts that need nobody, but lost something or were slow."""
    shown = [host for host in hosts if host.stands_out and host.name in pictured and not host.needs_somebody]
    left_out = sum(host.stands_out for host in hosts) - sum(host.name in pictured for host in hosts)
    cards = [
        tag(
            "div",
            page_hosts.details(ids[host.name], host, open_=False),
            page_hosts.traffic(host),
            class_="card",
        )
        for host in shown
    ]
    if left_out:
        cards.append(
            tag(
                "p",
                f"{counted(left_out)} more lost something or were slow, less than these or without a record; see the table.",
            )
        )
    return cards


def _timeline(rollout: Rollout) -> list[Html]:
    if not rollout.batches:
        return []
    span = max(rollout.now - rollout.began, 1.0)
    known = {host.name: host for host in rollout.hosts}
    single = len(known) <= _LINES
    rows: list[Html] = []
    for batch in rollout.batches:
        rows.append(_batch_row(batch, rollout, span))
        if single:
            rows.extend(_host_row(known[name], rollout, span) for name in batch.hosts if known[name].steps)
    heading = tag(
        "tr",
        tag("th", "Batch" + (", host" if single else ""), scope="col", class_="name"),
        tag("th", f"0:00 to {clock(span)}", scope="col"),
        tag("th", "Took", scope="col", class_="number took"),
    )
    caption = f"From {(moment(rollout.began) or '')[11:19]} to {(moment(rollout.now) or '')[11:19]} UTC."
    drawn = tag(
        "table", tag("caption", caption), tag("thead", heading), tag("tbody", *rows), class_="timeline"
    )
    return [tag("div", drawn, _legend() if single else "", class_="card")]


def _batch_row(batch: Batch, rollout: Rollout, span: float) -> Html:
    end = batch.ended if batch.ended is not None else rollout.now
    words = f"from {clock(batch.began - rollout.began)} to {clock(end - rollout.began)}"
    drawn = plots.strip([_segment(batch.began, end, rollout.began, span, "s-batch")], words)
    return _line(
        f"Batch {batch.number} of {batch.of}: {counted(len(batch.hosts))}",
        drawn,
        end - batch.began,
        "of-batch",
    )


def _host_row(host: Host, rollout: Rollout, span: float) -> Html:
    ends = [step.ended if step.ended is not None else rollout.now for step in host.steps]
    segments = [
        _segment(step.began, end, rollout.began, span, _kind(step.name))
        for step, end in zip(host.steps, ends)
    ]
    words = ", ".join(f"{step.name} {clock(end - step.began)}" for step, end in zip(host.steps, ends))
    return _line(host.name, plots.strip(segments, words), ends[-1] - host.steps[0].began)


def _line(name: str, drawn: Html, took: float, class_: str | None = None) -> Html:
    cells = [
        tag("th", name, scope="row", class_="name"),
        tag("td", drawn),
        tag("td", clock(took), class_="number took"),
    ]
    return tag("tr", *cells, class_=class_)


def _segment(begin: float, end: float, zero: float, span: float, kind: str) -> plots.Segment:
    return plots.Segment((begin - zero) / span, (end - zero) / span, kind)


def _kind(step: str) -> str:
    return "s-cut" if step in CUT_OVERS else "s-prepare" if step in _BEFORE else "s-after"


def _legend() -> Html:
    kinds = (
        ("s-prepare", "looking, snapshot, packages"),
        ("s-cut", "hand-over"),
        ("s-after", "verifying, result"),
    )
    return tag(
        "p", *(tag("span", plots.swatch(kind), f" {words}") for kind, words in kinds), class_="legend who"
    )


def _all(rollout: Rollout, hosts: t.Sequence[Facts], ids: Ids, pictured: t.Container[str]) -> list[Html]:
    by_name = {host.name: host for host in hosts}
    open_ = len(hosts) <= _LINES
    shown = [
        _batch(batch, [by_name[name] for name in batch.hosts if name in by_name], ids, pictured, open_)
        for batch in rollout.batches
    ]
    begun = {name for batch in rollout.batches for name in batch.hosts}
    rest = [host.name for host in hosts if host.name not in begun and host.outcome == "untouched"]
    if rest:
        title = tag("summary", f"Not begun: {counted(len(rest))}, nothing was done on them")
        shown.append(
            tag("details", title, tag("p", ", ".join(rest)), class_="card batch", open=len(rest) <= _NAMED)
        )
    return shown


def _batch(batch: Batch, hosts: t.Sequence[Facts], ids: Ids, pictured: t.Container[str], open_: bool) -> Html:
    counts = [
        f"{sum(host.outcome == name for host in hosts):,} {name}"
        for name in OUTCOMES
        if any(host.outcome == name for host in hosts)
    ]
    title = f"Batch {batch.number} of {batch.of}: {', '.join(counts)}"
    here = [host for host in hosts if not host.needs_somebody and host.name not in pictured]
    return tag(
        "details",
        tag("summary", tag("strong", title)),
        page_hosts.table(
            [(ids[host.name], host) for host in hosts],
            "Packets that the probe lost; a dash is what was not measured.",
        ),
        *(page_hosts.details(ids[host.name], host, open_=False, in_short=not open_) for host in here),
        class_="card batch",
        open=open_,
    )


def _footer(rollout: Rollout) -> Html:
    words = tag(
        "dl", *(each for word, meaning in _MEANINGS.items() for each in (tag("dt", word), tag("dd", meaning)))
    )
    written = f"Written by ovsops.hot_upgrade.rollout_report at {moment(rollout.now)}, {counted(rollout.forks, 'fork')}."
    return tag("footer", tag("details", tag("summary", "What the words mean"), words), tag("p", written))
