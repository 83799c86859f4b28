"""OTLP's JSON: protobuf's mapping, but ids in hex, enums as numbers, lowerCamelCase names only."""

from __future__ import annotations

import json

import pytest

from . import judge, telemetry
from .rules import JSON, Level, rule
from .wire import to_json

ENCODING = "OTLP: JSON Protobuf Encoding"
MAPPING = "protobuf: ProtoJSON Format, by OTLP: JSON Protobuf Encoding"
ONLY = {"transports": (JSON,)}


def tree(signal, number=1):
    """A good request as JSON, and the last item in it; of a metric its point."""
    shown = to_json(telemetry.good(signal, number))
    outer, inner, name = telemetry.PLACE[signal]
    item = shown[outer][0][inner][0][name][-1]
    return shown, item["gauge"]["dataPoints"][0] if signal == "metrics" else item


def send(client, signal, shown):
    return client.send(signal, shown if isinstance(shown, bytes) else json.dumps(shown).encode())


def time_field(signal):
    return "startTimeUnixNano" if signal == "traces" else "timeUnixNano"


@rule("json-unknown-names", Level.MUST, "OTLP/JSON receivers MUST ignore message fields with unknown names.", ENCODING, **ONLY)
@pytest.mark.parametrize("place", ["request", "group", "resource", "scope", "item", "value"])
@pytest.mark.parametrize("value", [{"a": [1, {"b": None}]}, "text", 1.5, None], ids=["object", "text", "number", "null"])
def test_unknown_names_are_ignored(client, signal, place, value):
    shown, item = tree(signal)
    outer, inner, _ = telemetry.PLACE[signal]
    group = shown[outer][0]
    target = {
        "request": shown,
        "group": group,
        "resource": group["resource"],
        "scope": group[inner][0]["scope"],
        "item": item,
        "value": item["attributes"][0]["value"],
    }[place]
    target["someNewField"] = value
    judge.accepted(send(client, signal, shown))


@rule(
    "json-camel-case-only",
    Level.MUST,
    "Original field names are not valid to use as keys: they are unknown names, which MUST be ignored.",
    ENCODING,
    **ONLY,
)
@pytest.mark.parametrize("place", ["request", "item"])
def test_original_field_names_are_unknown_names(client, signal, place):
    shown, item = tree(signal)
    if place == "request":
        shown = {{"traces": "resource_spans", "logs": "resource_logs", "metrics": "resource_metrics"}[signal]: 1}
    else:
        item["start_time_unix_nano" if signal == "traces" else "time_unix_nano"] = "soon"
    judge.accepted(send(client, signal, shown))


@rule("json-hex-ids", Level.MUST, "traceId and spanId are case-insensitive hex-encoded strings.", ENCODING,
      signals=("traces", "logs"), **ONLY)  # fmt: skip
@pytest.mark.parametrize("write", [str.lower, str.upper, str.title], ids=["lower", "upper", "mixed"])
def test_hex_ids_are_read_in_any_case(client, signal, write):
    shown, item = tree(signal)
    item["traceId"], item["spanId"] = write("5b8efff798038103d269b633813fc60c"), write("eee19b7ec3c1b174")
    judge.accepted(send(client, signal, shown))


@rule("json-no-base64-ids", Level.MUST, "Ids are not base64-encoded: what is no hex cannot be decoded.", ENCODING,
      signals=("traces", "logs"), **ONLY)  # fmt: skip
@pytest.mark.parametrize("value", ["W47/95gDgQPSabYzgT/GDA==", "0123456789abcdefghijklmnopqrstuv", "abc"])
def test_ids_that_are_no_hex_are_refused(client, signal, value):
    shown, item = tree(signal)
    item["traceId"] = value
    judge.bad_or_rejected(send(client, signal, shown))


@rule("json-enum-numbers", Level.MUST, "Values of enum fields MUST be encoded as integer values.", ENCODING, **ONLY)
def test_enums_are_read_as_numbers(client, signal):
    shown, item = tree(signal)
    if signal == "traces":
        item |= {"kind": 2, "status": {"code": 1}}
    elif signal == "logs":
        item["severityNumber"] = 17
    else:
        outer, inner, name = telemetry.PLACE[signal]
        total = {"dataPoints": [item], "aggregationTemporality": 2, "isMonotonic": True}
        shown[outer][0][inner][0][name] = [{"name": "items", "sum": total}]
    judge.accepted(send(client, signal, shown))


@rule("json-no-enum-names", Level.STRICT, "Only integer enum values are allowed; names MUST NOT be used, so they are refused.",
      ENCODING, signals=("traces", "logs"), **ONLY)  # fmt: skip
def test_names_of_enums_are_refused(client, signal):
    shown, item = tree(signal)
    item |= {"kind": "SPAN_KIND_SERVER"} if signal == "traces" else {"severityNumber": "SEVERITY_NUMBER_INFO"}
    judge.bad_or_rejected(send(client, signal, shown))


@rule("json-int64", Level.MUST, "64-bit integers: either numbers or strings are accepted when decoding.", ENCODING, **ONLY)
@pytest.mark.parametrize("write", [str, int], ids=["string", "number"])
def test_64_bit_integers_are_read_as_text_and_as_numbers(client, signal, write):
    shown, item = tree(signal)
    item[time_field(signal)] = write(telemetry.START_NS)
    item["attributes"].append({"key": "n", "value": {"intValue": write(-(2**63))}})
    if signal == "traces":
        item["endTimeUnixNano"] = write(telemetry.START_NS + 5)
    judge.accepted(send(client, signal, shown))


@rule("json-null", Level.MUST, "null is an accepted value of every field and means its default.", MAPPING, **ONLY)
def test_null_is_the_default(client, signal):
    shown, item = tree(signal)
    item["flags"] = None
    outer, inner, _ = telemetry.PLACE[signal]
    shown[outer][0]["schemaUrl"] = shown[outer][0][inner][0]["schemaUrl"] = None
    shown[outer][0]["resource"]["droppedAttributesCount"] = None
    judge.accepted(send(client, signal, shown))


@rule("json-doubles", Level.MUST, 'Doubles are numbers or the strings "NaN", "Infinity", "-Infinity".', MAPPING, **ONLY)
@pytest.mark.parametrize("value", [1, 1.5e300, "1.5", "NaN", "Infinity", "-Infinity"], ids=str)
def test_doubles_are_read_in_every_form(client, signal, value):
    shown, item = tree(signal)
    item["attributes"].append({"key": "x", "value": {"doubleValue": value}})
    if signal == "metrics":
        item.pop("asInt", None)
        item["asDouble"] = value
    judge.accepted(send(client, signal, shown))


@rule("json-bytes", Level.MUST, "Bytes are base64, standard or URL-safe, with or without padding.", MAPPING, **ONLY)
@pytest.mark.parametrize("value", ["+/8=", "-_8=", "-_8", ""], ids=["standard", "url", "unpadded", "empty"])
def test_bytes_are_base64(client, signal, value):
    shown, item = tree(signal)
    item["attributes"].append({"key": "b", "value": {"bytesValue": value}})
    judge.accepted(send(client, signal, shown))


@rule("json-text", Level.MUST, "Strings may use every escape of JSON, names may come in any order, white space is free.",
      "RFC 8259 §2, §7", **ONLY)  # fmt: skip
def test_escapes_order_and_white_space_are_free(client, signal):
    shown, item = tree(signal)
    item["attributes"].append({"key": "text", "value": {"stringValue": "\u00e9\U0001f98a \t\b\f /"}})
    text = json.dumps(_reversed(shown), indent="\t\r\n ", ensure_ascii=True).replace("probe", "\\u0070robe")
    judge.accepted(send(client, signal, b"\r\n " + text.encode() + b"\n"))


def _reversed(node):
    if isinstance(node, dict):
        return {name: _reversed(node[name]) for name in reversed(node)}
    return [_reversed(item) for item in node] if isinstance(node, list) else node


WRONG = {
    "text-for-time": ("time", "soon"),
    "time-over-64-bits": ("time", "99999999999999999999"),
    "negative-time": ("time", "-5"),
    "object-for-time": ("time", {}),
    "fraction-for-time": ("time", "1.5"),
    "object-for-flags": ("flags", {"a": 1}),
    "text-for-list": ("attributes", "text"),
    "number-for-key": ("attributes", [{"key": 1, "value": {"intValue": 1}}]),
    "text-for-bool": ("attributes", [{"key": "a", "value": {"boolValue": "maybe"}}]),
    "int-over-64-bits": ("attributes", [{"key": "a", "value": {"intValue": "9223372036854775808"}}]),
}


@rule("json-wrong-values", Level.MUST, "Data that cannot be decoded: the server MUST answer 400.", "OTLP: Bad Data", **ONLY)
@pytest.mark.parametrize("form", WRONG)
def test_values_of_the_wrong_kind_are_refused(client, signal, form):
    field, value = WRONG[form]
    shown, item = tree(signal)
    item[time_field(signal) if field == "time" else field] = value
    judge.bad_or_rejected(send(client, signal, shown))


@rule("json-surrogates", Level.STRICT, "A lone surrogate is no text: it is refused or replaced, and nothing breaks.",
      "RFC 8259 §8.2", **ONLY)  # fmt: skip
def test_a_lone_surrogate_breaks_nothing(client, signal):
    shown, _ = tree(signal)
    judge.decided(send(client, signal, json.dumps(shown).replace("probe", "pro\\ud800be").encode()))
    judge.alive(client, signal)


@rule("json-same-name-twice", Level.STRICT, "An object that names a field twice is decided on, not failed at.",
      "RFC 8259 §4", **ONLY)  # fmt: skip
def test_a_name_twice_breaks_nothing(client, signal):
    shown, _ = tree(signal)
    outer = telemetry.PLACE[signal][0]
    judge.decided(send(client, signal, json.dumps(shown)[:-1].encode() + f', "{outer}": []}}'.encode()))
