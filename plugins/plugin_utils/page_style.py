# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the page of a rollout looks: light and dark, on a phone, on paper. No font, picture or program comes from anywhere."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --ground: #f3f5f7; --card: #ffffff; --text: #18212b; --soft: #4c5a68; --line: #d5dce3; --code: #eef2f5;
  --bad: #a1151c; --bad-ground: #fdebea; --warning: #754700; --warning-ground: #fdf1d3;
  --good: #0a5c31; --good-ground: #e2f4e8; --plain: #1b4b7c; --plain-ground: #e5eff9;
  --prepare: #9fb0c0; --cut: #c8500a; --after: #3f7d5f; --dot: #1f5f9e; --silent: #f7d9b8; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #0e1318; --card: #172028; --text: #e7ecf1; --soft: #a9b6c2; --line: #33404c; --code: #0e151b;
  --bad: #ff9d97; --bad-ground: #3b1718; --warning: #f5c564; --warning-ground: #37290d;
  --good: #7fd6a2; --good-ground: #10301f; --plain: #93c3f2; --plain-ground: #14293e;
  --prepare: #55687a; --cut: #f08a3c; --after: #55a880; --dot: #7db8f2; --silent: #4a3319; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; margin: 0; }
h1 { font-size: clamp(1.5rem, 1.1rem + 1.8vw, 2.3rem); }
h2 { font-size: 1.2rem; margin: 2rem 0 .75rem; }
p, ul, ol, dl { margin: .5rem 0; overflow-wrap: anywhere; }
ul, ol { padding-left: 1.2rem; }
li { margin: .3rem 0; overflow-wrap: anywhere; }
.banner { border-bottom: 6px solid var(--tone); background: var(--tone-ground); padding: 1.25rem 0; }
.banner h1 { color: var(--tone); }
.banner .lead { font-size: 1.1rem; font-weight: 600; }
.why { margin: .4rem 0 -.2rem; font-weight: 600; }
.banner p { margin: .35rem 0 0; color: var(--text); }
.bad { --tone: var(--bad); --tone-ground: var(--bad-ground); }
.warning { --tone: var(--warning); --tone-ground: var(--warning-ground); }
.good { --tone: var(--good); --tone-ground: var(--good-ground); }
.plain { --tone: var(--plain); --tone-ground: var(--plain-ground); }
.answers { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; margin-top: 1.25rem; }
.answers .wanted { grid-column: 1 / -1; border-left: 6px solid var(--tone); }
.answers h2 { margin: 0 0 .4rem; font-size: 1.1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.15rem; }
.card + .card { margin-top: 1rem; }
.answers .card + .card { margin-top: 0; }
pre { margin: .4rem 0; padding: .55rem .7rem; background: var(--code); border: 1px solid var(--line); border-radius: .35rem;
  white-space: pre-wrap; overflow-wrap: anywhere;
  font: .875rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; user-select: all; }
.who { color: var(--soft); }
.said { white-space: pre-line; overflow-wrap: anywhere; }
.badge { display: inline-block; padding: 0 .5rem; border-radius: 1rem; background: var(--tone-ground); color: var(--tone);
  font-weight: 600; font-size: .875rem; white-space: nowrap; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { text-align: left; padding: .35rem .5rem; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: break-word; }
tbody th { overflow-wrap: anywhere; }
td.versions { white-space: nowrap; }
tbody th { font-weight: 500; }
thead th { color: var(--soft); font-weight: 600; font-size: .82rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.late { color: var(--bad); font-weight: 700; }
a { color: var(--plain); }
details > summary { cursor: pointer; padding: .3rem 0; overflow-wrap: anywhere; }
summary:focus-visible, a:focus-visible { outline: 3px solid var(--plain); outline-offset: 2px; border-radius: .2rem; }
.host { border-top: 1px solid var(--line); }
.card > .host:first-child { border-top: 0; }
.batch { margin-bottom: 1rem; }
dl { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: .3rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
dd ul { margin: 0; }
dd li { margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
figure { margin: .5rem 0; min-width: 0; }
figcaption { font-size: .875rem; color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--soft); }
.axis { stroke: var(--line); fill: none; }
.silent { fill: var(--silent); }
.dots { stroke: var(--dot); stroke-width: 4; stroke-linecap: round; fill: none; }
.arrivals { stroke: var(--dot); stroke-width: 1; fill: none; }
.lost { stroke: var(--bad); stroke-width: 1.6; fill: none; }
svg .lost-word { fill: var(--bad); font-weight: 700; }
.timeline { table-layout: fixed; }
.timeline td, .timeline th { border-bottom: 0; padding: .15rem .5rem; vertical-align: middle; }
.timeline .of-batch > * { border-top: 1px solid var(--line); padding-top: .5rem; font-weight: 600; }
.timeline .name { width: 24%; }
.timeline .took { width: 6rem; white-space: nowrap; }
.bar { height: .9rem; background: var(--code); border-radius: .2rem; }
.of-batch .bar { height: .45rem; }
.s-prepare { fill: var(--prepare); } .s-cut { fill: var(--cut); } .s-after { fill: var(--after); } .s-batch { fill: var(--soft); }
.legend span { white-space: nowrap; margin-right: 1.1rem; }
.legend svg { display: inline-block; width: .8rem; height: .8rem; vertical-align: -.05rem; }
.shares { height: .8rem; border-radius: .4rem; margin: .6rem 0 .2rem; }
.o-bad { fill: var(--bad); } .o-warning { fill: var(--warning); } .o-good { fill: var(--good); } .o-plain { fill: var(--plain); }
.o-none { fill: var(--line); }
.phone { display: none; }
footer { color: var(--soft); font-size: .875rem; padding-top: 1.5rem; padding-bottom: 2rem; }
@media (max-width: 40rem) {
  header, main, footer { padding-left: .85rem; padding-right: .85rem; }
  .answers { grid-template-columns: minmax(0, 1fr); }
  .wide { display: none; }
  .phone { display: inline; }
  th, td { padding: .35rem .25rem; }
  .hosts { table-layout: fixed; }
  .hosts thead th { font-size: .78rem; }
  .hosts thead th:first-child { width: 35%; }
  .hosts thead th:nth-child(2) { width: 6.9rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; }
  .card { padding: .8rem .85rem; }
  .timeline .name { width: 32%; }
  .timeline .took { width: 4.2rem; }
}
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
