"""The investigations' charts: the title says what was found, axes have units, times are UTC; SVG, so they open offline.

They take plain rows (mappings) or frames of :mod:`pik.frames`, and never change them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import altair
import pandas as pd

from pik.notebooks.figures import BAD, GOOD, nothing, styled
from pik.workbench.times import shifted

PLAIN = "#3b6ea5"
COLUMNS, ROWS = 48, 30  # cells of a heat map, at most
VERDICT_COLOURS = {"passed": GOOD, "failed": BAD, "inconclusive": "#9a6700", "none": PLAIN}
STATUS_COLOURS = {"ACCEPTED": GOOD, "DUPLICATE": "#9a6700", "CONFLICT": BAD}
_STEPS = (60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def arrivals_expected(windows: pd.DataFrame, found: Iterable[tuple[datetime, datetime]], finding: str) -> altair.Chart:
    """Arrivals against what the stream's baseline expects.

    Args:
        windows: ``start``, ``end`` (times), ``expected`` and ``seen`` (events).
        found: the windows that are missing; marked red.
        finding: the title.
    """
    if not len(windows):
        return nothing(finding)
    gaps = list(found)
    records: list[dict[Any, Any]] = windows.to_dict("records")
    bars = [_bar(row, "arrived", 0, int(row["seen"])) for row in records]
    bars += [
        _bar(row, "missing", int(row["seen"]), round(float(row["expected"]), 2))
        for row in records
        if row["seen"] < row["expected"] and any(row["start"] < b and a < row["end"] for a, b in gaps)
    ]
    axis = _time("start:T", "event time", list(windows["start"]))
    unit = f"events per {_span(int((windows['end'].iloc[0] - windows['start'].iloc[0]).total_seconds()))}"
    drawn = altair.Chart(pd.DataFrame(bars)).mark_rect(stroke="#ffffff", strokeWidth=0.5)
    layers = [
        drawn.encode(
            x=axis,
            x2="end:T",
            y=altair.Y("low:Q", title=unit),
            y2="high:Q",
            color=_colours("state", {"arrived": PLAIN, "missing": BAD}),
            opacity=altair.condition("datum.state == 'missing'", altair.value(0.45), altair.value(1.0)),
        )
    ]
    expected = [_bar(row, "expected", 0, round(float(row["expected"]), 2)) for row in records]
    line = altair.Chart(pd.DataFrame(expected)).mark_line(interpolate="step-after", color="#444", strokeDash=[4, 3])
    layers.append(line.encode(x=axis, y=altair.Y("high:Q", title=unit)))
    if gaps:
        marked = pd.DataFrame([{"start": _iso(a), "end": _iso(b)} for a, b in gaps])
        layers.insert(0, altair.Chart(marked).mark_rect(color=BAD, opacity=0.15).encode(x=axis, x2="end:T"))
    subtitle = "blue: events that arrived; red: what is missing; dashed: what the stream's baseline expects"
    return styled(altair.layer(*layers), [finding, subtitle])


def _bar(row: Mapping[Any, Any], state: str, low: float, high: float) -> dict[str, Any]:
    return {"start": _iso(row["start"]), "end": _iso(row["end"]), "state": state, "low": low, "high": high}


def lag_heat_map(arrivals: pd.DataFrame, finding: str) -> altair.Chart:
    """Event time by ingest time; what is late stands below what came at once.

    Args:
        arrivals: rows with ``event_time`` and ``ingest_time``.
        finding: the title.
    """
    if not len(arrivals):
        return nothing(finding)
    happened, came = list(arrivals["event_time"]), list(arrivals["ingest_time"])
    across, down = _step(happened, COLUMNS), _step(came, ROWS)
    counts: dict[tuple[datetime, datetime], int] = {}
    for event, ingest in zip(happened, came, strict=True):
        cell = (_floor(event, across), _floor(ingest, down))
        counts[cell] = counts.get(cell, 0) + 1
    rows = [
        {
            "event": _iso(x),
            "event end": _iso(shifted(x, timedelta(seconds=across))),
            "ingest": _iso(y),
            "ingest end": _iso(shifted(y, timedelta(seconds=down))),
            "arrivals": count,
        }
        for (x, y), count in sorted(counts.items())
    ]
    cells = (
        altair.Chart(pd.DataFrame(rows))
        .mark_rect()
        .encode(
            x=_time("event:T", "event time", happened, f", cells of {_span(across)}"),
            x2="event end:T",
            y=_time("ingest:T", "ingest time", came, f", cells of {_span(down)}", altair.Y),
            y2="ingest end:T",
            color=altair.Color("arrivals:Q", title="arrivals", scale=altair.Scale(scheme="viridis", type="symlog")),
        )
    )
    return styled(cells, [finding], height=260)


def by_time(arrivals: pd.DataFrame, finding: str, *, time: str = "ingest_time", colour: str = "status") -> altair.Chart:
    """Count arrivals over time, stacked by ``colour`` (a column of text)."""
    if not len(arrivals):
        return nothing(finding)
    moments = list(arrivals[time])
    step = _step(moments, COLUMNS)
    counts: dict[tuple[datetime, str], int] = {}
    for moment, kind in zip(moments, arrivals[colour], strict=True):
        cell = (_floor(moment, step), str(kind))
        counts[cell] = counts.get(cell, 0) + 1
    rows, tops = list[dict[str, Any]](), dict[datetime, int]()
    for (start, kind), count in sorted(counts.items()):
        below = tops.get(start, 0)
        tops[start] = below + count
        end = _iso(shifted(start, timedelta(seconds=step)))
        rows.append({"start": _iso(start), "end": end, colour: kind, "below": below, "arrivals": tops[start]})
    kinds = sorted({str(kind) for kind in arrivals[colour]})
    known = {kind: STATUS_COLOURS[kind] for kind in kinds if kind in STATUS_COLOURS}
    bars = (
        altair.Chart(pd.DataFrame(rows))
        .mark_rect(stroke="#ffffff", strokeWidth=0.5)
        .encode(
            x=_time("start:T", time.replace("_", " "), moments),
            x2="end:T",
            y=altair.Y("arrivals:Q", title=f"arrivals per {_span(step)}"),
            y2="below:Q",
            color=_colours(colour, known) if len(known) == len(kinds) else altair.Color(f"{colour}:N", title=colour),
        )
    )
    return styled(bars, [finding])


def timeline(rows: Sequence[Mapping[str, Any]], finding: str) -> altair.Chart:
    """What happened to one thing, in the order of time: one point each, by the store that tells it.

    Args:
        rows: ``time`` (a time or None: not shown), ``what`` (a few words), ``source`` (the store).
        finding: the title.

    Ingest, replay and processing are often years apart from the event, so the axis is the order, not the time.
    """
    timed = [row for row in rows if row.get("time") is not None]
    if not timed:
        return nothing(finding)
    points = [
        {
            "order": number,
            "when": f"{row['time']:%Y-%m-%d %H:%M:%S}",
            "what": str(row["what"]),
            "source": str(row["source"]),
        }
        for number, row in enumerate(timed, 1)
    ]
    frame = pd.DataFrame(points)
    # The words stand beside the axis, where there is room for them; beside its point the last one would be cut.
    labels = [f"{point['when']}  {point['what']}" for point in points]
    frame["label"] = [
        f"{text if len(text) <= 80 else text[:79] + '…'} ({number})" for number, text in enumerate(labels, 1)
    ]
    dots = (
        altair.Chart(frame)
        .mark_point(filled=True, size=90, color=PLAIN)  # the colours of a scheme are too pale for one of the grounds
        .encode(
            y=altair.Y("label:N", title="in the order of time (UTC)", sort=list(frame["label"])),
            x=altair.X(
                "source:N",
                title="store that tells it",
                sort=list(dict.fromkeys(frame["source"])),
                axis=altair.Axis(labelAngle=-30, grid=True),
            ),
        )
    )
    return styled(dots, [finding], height=max(80, 24 * len(points)), width=420)


def history(rows: Sequence[Mapping[str, Any]], finding: str) -> altair.Chart:
    """What was done when: a lane for each kind of thing, a point for each, coloured by how it came out.

    Args:
        rows: ``time``, ``what`` (the lane), ``verdict`` (may be empty), ``says`` (the tooltip).
        finding: the title.
    """
    if not rows:
        return nothing(finding)
    frame = pd.DataFrame([{**row, "time": _iso(row["time"]), "verdict": row["verdict"] or "none"} for row in rows])
    colours = {kind: colour for kind, colour in VERDICT_COLOURS.items() if kind in set(frame["verdict"])}
    points = (
        altair.Chart(frame)
        .mark_point(filled=True, size=90, opacity=0.8)
        .encode(
            x=_time("time:T", "recorded", [row["time"] for row in rows]),
            y=altair.Y("what:N", title="what was done", axis=altair.Axis(grid=True, titlePadding=14)),
            color=_colours("verdict", colours),
            tooltip=["says:N", "time:T"],
        )
    )
    return styled(points, [finding], height=max(100, 34 * frame["what"].nunique()))


def counts(rows: Mapping[str, int], finding: str, *, what: str, unit: str, bad: Iterable[str] = ()) -> altair.Chart:
    """Draw one bar for each name, the largest first; ``bad`` ones are red."""
    if not rows:
        return nothing(finding)
    wrong = set(bad)
    frame = pd.DataFrame(
        [
            {what: name, unit: count, "state": "to look at" if name in wrong else "fine"}
            for name, count in sorted(rows.items(), key=lambda item: -item[1])[:30]
        ]
    )
    bars = (
        altair.Chart(frame)
        .mark_bar()
        .encode(
            x=altair.X(f"{unit}:Q", title=unit, axis=altair.Axis(tickMinStep=1)),
            y=altair.Y(f"{what}:N", title=what, sort="-x"),
            color=_colours("state", {"fine": PLAIN, "to look at": BAD}),
        )
    )
    return styled(bars, [finding], height=max(60, 22 * len(frame)))


def _time(field: str, name: str, moments: Sequence[datetime], more: str = "", channel: Any = altair.X) -> Any:
    """An axis of UTC time that says once what all its labels share."""
    first, last = min(moments), max(moments)
    seconds = (last - first).total_seconds()
    if seconds > 2 * 86_400:
        shared, form = f"{first:%Y}", "%b %d"
    else:
        shared, form = f"{first:%Y-%m-%d}", "%H:%M" if seconds > 600 else "%H:%M:%S"
    axis = altair.Axis(format=form, labelOverlap=True, labelSeparation=8, tickCount=10)
    return channel(field, title=f"{name} (UTC{more}), {shared}", scale=altair.Scale(type="utc"), axis=axis)


def _colours(field: str, colours: Mapping[str, str]) -> Any:
    scale = altair.Scale(domain=list(colours), range=list(colours.values()))
    return altair.Color(f"{field}:N", title=field, scale=scale)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _step(moments: Sequence[datetime], most: int) -> int:
    """Seconds of one cell, so that at most about ``most`` of them span the moments."""
    wanted = (max(moments) - min(moments)).total_seconds() / most
    return next((step for step in (1, 5, 15, *_STEPS) if step >= wanted), _STEPS[-1])


def _floor(moment: datetime, step: int) -> datetime:
    seconds = int((moment - _EPOCH).total_seconds())
    return shifted(_EPOCH, timedelta(seconds=seconds - seconds % step))


def _span(seconds: int) -> str:
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as plain values (missing ones are None)."""
    return [
        {str(name): None if type(value).__name__ in ("NAType", "NaTType") else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
