"""The rollout's charts and frames. A chart's title states the finding; charts are SVG, so they open offline."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import altair
import pandas as pd
from altair.utils.mimebundle import spec_to_mimebundle

from pik import events
from pik.aws.reading import Row
from pik.rollout.checks.replaying import Group
from pik.text import printable

Versions = Mapping[Group, tuple[dict[str, Any], int]]
WIDTH, HEIGHT = 640, 220
_TITLE_PIXELS = 7  # of one character of a title, about
_SUBTITLE_PIXELS = 6
_LABEL = 400  # pixels of the longest name beside an axis
GOOD, BAD = "#2e7d5b", "#c62828"
MOST_SOURCES = 8


def arrivals(rows: Sequence[Row]) -> altair.Chart:
    """Events by hour of the day they happened, stacked by source."""
    kept = {str(row["event_id"]): row for row in rows if row["source"] != events.PROBE_SOURCE}
    if not kept:
        return nothing("No events have been ingested in the last two days")
    days = Counter(str(row["event_time"])[:10] for row in kept.values())
    sources = Counter(str(row["source"]) for row in kept.values())
    shown = {source for source, _ in sources.most_common(MOST_SOURCES)}
    hours = Counter(
        (str(row["event_time"])[:13] + ":00:00Z", str(row["source"]) if row["source"] in shown else "others")
        for row in kept.values()
    )
    frame = pd.DataFrame([{"hour": hour, "source": source, "events": n} for (hour, source), n in hours.items()])
    busiest = Counter(hour for hour, source in hours.elements()).most_common(1)[0]
    title = [
        f"{len(kept):,} events of {len(days)} {_plural(len(days), 'day')}; the busiest hour is "
        f"{busiest[0][:10]} {busiest[0][11:13]}h with {busiest[1]}",
        f"{len(sources)} sources; {sources.most_common(1)[0][0]} is the largest",
    ]
    chart = altair.Chart(frame).mark_bar()
    encoded = chart.encode(
        x=altair.X("utchours(hour):T" if len(days) == 1 else "hour:T", title="event time (UTC, hour)"),
        y=altair.Y("sum(events):Q", title="events per hour"),
        color=altair.Color("source:N", title="source"),
    )
    if len(days) == 1:
        frame["hour of day"] = frame["hour"].str.slice(11, 13)
        encoded = (
            altair.Chart(frame)
            .mark_bar()
            .encode(
                x=altair.X("hour of day:O", title=f"hour of {next(iter(days))} (UTC)"),
                y=altair.Y("sum(events):Q", title="events per hour"),
                color=altair.Color("source:N", title="source"),
            )
        )
    return styled(encoded, title)


def latency(quantiles: Mapping[str, float | None]) -> altair.Chart:
    """The quantiles of the time to an answer."""
    known = {name: value for name, value in quantiles.items() if value is not None}
    if not known:
        return nothing("No events were sent, so there is no latency to show")
    frame = pd.DataFrame({"quantile": list(known), "milliseconds": list(known.values())})
    bars = (
        altair.Chart(frame)
        .mark_point(filled=True, size=90, color="#3b6ea5")
        .encode(
            x=altair.X(
                "milliseconds:Q",
                title="time from the first attempt to the answer (ms, logarithmic)",
                scale=altair.Scale(type="log"),
            ),
            y=altair.Y("quantile:N", title="quantile", sort=list(known)),
        )
    )
    title = [f"Half of the events were answered within {known['p50']:,.0f} ms, 99 % within {known['p99']:,.0f} ms"]
    return styled(bars, title, height=130)


def predicted_frame(predicted: Versions) -> pd.DataFrame:
    """One row for each predicted aggregate: what it counts and the largest of its sums."""
    return pd.DataFrame(
        [
            {
                "entity": entity,
                "day": day,
                "inputs": count,
                "by type": ", ".join(f"{name} {n}" for name, n in sorted(state.get("by_type", {}).items())),
                "first": state.get("first", ""),
                "last": state.get("last", ""),
                "replay": replay,
            }
            for (entity, day, replay), (state, count) in sorted(predicted.items())
        ],
        columns=["entity", "day", "inputs", "by type", "first", "last", "replay"],
    )


def aggregate_sizes(predicted: Versions) -> altair.Chart:
    """How many aggregates count how many events."""
    if not predicted:
        return nothing("There is nothing to aggregate yet")
    sizes = Counter(count for _, count in predicted.values())
    frame = pd.DataFrame([{"inputs": size, "aggregates": n} for size, n in sorted(sizes.items())])
    bars = (
        altair.Chart(frame)
        .mark_bar(color="#3b6ea5")
        .encode(
            x=altair.X("inputs:O", title="events in one aggregate (entity and day)"),
            y=altair.Y("aggregates:Q", title="aggregates"),
        )
    )
    total = sum(count for _, count in predicted.values())
    return styled(bars, [f"{len(predicted)} aggregates are predicted from {total} events"], height=160)


def drain(timeline: Sequence[tuple[float, int]], seconds: float) -> altair.Chart:
    """Messages in the queue while the processor was switched on."""
    frame = pd.DataFrame(timeline, columns=["seconds", "messages"])
    line = (
        altair.Chart(frame)
        .mark_line(interpolate="step-after", point=True, color="#3b6ea5")
        .encode(
            x=altair.X("seconds:Q", title="seconds since the deploy began"),
            y=altair.Y("messages:Q", title="messages in the queue"),
        )
    )
    most, left = int(frame["messages"].max()), int(frame["messages"].iloc[-1])
    title = f"{most} messages were consumed in {seconds:.1f} s" if not left else f"{left} of {most} messages are left"
    return styled(line, [title], height=170)


def compared(wanted: Versions, found: Mapping[Group, Row | None]) -> altair.Chart:
    """Written against predicted, one point for each aggregate; what is on the diagonal is right."""
    if not wanted:
        return nothing("There is no prediction to compare with: run phase 2 first")
    measure = _measure(wanted)
    points = []
    for group, (state, count) in wanted.items():
        row = found.get(group)
        equal = row is not None and (row["state"], row["input_count"]) == (json.loads(json.dumps(state)), count)
        written = _value(row["state"], measure) if row else 0.0
        points.append(
            {"predicted": _value(state, measure), "written": written, "equal": "equal" if equal else "DIFFERENT"}
        )
    frame = pd.DataFrame(points)
    ends = [float(frame[["predicted", "written"]].min().min()), float(frame[["predicted", "written"]].max().max())]
    diagonal = (
        altair.Chart(pd.DataFrame({"predicted": ends, "written": ends}))
        .mark_line(color="#888", strokeDash=[4, 4])
        .encode(x="predicted:Q", y="written:Q")
    )
    dots = (
        altair.Chart(frame)
        .mark_circle(size=50, opacity=0.6)
        .encode(
            x=altair.X("predicted:Q", title=f"predicted from the raw objects: {measure}"),
            y=altair.Y("written:Q", title=f"written: {measure}"),
            color=altair.Color(
                "equal:N", title="state", scale=altair.Scale(domain=["equal", "DIFFERENT"], range=[GOOD, BAD])
            ),
        )
    )
    same = int((frame["equal"] == "equal").sum())
    title = f"{same} of {len(frame)} aggregates were written exactly as predicted"
    return styled(diagonal + dots, [title], height=280)


def _measure(wanted: Versions) -> str:
    names = Counter(name for state, _ in wanted.values() for name in state.get("numbers", {}))
    delays = [name for name in names if "delay" in name]
    return f"sum of {(delays or [names.most_common(1)[0][0]])[0]}" if names else "count"


def _value(state: Mapping[str, Any], measure: str) -> float:
    name = measure.removeprefix("sum of ")
    return float(state.get("numbers", {}).get(name, {}).get("sum", 0)) if name != measure else float(state["count"])


def nothing(sentence: str) -> altair.Chart:
    """Return a chart that only states why there is no data to draw."""
    blank = altair.Chart(pd.DataFrame({"x": [0]})).mark_point(opacity=0).encode()
    return styled(blank, [sentence], height=20)


def styled(chart: Any, title: list[str], height: int = HEIGHT, width: int = WIDTH) -> altair.Chart:
    """Return the chart as the kit shows charts: SVG, its finding as the title, no ground of its own, the same width.

    What is too long for the width is broken into lines; names beside axes and in legends are shown whole.
    """
    altair.renderers.enable("pik")
    text = wrap(title[0], WIDTH // _TITLE_PIXELS, break_on_hyphens=False) or [""]
    below = [part for line in title[1:] for part in wrap(line, WIDTH // _SUBTITLE_PIXELS, break_on_hyphens=False)]
    lines = altair.Title(text if len(text) > 1 else text[0], subtitle=below, anchor="start")
    styled = chart.properties(width=width, height=height, title=lines).configure(background="transparent", padding=12)
    styled = styled.configure_axis(labelLimit=_LABEL, maxExtent=_LABEL).configure_legend(
        labelLimit=_LABEL, titleLimit=_LABEL
    )
    return styled.configure_view(strokeOpacity=0)  # type: ignore[no-any-return]


def svg(spec: Mapping[str, Any], **_: Any) -> dict[str, str]:
    """Return a chart as SVG. XML cannot hold every character that a name may have, and the library panics at those."""
    drawn: dict[str, str] = spec_to_mimebundle(_drawable(spec), format="svg", mode="vega-lite")
    return drawn


def _drawable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, "\n")
    if isinstance(value, Mapping):
        return {_drawable(name): _drawable(inner) for name, inner in value.items()}
    return [_drawable(inner) for inner in value] if isinstance(value, list) else value


altair.renderers.register("pik", svg)


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
