"""``pik mapping``: how other people's records become events: propose, list, show, try."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pik.cli.output import EnvOption, JsonOption, console, emit
from pik.text import advice, printable

if TYPE_CHECKING:
    from pik.mappings.apply import Applied
    from pik.mappings.infer import Proposal
    from pik.producer import Item, Source

mapping = typer.Typer(
    no_args_is_help=True,
    help="""How other people's records become events. docs/mappings.md explains it.

    Typical: pik mapping infer orders.csv proposes a mapping; write it into pik.toml, try it with pik mapping test
    orders orders.csv, and send with pik ingest orders.csv --mapping orders.
    """,
)
_SHOWN = 5
_WIDTH = 400  # characters of a line or a payload that are shown

FileArgument = Annotated[list[str], typer.Argument(metavar="FILE", help="Files, folders, patterns, s3://…, or -.")]
FormatOption = Annotated[str, typer.Option("--format", help="jsonl, json, csv or parquet, if it is not detected.")]
DelimiterOption = Annotated[str, typer.Option(help="A CSV file's delimiter, if it is not detected.")]
EncodingOption = Annotated[str, typer.Option(help="A CSV file's encoding, if it is not detected.")]


def register(app: typer.Typer) -> None:
    """Add the ``mapping`` group to the command line."""
    app.add_typer(mapping, name="mapping")


@mapping.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the mappings of pik.toml and of the kit."""
    from pik.mappings.catalog import built_in, known

    found = known()
    own = [name for name in found if found[name] is not built_in().get(name)]
    lines = [
        f"{one.name:<16} {one.digest[:16]}  {'pik.toml' if one.name in own else 'built in'}  {one.about}"
        for one in found.values()
    ]
    data = [{"name": m.name, "digest": m.digest, "built_in": m.name not in own, **m.as_dict()} for m in found.values()]
    emit(data, as_json=as_json, text="\n".join(lines))


@mapping.command()
def show(
    name: Annotated[str, typer.Argument(help="A mapping's name, or a file with a mapping (shop.toml).")],
    as_json: JsonOption = False,
) -> None:
    """Show a mapping in the form of pik.toml, to start one of your own."""
    from pik.mappings.catalog import find

    found = find(name)
    emit(
        {"name": found.name, "digest": found.digest, **found.as_dict()},
        as_json=as_json,
        text=f"# events keep: {found.reference}\n{found.to_toml()}",
    )


@mapping.command()
def infer(
    file: FileArgument,
    name: Annotated[str, typer.Option(help="The mapping's name [default: the file's].")] = "",
    env: EnvOption = "local",
    file_format: FormatOption = "",
    delimiter: DelimiterOption = "",
    encoding: EncodingOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose a mapping from a file's first 500 records. It gives the reasons, and writes nothing.

    Exit codes: 0 the mapping is complete, 4 something in it is missing.
    """
    from pik.mappings.infer import propose

    source = open_source(file, file_format, delimiter, encoding, None, env)
    proposal = propose((record for _, record in source.records(any_columns=True)), name or _name_of(file[0]))
    data = {"reasons": proposal.reasons, "missing": proposal.missing, "mapping": proposal.mapping.as_dict()}
    emit({"name": proposal.mapping.name, **data}, as_json=as_json, text=_proposal(proposal, file))
    raise typer.Exit(4 if proposal.missing else 0)


def _name_of(file: str) -> str:
    name = Path(file).name.partition(".")[0].lower()
    return "".join(character if character.isalnum() else "-" for character in name).strip("-") or "records"


def _proposal(proposal: Proposal, file: list[str]) -> str:
    import shlex

    found, files = proposal.mapping, " ".join(map(shlex.quote, file))
    if found.recognise:  # the kit's own is there already
        notes = proposal.reasons
        steps = ["do this:", f"  pik ingest {files} --mapping {found.name} --dry-run --sample 3"]
    else:
        notes = []
        first = "add what is not known, and write all of it" if proposal.missing else "write all of it"
        steps = [f"do this: {first} into pik.toml, then", f"  pik mapping test {shlex.quote(found.name)} {files}"]
    table = [] if found.recognise else [*proposal.to_toml().splitlines(), ""]
    # Comments, so that all of it can be kept as a file, and is: why each setting is as it is stands beside it.
    comments = [[f"# {line}" for line in lines] for lines in (notes, steps)]
    return "\n".join(printable(line) for line in [*comments[0], *table, *comments[1]])


@mapping.command("test")
def try_(
    name: Annotated[str, typer.Argument(help="A mapping's name, or a file with a mapping (shop.toml).")],
    file: FileArgument,
    sample: Annotated[int, typer.Option(min=0, help="How many records to show with their events.")] = 3,
    env: EnvOption = "local",
    file_format: FormatOption = "",
    delimiter: DelimiterOption = "",
    encoding: EncodingOption = "",
    as_json: JsonOption = False,
) -> None:
    """Try a mapping on every record of a file; nothing is sent. Exit codes: 0 all are events, 4 some are not."""
    from pik.mappings.apply import Applied
    from pik.mappings.catalog import find

    source = open_source(file, file_format, delimiter, encoding, Applied(find(name)), env)
    data, text = tried(source, sample=sample, all_of_it=True)
    emit(data, as_json=as_json, text=text)
    raise typer.Exit(4 if data["rejected"] else 0)


def open_source(
    what: list[str], file_format: str, delimiter: str, encoding: str, mapping: Applied | None, env: str = "local"
) -> Source:
    """Open what a command names; print what was found out about it, as it is found."""
    from pik import environments, producer

    reading = producer.Reading(file_format, "\t" if delimiter in {"tab", "\\t"} else delimiter, encoding)
    where = environments.environment(env) if any(name.startswith("s3://") for name in what) else None
    source = producer.open_source(what, reading, mapping, where)
    for note in source.notes:
        console.print(note, soft_wrap=True)
    source.on_note = lambda note: console.print(note, soft_wrap=True)
    return source


def tried(source: Source, *, sample: int, all_of_it: bool) -> tuple[dict[str, Any], str]:
    """Return what becomes of the records of a source, or of the first ``sample``: as data, and for people."""
    codes, events, shown, problems = Counter[str](), 0, list[dict[str, Any]](), list[dict[str, Any]]()
    complete = True
    for number, (file, record) in enumerate(source.records(), 1):
        if number > sample and not all_of_it:
            complete = False
            break
        made = [_made(item) for item in source.items(file, record)]
        bad = [one for one in made if "code" in one]
        events += len(made) - len(bad)
        codes.update(one["code"] for one in bad)
        problems += bad[: _SHOWN - len(problems)]
        if number <= sample:
            shown.append({"line": record.text[:_WIDTH].decode("utf-8", "replace"), "made": made})
    data = {"events": events, "rejected": codes.total(), "by_code": dict(codes), "sample": shown, "problems": problems}
    data["complete"] = complete
    return data, "\n".join(printable(line) for line in _lines(data))


def _made(item: Item) -> dict[str, Any]:
    """What an item would be: an event, or the reason why it is none."""
    from pik.pipeline.parsing import parse_event
    from pik.pipeline.strict_json import Rejected
    from pik.producer.sending import known_shape

    if item.trouble:
        return {"place": item.where, **item.trouble._asdict()}
    try:
        event = parse_event(item.body, {}, new=True)
    except Rejected as error:
        reason = {"place": item.where, "code": error.code, "error": error.message, "do_this": error.do_this}
        return reason | known_shape(error.code, item.body)
    names = ("source", "event_type", "entity_id", "event_time", "idempotency_key", "payload", "mapping", "event_id")
    return {"place": item.where, "assumed_utc": event.assumed_utc, **{name: getattr(event, name) for name in names}}


def _lines(data: dict[str, Any]) -> Iterator[str]:
    for record in data["sample"]:
        yield record["line"]
        for one in record["made"]:
            yield from _one(one)
        yield ""
    count = data["events"]
    yield f"{count:,} event{'' if count == 1 else 's'}, {data['rejected']:,} rejected; nothing was sent"
    if not data["complete"]:
        read = len(data["sample"])
        yield f"stopped after {read:,} record{'' if read == 1 else 's'}: the rest was not looked at"
    hidden = {one["place"] for record in data["sample"] for one in record["made"]}
    for problem in data["problems"]:
        if problem["place"] not in hidden:
            yield f"  {problem['place']}"
            yield from _one(problem)


def _one(made: dict[str, Any]) -> Iterator[str]:
    if "code" in made:
        yield f"  ✗ {made['place']}: {made['code']}: {made['error']}"
        yield from advice("    do this  ", made["do_this"]).split("\n")
        return
    assumed = " (no zone: UTC is assumed)" if made["assumed_utc"] else ""
    yield f"  ✓ {made['source']} · {made['event_type']} · {made['entity_id']} · {made['event_time']}{assumed}"
    yield f"    key      {made['idempotency_key'] or 'none: the content is the identity'}"
    payload = json.dumps(made["payload"], ensure_ascii=False)
    yield f"    payload  {payload if len(payload) <= _WIDTH else payload[:_WIDTH] + '…'}"
