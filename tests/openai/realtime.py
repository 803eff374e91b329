"""The types of the Realtime API in OpenAI's own package.

`realtime.py client` reads events that a client sends, one a line, and reports each that does not fit its type: a missing or
unknown field, or a wrong value. `realtime.py server` prints examples of every event that a server sends: with all fields,
with the required ones only, and with each alternative of each union.
"""

import json
import sys
import typing
from types import UnionType

import pydantic
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

DEEPEST = 8


def members(annotation):
    """The alternatives of a union, through its annotations and optional parts."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return members(typing.get_args(annotation)[0])
    if origin in (typing.Union, UnionType):
        return [one for part in typing.get_args(annotation) for one in members(part)]
    return [] if annotation is type(None) else [annotation]


def is_model(annotation):
    return isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def unknown(value, path):
    """The paths of fields that no type has."""
    if isinstance(value, pydantic.BaseModel):
        found = [f"{path}.{name}" for name in value.model_extra or {}]
        for name in type(value).model_fields:
            found += unknown(getattr(value, name), f"{path}.{name}")
        return found
    if isinstance(value, (list, tuple)):
        return [one for index, item in enumerate(value) for one in unknown(item, f"{path}[{index}]")]
    return []


def check_client():
    by_type = {kind.model_fields["type"].annotation.__args__[0]: kind for kind in members(RealtimeClientEvent)}
    wrong = 0
    for line in filter(str.strip, sys.stdin):
        event = json.loads(line)
        kind = by_type.get(event["type"])
        try:
            problems = ["no such event"] if kind is None else unknown(kind.model_validate(event, strict=True), "event")
        except pydantic.ValidationError as error:
            # Of a union's alternatives, only the one with the right `type` matters.
            others = {one["loc"][:-1] for one in error.errors() if one["type"] == "literal_error"}
            errors = [one for one in error.errors() if one["loc"][:-1] not in others] or error.errors()
            problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in errors]
        wrong += bool(problems)
        for problem in problems:
            print(f"{event['type']}: {problem}: {line.strip()}")
    sys.exit(1 if wrong else 0)


def samples(annotation, full, depth=0):
    """Values of a type: the first, and one for each alternative."""
    values = []
    for one in members(annotation):
        origin, arguments = typing.get_origin(one), typing.get_args(one)
        if origin is typing.Literal:
            values += arguments
        elif is_model(one):
            values += models(one, full, depth + 1)
        elif origin in (list, typing.List):
            values += [[value] for value in samples(arguments[0], full, depth)] or [[]]
        elif origin in (dict, typing.Dict):
            values.append({"key": "value"})
        else:
            values.append({str: "AAAA", int: 1, float: 1.5, bool: True}.get(one, {}))
    return values


def models(model, full, depth=0):
    """Objects of a model: one with the first value of each field, and one for each other value."""
    if depth > DEEPEST:
        return [{}]
    first, others = {}, []
    for name, field in model.model_fields.items():
        key = field.alias or name
        if not (full or field.is_required()):
            continue
        values = samples(field.annotation, full, depth)
        if values:
            first[key] = values[0]
            others += [(key, value) for value in values[1:]]
    return [first] + [{**first, key: value} for key, value in others]


def print_server():
    for kind in members(RealtimeServerEvent):
        for full in (True, False):
            for event in models(kind, full):
                kind.model_validate(event)
                print(json.dumps(event))


if __name__ == "__main__":
    {"client": check_client, "server": print_server}[sys.argv[1]]()
