#!/usr/bin/env python3
"""Writes the corpus files that have names: well-formed messages, and ones that are wrong in one point each.

To be run again when the wire changes; `cargo test -p distribution-tests --test corpus` fails where the
well-formed ones are not understood any more. Files that fuzzing found are named by a hash and are kept.
"""

import struct
from hashlib import sha256
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
U32 = 2**32 - 1
U64 = 2**64 - 1


def put(target, files):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


# The codec: bincode 2 with variable-length integers.


def number(n):
    if n < 251:
        return bytes([n])
    for mark, size in [(251, 2), (252, 4), (253, 8), (254, 16)]:
        if n < 1 << 8 * size:
            return bytes([mark]) + n.to_bytes(size, "little")
    raise ValueError(n)


def numbers(*all):
    return b"".join(number(n) for n in all)


def signed(n):
    return number(2 * n if n >= 0 else -2 * n - 1)


def text(t):
    t = t if isinstance(t, bytes) else t.encode()
    return number(len(t)) + t


NONE, SOME = b"\0", b"\1"


# Handshakes.


def preface(role, version=2, security=0, codec=b"bincode2"):
    return b"\x89DISTRIB" + struct.pack("<HBB", version, role, security) + codec + bytes(12)


def message(body):
    return struct.pack("<I", len(body)) + body


STRUCTURE = 7  # Hash of the structure of the method's types.


def method_id(service, version, name, signature):
    texts = b"".join(text.encode() + b"\xff" for text in (service, name, signature))
    digest = sha256(texts + struct.pack("<IQ", version, STRUCTURE)).digest()
    return int.from_bytes(digest[:8], "big")


COMPUTE, ASYNC = 0, 1
NOT_IDEMPOTENT = b"\0"
NO_STREAMS = b"\0\0"


def method(service, version, name, signature, kind):
    return (method_id(service, version, name, signature), service, version, name, signature, kind)


METHOD = method("Arith", 1, "sum", "fn(Vec<i64>) -> i64", COMPUTE)
TYPES = (("", "fn(Params) -> i64"), ("Params", "{ rate: f64, l2: f64 }"))
MASTER, NODE, CALLER = preface(1), preface(2), preface(3)


def hello(name="c1", max_message_size=65536, node=b"\0", session=b"\0"):
    return text(name) + number(max_message_size) + node + session


def registration(
    name="n1",
    slots=2,
    busy=0,
    async_limit=1000,
    max_message_size=65536,
    labels=(("zone", "eu"),),
    methods=(METHOD,),
    types=TYPES,
    instance=7,
    session=b"\0",
):
    body = text(name) + numbers(instance, slots, busy, async_limit, max_message_size, len(labels))
    body += b"".join(text(key) + text(value) for key, value in labels)
    body += number(len(methods))
    for id, service, version, method, signature, kind in methods:
        body += number(id) + text(service) + number(version) + text(method) + text(signature)
        body += number(STRUCTURE) + number(len(types)) + b"".join(text(name) + text(shape) for name, shape in types)
        body += number(kind) + NOT_IDEMPOTENT + NO_STREAMS
    return body + session


PLAIN = registration()
UP_TO_LABELS = text("x") + numbers(7, 1, 0, 1, 65536)
BEHIND_SLOTS = PLAIN[5:]


put(
    "preface",
    {
        "node": NODE + message(PLAIN),
        "node_without_registration": NODE,
        "node_other_version": preface(2, version=99),
        "node_other_role": preface(7),
        "node_wants_security": preface(2, security=3),
        "node_other_codec": preface(2, codec=b"postcard"),
        "node_other_codec_in_control_characters": preface(2, codec=b"\n\x1b[2J\0\xff."),
        "node_claims_4_gib": NODE + b"\xff\xff\xff\xff",
        "node_registration_cut": NODE + message(PLAIN)[:-3],
        "node_registration_bytes_left_over": NODE + message(PLAIN + b"\0"),
        "node_registration_rubbish": NODE + message(b"\xff\xff\xff"),
        "node_frames_follow": NODE + message(PLAIN) + b"\0\0\0\0\x05",
        "node_name_claims_1_gib": NODE + message(number(1 << 30)),
        "node_claims_2_60_labels": NODE + message(UP_TO_LABELS + number(1 << 60)),
        "master_welcome": MASTER + message(numbers(0, 5, 1_000_000, 6_000_000, 64 << 20, 0)),
        "master_welcome_of_extremes": MASTER + message(numbers(0, U64, 0, U64, 0, 1, 2**128 - 1, U64, 1)),
        "master_refuses": MASTER + message(b"\1" + text("no such secret") + b"\1"),
        "master_refuses_with_control_characters": MASTER + message(b"\1" + text("a\nforged line\x1b[31m") + b"\0"),
        "caller": CALLER + message(hello()),
        "node_makes_nested_calls": preface(2)[:20] + b"\1" + preface(2)[21:] + message(hello("n1", node=b"\1" + number(7))),
        "caller_hello_cut": CALLER + message(hello())[:-1],
        "caller_registers": CALLER + message(PLAIN),
        "caller_name_forges_a_log_line": CALLER + message(hello("a\nWARN all is well")),
        "caller_name_claims_1_gib": CALLER + message(number(1 << 30)),
        "caller_max_message_size_small": CALLER + message(hello(max_message_size=3)),
        "master_accepts_a_caller": MASTER + message(numbers(0, 7 << 40, 500_000, 15_000_000, 64 << 20, 128, 0, 0)),
        "master_resumes_a_caller": MASTER + message(numbers(0, 7 << 40, 500_000, 15_000_000, 64 << 20, 128, 0, 1, 2**127, 30_000_000, 1)),
        "caller_resumes": CALLER + message(hello(session=b"\1" + number(2**128 - 1))),
        "node_resumes": NODE + message(registration(session=b"\1" + number(2**128 - 1) + number(2))),
        "master_accepts_a_caller_of_extremes": MASTER + message(numbers(0, U64, 0, U64, 0, 2**16 - 1, 1, U64, 1, 2**128 - 1, U64, 1)),
        "master_refuses_a_caller": MASTER + message(b"\1" + text("10000 callers are connected already") + b"\0"),
        "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
        "almost_magic": b"\x89DISTRIX",
        "nothing": b"",
    },
)

put(
    "registration",
    {
        "plain": PLAIN,
        "least": registration("x", 1, 0, 1, 16384, (), ()),
        "many_methods": registration(
            methods=[method(f"S{i % 3}", i, f"method_{i}", "fn(u8) -> u8", i % 2) for i in range(30)],
            types=(),
        ),
        "many_labels": registration(labels=[(f"k{i}", "v") for i in range(65)], methods=()),
        "name_forges_a_log_line": registration("a\nWARN all is well"),
        "name_empty": registration(""),
        "name_too_long": registration("x" * 129),
        "name_not_utf8": b"\2\xff\xfe" + PLAIN[3:],
        "name_turns_right_to_left": registration("a\u202eb\u2028c"),
        "name_claims_2_62": number(1 << 62),
        "signature_with_a_line": registration(methods=[method("A", 1, "f", "fn(\n)", ASYNC)]),
        "types_none": registration(types=()),
        "types_with_a_line": registration(types=[("", "fn(\n)")]),
        "types_claim_2_60": PLAIN[: PLAIN.index(b"fn(V") - 1] + text("fn()") + number(1 << 60),
        "no_slots": registration(slots=0),
        "slots_of_extremes": registration(slots=U32),
        "slots_beyond_u32": text("n1") + number(7) + number(2**40) + BEHIND_SLOTS,
        "slots_in_more_bytes_than_needed": text("n1") + number(7) + b"\xfd\2\0\0\0\0\0\0\0" + BEHIND_SLOTS,
        "more_busy_than_slots": registration(busy=U32),
        "no_async": registration(async_limit=0),
        "max_message_size_small": registration(max_message_size=3),
        "max_message_size_of_extremes": registration(max_message_size=U64),
        "labels_claim_2_60": UP_TO_LABELS + number(1 << 60),
        "kind_unknown": PLAIN[:-5] + b"\2" + NOT_IDEMPOTENT + NO_STREAMS + b"\0",
        "bytes_left_over": PLAIN + b"\0",
        "cut": PLAIN[:-7],
    },
)


# Frames.


def frame(kind, body=b""):
    return struct.pack("<IB", len(body), kind) + body


# Large messages. The limit of messages is below the smallest of them where these are read, so each `begin` is refused.
CHUNKS = {
    "begin": frame(26, numbers(0, 70_000) + b"\0"),
    "begin_of_2_63": frame(26, numbers(0, 1 << 63) + b"\1"),
    "begin_another_first": frame(26, numbers(7, 70_000) + b"\1"),
    "accept_of_nothing": frame(27, number(3)) * 3,
    "abandon_of_nothing": frame(28, number(0)),
    "chunk_of_nothing": frame(29, b"\0\0\0\0abc"),
    "consumed_more_than_was_sent": frame(30, number(1)),
}


def labels(*all):
    return number(len(all)) + b"".join(text(key) + text(value) for key, value in all)


def request(
    id=1,
    method=0x0123456789ABCDEF,
    call=9,
    attempt=1,
    count=1,
    granted=1,
    timeout=None,
    trace=None,
    payload=b"\3\2\4\6",
    metadata=(),
):
    body = numbers(id, method, call, attempt, count, granted)
    body += NONE if timeout is None else SOME + number(timeout)
    body += labels(*metadata)
    body += NONE if trace is None else SOME + numbers(*trace)
    return frame(1, body + payload)


def response(outcome, payload=b"", id=7, run=10, count=1, panicked=0):
    return frame(2, numbers(id, run, count, panicked) + outcome + payload)


def refusal(why):
    return response(b"\3" + why)


MASTER_HEARTBEAT, DRAIN, DRAINED, RETRACT = (frame(kind) for kind in (5, 6, 7, 9))
GOODBYE = frame(8, text("") + b"\0")
UNKNOWN_OPTIONAL = 200


def cancel(call, attempt):
    return frame(3, numbers(call, attempt))


def heartbeat(*load):
    return frame(4, numbers(*load))


def log_record(time=300, level=2, repeated=0, call=b"\1" + numbers(300, 1), method="Arith.sum", message="m", fields="k=v"):
    names = text(method) + text("program")
    return numbers(time, level, repeated) + call + names + text(message) + text(fields) + text("")


def logs(*records):
    return frame(130, number(len(records)) + b"".join(records))


put(
    "frames",
    {
        "life_of_a_node": heartbeat(0, 0, 0, 0, 0)
        + response(b"\0", b"\x0c")
        + heartbeat(1, 0, 0, 0, 0)
        + DRAIN
        + refusal(b"\2")
        + GOODBYE,
        "life_of_a_master": request()
        + MASTER_HEARTBEAT
        + request(id=2, call=10)
        + cancel(9, 1)
        + RETRACT
        + DRAINED
        + GOODBYE,
        "request": request(),
        "request_traced": request(timeout=1_500_000, trace=(1, 2, 1)),
        "request_trace_zero": request(trace=(0, 5, 1)),
        "request_of_extremes": request(U64, U64, U64, U32, U32, U32, U64, (2**128 - 1, U64, 1), b""),
        "request_large": request(payload=bytes(1500)),
        "request_with_metadata": request(metadata=(("request", "7"), ("tenant", "north"))),
        "request_claims_2_60_entries": frame(1, numbers(1, 1, 1, 1, 1, 1) + NONE + number(1 << 60)),
        "request_cut": request()[:-2],
        "request_header_cut": frame(1, b"\1\xfd"),
        "request_attempt_beyond_u32": frame(1, numbers(1, 1, 1, 2**40, 1, 1) + NONE + number(0) + NONE),
        "request_option_of_2": frame(1, numbers(1, 1, 1, 1, 1, 1) + b"\2" + number(0) + NONE),
        "requests_with_the_same_id": request() + request() + request(attempt=2),
        "response_value": response(b"\0", b"\x0c"),
        "response_error": response(b"\1", text("no such key")),
        "response_panicked": response(b"\2" + text("index out of bounds")),
        "response_panicked_in_colour": response(b"\2" + text("\x1b[31m\nforged")),
        "response_refused": b"".join(map(refusal, [b"\0", b"\1", b"\2", b"\3" + text("why"), b"\4", b"\5"])),
        "response_refused_unknown": refusal(b"\x09"),
        "response_encode": response(b"\4" + text("why")),
        "response_too_large": response(b"\5" + numbers(U64, 5)),
        "response_stopped": response(b"\6"),
        "response_unknown_outcome": response(b"\x63"),
        "request_batch": request(count=2, payload=b"\2\0\0\0\2\4\2\0\0\0\2\6"),
        "response_batch": response(b"\0", b"\2\0\0\0\0\7\1\0\0\0\1", count=2),
        "give_back": frame(10, numbers(300, 1, 2)),
        "request_grant": frame(11, numbers(300, 1, 2)),
        "request_grant_beyond_u32": frame(11, numbers(300, 1, 2**33)),
        "grant": frame(12, numbers(300, 1, 2)),
        "grant_cut": frame(12, numbers(300, 1)),
        "response_run_of_extremes": response(b"\0", run=U64),
        "response_text_claims_2_62": response(b"\2" + number(1 << 62)),
        "response_text_claims_1_mib": response(b"\2" + number(1 << 20)),
        "response_text_not_utf8": response(b"\2\2\xff\xfe"),
        "cancel": cancel(300, 2),
        "cancel_empty": frame(3),
        "heartbeat": heartbeat(2, 0, 255, 1, 3),
        "heartbeat_lies": heartbeat(U32, U32, U32, U32, U32),
        "heartbeat_beyond_u32": heartbeat(2**33, 2**33, 2**33, 2**33, 2**33),
        "heartbeat_with_more": frame(4, numbers(1, 1, 1, 0, 0) + bytes(20)),
        "heartbeat_with_less": heartbeat(1, 1, 1),
        "heartbeats": heartbeat(1, 1, 1, 0, 0) * 40,
        "master_heartbeat": MASTER_HEARTBEAT,
        "drain": DRAIN,
        "request_drain_and_drained": frame(128) + DRAINED,
        "logs": logs(log_record(), log_record(level=4, repeated=U32, call=NONE)),
        "logs_empty": logs(),
        "logs_of_extremes": logs(log_record(time=U64, repeated=U32, call=b"\1" + numbers(U64, U32))),
        "logs_in_colour": logs(log_record(message="\x1b[2J\nforged \u202e", fields="a=\r")),
        "logs_of_a_wrong_level": logs(log_record(level=5)),
        "logs_not_utf8": frame(130, number(1) + numbers(1, 2, 0) + NONE + b"\2\xff\xfe"),
        "logs_claim_2_60": frame(130, number(1 << 60)),
        "logs_claim_a_text_of_1_gib": frame(130, number(1) + numbers(1, 2, 0) + NONE + number(1 << 30)),
        **CHUNKS,
        "asks_again": request(count=0, granted=0, payload=b"") + frame(24, number(300)) + frame(25),
        "retract": RETRACT,
        "goodbye": GOODBYE,
        "goodbye_empty": frame(8),
        "goodbye_with_a_reason": frame(8, text("the node was disconnected") + b"\0"),
        "goodbye_with_control_characters": frame(8, text("a\nforged line\x1b[31m") + b"\1"),
        "goodbye_claims_1_gib": frame(8, number(1 << 30)),
        "goodbye_with_more": frame(8, text("why") + b"\1and thanks"),
        "calls_behind_goodbye": GOODBYE + request(),
        "unknown_kind": frame(77),
        "kind_zero": frame(0),
        "unknown_optional": frame(UNKNOWN_OPTIONAL, b"body") + DRAIN + frame(UNKNOWN_OPTIONAL),
        "unknown_optional_at_the_limit": struct.pack("<IB", 16384, UNKNOWN_OPTIONAL),
        "unknown_optional_too_long": struct.pack("<IB", 16385, UNKNOWN_OPTIONAL),
        "claims_4_gib": b"\xff\xff\xff\xff\2",
        "claims_one_too_many": struct.pack("<IB", 16385, 1),
        "claims_the_limit": struct.pack("<IB", 16384, 1),
        "header_cut": b"\3\0\0",
        "nothing": b"",
    },
)


# Frames of callers, and of their masters.


def method_declared(id=7, service="Arith", name="sum", signature="fn(Vec<i64>) -> i64", types=TYPES):
    body = number(id) + text(service) + number(1) + text(name) + text(signature)
    body += number(STRUCTURE) + number(len(types)) + b"".join(text(name) + text(shape) for name, shape in types)
    return frame(16, body + number(COMPUTE) + NOT_IDEMPOTENT + NO_STREAMS)


def option(value):
    return NONE if value is None else SOME + value


def call(
    request=1,
    method=7,
    call=9,
    count=1,
    idempotent=b"\0",
    timeout=None,
    node=None,
    attempts=None,
    asked=(),
    affinity=None,
    retry_panics=b"\0",
    is_broadcast=b"\0",
    hedge_of=None,
    continues=None,
    parent=None,
    metadata=(),
    trace=None,
    payload=b"\3\2\4\6",
    length=None,
):
    body = numbers(request, 0 if length is None else 3, method, call, count) + idempotent
    body += option(timeout and numbers(*timeout)) + option(node and number(node)) + option(attempts and number(attempts))
    body += labels(*asked) + option(affinity and number(affinity)) + retry_panics + is_broadcast
    body += option(hedge_of and numbers(*hedge_of)) + option(continues and number(continues))
    body += option(parent and number(parent)) + labels(*metadata)
    body += option(trace and numbers(*trace))
    return frame(13, body + (payload if length is None else number(length)))


def question(request=2, asked=()):
    return frame(13, numbers(request, 1, 7) + labels(*asked))


def answered(request=1, addr=None, count=1, run=10, payload=b"\x0c"):
    return frame(14, numbers(request, 0, 0, count, 5) + text("n") + option(addr) + numbers(1, 20, run) + payload)


def failed(request=1, payload=b""):
    return frame(14, numbers(request, 1, 2) + payload)


CALLER_HEARTBEAT, CANCEL_CALL, DETACH = frame(15), frame(17, number(9)), frame(18, number(9))
WATCH, UNWATCH = frame(19, numbers(3, 7) + labels(("zone", "eu"))), frame(20, number(3))
CAPACITY = frame(21, numbers(3, 2, 8, 1, 1))
RUN = frame(131, number(7) + text("sweep") + numbers(300, 1, 2, 3, 1, 400, 5, 1, 1, 9))
EVERYTHING = dict(
    timeout=(200, 250),
    node=5,
    attempts=2,
    asked=(("a", "b"),),
    affinity=3,
    retry_panics=b"\1",
    is_broadcast=b"\1",
    hedge_of=(8, 3),
    continues=6,
    parent=4,
    metadata=(("tenant", "north"),),
    trace=(1, 2, 1),
)

put(
    "callers",
    {
        "life_of_a_caller": CALLER_HEARTBEAT
        + WATCH
        + RUN
        + method_declared()
        + call()
        + DETACH
        + call(2, call=10)
        + CANCEL_CALL
        + question(3)
        + UNWATCH
        + GOODBYE,
        "life_of_its_master": MASTER_HEARTBEAT
        + CAPACITY
        + answered()
        + frame(10, numbers(10, 0, 2))
        + failed(2)
        + frame(14, numbers(3, 2) + b"\0")
        + GOODBYE,
        **CHUNKS,
        "asks_again": frame(13, numbers(1, 2, 9)) + frame(24, number(300)) + frame(25),
        "not_received": frame(14, numbers(1, 3)),
        "call": call(),
        "call_that_asks_for_everything": call(**EVERYTHING),
        "call_of_extremes": call(U64, U64, U64, U32, b"\1", (U64, U64), U64, U32, (), U64, b"\1", b"\1", (U64, U64), U64, U64),
        "call_trace_zero": call(trace=(0, 5, 1)),
        "call_batch": call(count=2, payload=b"\2\0\0\0\2\4\2\0\0\0\2\6"),
        "call_large": call(length=2_000_000),
        "call_large_of_extremes": call(U64, U64, U64, U32, length=U64),
        "call_large_with_its_arguments": frame(13, call(length=2_000_000)[5:] + b"\3\2\4\6"),
        "call_cut": call()[:-2],
        "call_header_cut": frame(13, b"\1\0\xfd"),
        "call_bool_of_2": call(idempotent=b"\2"),
        "call_count_beyond_u32": frame(13, numbers(1, 0, 7, 9, 2**40) + bytes(10)),
        "call_claims_2_60_labels": frame(13, numbers(1, 0, 7, 9, 1) + bytes(4) + number(1 << 60)),
        "call_of_the_same_method_twice": call() + call(2, call=10),
        "request_of_no_kind": frame(13, numbers(1, 2)),
        "question": question(asked=(("zone", "eu"),)),
        "question_with_more": question()[:-1] + b"\0",
        "answered": answered(),
        "answered_with_address": answered(addr=b"\0\x7f\0\0\1" + number(3000)),
        "answered_by_ipv6": answered(addr=b"\1" + bytes(15) + b"\1" + number(3000)),
        "answered_of_extremes": answered(U64, count=U32, run=U64),
        "failed": failed(),
        "end_unknown": frame(14, numbers(1, 9)),
        "declare": method_declared(),
        "declare_with_a_line": method_declared(name="a\nforged"),
        "declare_cut": method_declared()[:-1],
        "declare_claims_2_60_types": method_declared(types=())[:-5] + number(1 << 60),
        "declare_at_the_limit": struct.pack("<IB", 16384, 16),
        "declare_too_long": struct.pack("<IB", 16385, 16),
        "heartbeats": CALLER_HEARTBEAT * 40,
        "heartbeat_of_a_node": heartbeat(0, 0, 0, 0, 0),
        "watch": WATCH,
        "watch_claims_2_60_labels": frame(19, numbers(3, 7) + number(1 << 60)),
        "run_report": RUN,
        "run_report_claims_2_60_calls": frame(131, number(7) + text("sweep") + numbers(300, 1, 2, 3, 0, 5, 1, 1 << 60)),
        "capacity": CAPACITY,
        "capacity_beyond_u32": frame(21, numbers(3, 2**33, 8, 1, 1)),
        "cancel": CANCEL_CALL,
        "cancel_empty": frame(17),
    },
)


# Frames of streams, at all ends. Where these are read, attempt 1 of call 9 has a stream of items and one of arguments.


def items(data, call=9, attempt=1):
    return frame(31, struct.pack("<QI", call, attempt) + data)


def grant_items(upto, call=9, attempt=1):
    return frame(32, numbers(call, attempt, upto))


def end_items(length, is_whole=b"\1", call=9, attempt=1):
    return frame(33, numbers(call, attempt, length) + is_whole)


def stop_items(call=9, attempt=1):
    return frame(34, numbers(call, attempt))


ITEM = struct.pack("<I", 1) + b"\5"

# Its arguments can be fetched too.
FETCHED = 1 << 31
ARGUMENTS = items(bytes([7]) * 1000, attempt=FETCHED)

put(
    "streams",
    {
        "items": items(ITEM * 3),
        "items_in_pieces": items(ITEM[:2]) + items(ITEM[2:] + ITEM[:4]) + items(ITEM[4:]),
        "items_without_bytes": items(b""),
        "items_cut": items(ITEM)[:-1],
        "items_header_cut": frame(31, bytes(11)),
        "items_of_another_call": items(ITEM, call=8),
        "items_of_another_attempt": items(ITEM, attempt=2),
        "items_of_extremes": items(ITEM, call=U64, attempt=U32),
        "items_and_the_end": items(ITEM) + end_items(5),
        "items_behind_the_end": items(ITEM) + end_items(5) + items(ITEM),
        "items_at_the_limit": struct.pack("<IB", 65548, 31),
        "items_too_long": struct.pack("<IB", 65549, 31),
        "items_many": items(ITEM) * 60,
        "grant": grant_items(100_000),
        "grant_twice": grant_items(100_000) * 2,
        "grant_bytes_one_by_one": b"".join(grant_items(65_536 + upto) for upto in range(1, 40)),
        "grant_of_zero": grant_items(0),
        "grant_of_2_63": grant_items(1 << 63),
        "grant_of_extremes": grant_items(U64),
        "grant_of_another_call": grant_items(5, call=8) * 3,
        "end_of_nothing": end_items(0),
        "end_without_being_whole": end_items(0, b"\0"),
        "end_with_more_than_has_come": end_items(1 << 63),
        "end_bool_of_2": end_items(0, b"\2"),
        "end_of_another_call": end_items(5, call=8),
        "stop": stop_items(),
        "stop_and_grant": stop_items() + grant_items(100_000),
        "stop_of_another_call": stop_items(call=8) * 3,
        "fetch": grant_items(600, attempt=FETCHED) + grant_items(1000, attempt=FETCHED),
        "fetch_again": grant_items(600, attempt=FETCHED) + grant_items(1000, attempt=FETCHED + 1) + stop_items(attempt=FETCHED),
        "fetch_an_earlier_one": grant_items(600, attempt=FETCHED + 1) + grant_items(1000, attempt=FETCHED),
        "fetch_of_another_call": grant_items(600, call=8, attempt=FETCHED),
        "fetch_of_extremes": grant_items(U64, attempt=U32),
        "fetched": ARGUMENTS + end_items(1000, attempt=FETCHED),
        "fetched_too_few": ARGUMENTS + end_items(999, attempt=FETCHED),
        "fetched_too_many": ARGUMENTS + items(b"\7", attempt=FETCHED),
        "fetched_not_whole": ARGUMENTS + end_items(1000, b"\0", attempt=FETCHED),
        "fetched_under_another_number": items(b"\7", attempt=FETCHED + 1),
        "a_response_and_items": items(ITEM) + response(b"\0", number(5)) + items(ITEM),
    },
)


# Payloads, each for one of the types in distribution/src/fuzzing/payload.rs.


def library(seconds=5, nanos=0, moment=5, path="/", c=b"c", count=1, addr=b"\0\x7f\0\0\1"):
    body = numbers(seconds, nanos, moment, 0) + addr + number(3000) + text(path) + text(c) + numbers(3, 9)
    return body + (NONE if count is None else SOME + number(count)) + text("shared")


CLAIM = b"\xfd" + struct.pack("<Q", 1 << 50)

put(
    "payload",
    {
        "text": text("some text, and ünïcode ✓"),
        "text_not_utf8": b"\2\xff\xfe",
        "text_claims_2_62": number(1 << 62),
        "text_claims_1_mib": number(1 << 20) + b"x",
        "text_claims_3_gib": number(3 << 30),
        "text_claims_u128": b"\xfe" + b"\xff" * 16,
        "length_in_more_bytes_than_needed": b"\xfd\3\0\0\0\0\0\0\0abc",
        "length_of_a_reserved_mark": b"\xff" * 9,
        "list": number(4) + signed(1) + signed(-1) + signed(2**63 - 1) + signed(-(2**63)),
        "list_claims_2_60": number(1 << 60) + b"\1\2\3",
        "list_claims_one_more": number(4) + b"\1\2\3",
        "option": number(2**40) + text("k") + SOME + number(2) + text("a") + text("b"),
        "option_of_2": number(1) + text("k") + b"\2",
        "nested": number(3) + NONE + SOME + number(2) + text("a") + text("") + SOME + number(0),
        "nested_claims": number(2) + SOME + number(1 << 50),
        "nested_claims_in_a_row": (CLAIM + SOME) * 20,
        "map": number(2) + signed(-1) + number(2) + "a✓".encode() + b"\0" + text("ok") + signed(5) + b"\0\1\7",
        "map_without_order": number(2) + text("a") + numbers(2, 1, 300) + text("b") + number(0),
        "map_same_key_twice": number(2) + text("a") + numbers(1, 1) + text("a") + number(0),
        "map_claims_2_60": number(1 << 60) + text("a") + number(0),
        "numbers": b"\xff\xff\1"
        + "é".encode()
        + numbers(1, 2, 65535, 2**128 - 1)
        + signed(-(2**127))
        + SOME
        + signed(-5)
        + struct.pack("<fd", 1.5, float("nan")),
        "numbers_bool_of_2": b"\1\1\2a" + bytes(30),
        "numbers_surrogate_char": b"\1\1\1\xed\xa0\x80" + bytes(30),
        "numbers_beyond_their_type": b"\1\1\1a" + number(2**17) * 3 + bytes(30),
        "shapes": number(4)
        + b"\0"
        + b"\1"
        + text("square")
        + b"\2"
        + struct.pack("<d", 2.5)
        + b"\1\0"
        + b"\3\7"
        + SOME
        + number(1)
        + text("k")
        + signed(-3),
        "shapes_unknown": b"\1\4",
        "shapes_deep": b"\1" + (b"\2" + struct.pack("<d", 1) + b"\1") * 100 + b"\0",
        "library": library(nanos=999_999_999, moment=1_700_000_000, path="/tmp/x", c=b"c string"),
        "library_seconds_overflow": library(seconds=U64, nanos=2_000_000_000),
        "library_moment_overflows": library(moment=U64),
        "library_zero_where_none_is": library(count=0),
        "library_nul_in_c_string": library(c=b"a\0b", addr=b"\1" + bytes(16), count=None),
        "nothing": b"",
        "zeros": bytes(200),
    },
)
