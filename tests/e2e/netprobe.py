"""
Talks and listens where it is started: in a pod's network namespace, on a node, on a machine of the LAN.

Run by path with nothing but the standard library: `netprobe.py ACTION ARGUMENT…`; answers are JSON lines.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections import Counter

PATIENCE = 5.0
A, SRV, PTR, AAAA = 1, 33, 12, 28
TYPES = {"": A, "SRV": SRV, "PTR": PTR, "AAAA": AAAA}


def fetch(url, patience=PATIENCE):
    """What a web server says, or an error."""
    try:
        with urllib.request.urlopen(url, timeout=patience) as answer:
            return answer.read().decode().strip()
    except OSError as error:
        return f"error: {error}"


def get(*urls):
    say([fetch(url) for url in urls])


def knock(patience, *urls):
    """As `get`, but a patience for each in seconds, and None for errors."""
    answers = [fetch(url, float(patience)) for url in urls]
    say([None if answer.startswith("error") else answer for answer in answers])


def spread(url, count):
    """Who answers how many of `count` requests, one connection each."""
    say(Counter(fetch(url) for _ in range(int(count))))


def steady(url, pause):
    """Requests until the input ends, one connection each; what failed, and who answered the others."""
    failed, answers = [], Counter()
    os.set_blocking(0, False)
    while not ended():
        answer = fetch(url)
        if answer.startswith("error"):
            failed.append([time.time(), answer])
        else:
            answers[answer] += 1
        time.sleep(float(pause))
    say({"failed": failed, "answers": answers})


def hold(host, port, pause):
    """One connection to an echo server until the input ends; how many lines came back."""
    lines = 0
    os.set_blocking(0, False)
    with socket.create_connection((host, int(port)), PATIENCE) as line, line.makefile("rwb") as both:
        say("connected")
        try:
            while not ended():
                both.write(b"%d\n" % lines)
                both.flush()
                if both.readline() != b"%d\n" % lines:
                    return say({"lines": lines, "error": "another line came back"})
                lines += 1
                time.sleep(float(pause))
        except OSError as error:
            return say({"lines": lines, "error": str(error)})
    return say({"lines": lines, "error": None})


def ended():
    """Tell whether whoever started us closed our input."""
    try:
        return os.read(0, 1) == b""
    except BlockingIOError:
        return False


def datagrams(host, port, count):
    """Who answers how many of `count` datagrams, each from a port of its own."""
    answers = Counter()
    for _ in range(int(count)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.settimeout(1.0)
            line.connect((host, int(port)))
            try:
                line.send(b"who?")
                answers[line.recv(100).decode()] += 1
            except OSError as error:
                answers[f"error: {error}"] += 1
    say(answers)


def serve_datagrams(port, answer):
    """Answer every datagram, until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("", int(port)))
        say("listening")
        while True:
            _, sender = line.recvfrom(100)
            with contextlib.suppress(OSError):
                line.sendto(answer.encode(), sender)


DATA, INIT, INIT_ACK, SACK, COOKIE_ECHO, COOKIE_ACK = 0, 1, 2, 3, 10, 11
"""Chunk types of SCTP (RFC 9260, 3.2)."""
TAG, COOKIE, FIRST_TSN = 0x5EED, b"a cookie", 7


def associate(host, port, count):
    """Who answers how many of `count` associations, by packets made here: kernels may lack SCTP sockets."""
    answers = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP) as line:
        line.connect((host, 0))
        for number in range(int(count)):
            answers[associated(line, 20000 + os.getpid() % 10000 + number, int(port))] += 1
    say(answers)


def associated(line, mine, port):
    """One association (RFC 9260, 5.1) with one message each way, acknowledged; the other's, or what was missing."""
    steps = (
        (INIT, struct.pack(">IIHHI", TAG, 65536, 1, 1, FIRST_TSN), {INIT_ACK}),
        (COOKIE_ECHO, COOKIE, {COOKIE_ACK}),
        (DATA, struct.pack(">IHHI", FIRST_TSN, 0, 0, 0) + b"who?", {SACK, DATA}),
    )
    theirs, came = 0, {}
    for kind, value, wanted in steps:
        line.send(packet(mine, port, theirs, kind, value))
        came = awaited(line, (port, mine), wanted)
        if missing := wanted - came.keys():
            return f"no chunk {sorted(missing)}"
        if INIT_ACK in came:
            (theirs,) = struct.unpack(">I", came[INIT_ACK][:4])
    (acknowledged,) = struct.unpack(">I", came[SACK][:4])
    if acknowledged != FIRST_TSN:
        return f"message {acknowledged} acknowledged, not {FIRST_TSN}"
    (theirs_tsn,) = struct.unpack(">I", came[DATA][:4])
    line.send(packet(mine, port, theirs, SACK, struct.pack(">IIHH", theirs_tsn, 65536, 0, 0)))
    return came[DATA][12:].rstrip(b"\0").decode()


def awaited(line, ports, wanted):
    """The values of the next chunks of these types between these ports, as far as they come in time."""
    ends, came = time.monotonic() + PATIENCE, {}
    while wanted - came.keys() and (left := ends - time.monotonic()) > 0:
        line.settimeout(left)
        try:
            data = line.recv(4096)
        except OSError:
            break
        source, target, kind, value = parsed(data)
        if (source, target) == ports and kind in wanted:
            came[kind] = value
    return came


def serve_associations(port, answer):
    """The other side of `associate`, until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP) as line:
        say("listening")
        while True:
            data, sender = line.recvfrom(4096)
            source, target, kind, value = parsed(data)
            if target != int(port):
                continue
            for reply, body in replies(kind, value, answer.encode()):
                # The tag is that of the INIT: all of `associate`'s are one.
                line.sendto(packet(target, source, TAG, reply, body), (sender[0], 0))


def replies(kind, value, answer):
    if kind == INIT:
        yield INIT_ACK, struct.pack(">IIHHI", TAG, 65536, 1, 1, 1) + struct.pack(">HH", 7, 12) + COOKIE
    elif kind == COOKIE_ECHO and value == COOKIE:
        yield COOKIE_ACK, b""
    elif kind == DATA and value[12:] == b"who?":
        (number,) = struct.unpack(">I", value[:4])
        yield SACK, struct.pack(">IIHH", number, 65536, 0, 0)
        yield DATA, struct.pack(">IHHI", 1, 0, 0, 0) + answer


def parsed(data):
    """Ports, type and value of the first chunk of an IPv4 packet."""
    data = data[(data[0] & 15) * 4 :]
    source, target = struct.unpack(">HH", data[:4])
    kind, _, length = struct.unpack(">BBH", data[12:16])
    return source, target, kind, data[16 : 12 + length]


def packet(source, target, tag, kind, value):
    """A packet of one chunk; data is a whole message."""
    flags = 3 if kind == DATA else 0
    chunk = struct.pack(">BBH", kind, flags, 4 + len(value)) + value + b"\0" * (-len(value) % 4)
    bare = struct.pack(">HHII", source, target, tag, 0) + chunk
    return bare[:8] + struct.pack("<I", crc32c(bare)) + bare[12:]


def crc32c(data):
    """The checksum of SCTP (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def resolve(server, *names):
    """The answers to `name` (A) or `TYPE:name`, sorted."""
    say([ask(server, name) for name in names])


def ask(server, question):
    kind, _, name = question.rpartition(":")
    number = TYPES[kind]
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", number, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(PATIENCE)
        line.sendto(query, (server, 53))
        try:
            reply = line.recv(4096)
        except OSError as error:
            return f"error: {error}"
    _, flags, _, answers, _, _ = struct.unpack(">6H", reply[:12])
    if flags & 15:
        return {3: "NXDOMAIN"}.get(flags & 15, f"rcode {flags & 15}")
    at, found = len(query), []
    for _ in range(answers):
        _, at = read_name(reply, at)
        (length,) = struct.unpack(">H", reply[at + 8 : at + 10])
        data, at = at + 10, at + 10 + length
        if number == A:
            found.append(socket.inet_ntoa(reply[data:at]))
        elif number == AAAA:
            found.append(socket.inet_ntop(socket.AF_INET6, reply[data : data + 16]))
        elif number == SRV:
            found.append(
                f"{struct.unpack('>H', reply[data + 4 : data + 6])[0]} {read_name(reply, data + 6)[0]}"
            )
        else:
            found.append(read_name(reply, data)[0])
    return sorted(found)


def overtake(server, slow, *names):
    """Ask for `slow`, and for the other names meanwhile; the answers to these that came before that to `slow`."""
    ended, answers = threading.Event(), []

    def wait():
        answers.append(ask(server, slow))
        ended.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    # Time for the slow question to be on its way.
    time.sleep(0.2)
    before = [answer for name in names for answer in [ask(server, name)] if not ended.is_set()]
    waiting.join()
    say({"slow": answers[0], "before": before})


def serve_names(port, address):
    """Answer every DNS query with this IPv4 address, true for a second, until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("", int(port)))
        say("listening")
        while True:
            query, sender = line.recvfrom(512)
            (_, end) = read_name(query, 12)
            head = query[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0)
            record = struct.pack(">3HIH", 0xC00C, A, 1, 1, 4) + socket.inet_aton(address)
            line.sendto(head + query[12 : end + 4] + record, sender)


def read_name(message, at):
    labels, end = [], None
    while message[at]:
        if message[at] >= 0xC0:
            end = end or at + 2
            at = struct.unpack(">H", message[at : at + 2])[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels), end or at + 1


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


ACTIONS = {
    function.__name__: function
    for function in (
        get,
        knock,
        spread,
        steady,
        hold,
        datagrams,
        serve_datagrams,
        associate,
        serve_associations,
        resolve,
        overtake,
        serve_names,
    )
}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]](*sys.argv[2:])
