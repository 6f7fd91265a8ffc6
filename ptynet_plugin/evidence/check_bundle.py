#!/usr/bin/env python3
"""Check an evidence bundle with the Python standard library alone: python3 check_bundle.py BUNDLE

It recomputes everything from the bundle's bytes: the signature, every file's hash, the opened commitment, the leaves of the
pictures that were asked, their labels, the order of questions, the requests, the chain of the transcript, the evidence. Time
stamps are read here and verified by the openssl command that is printed. Exit 0: valid, the mark is shown. 1: broken
(the first broken link is named), or valid and not shown. 3: valid and neither.
"""

# fmt: off
# mypy: ignore-errors
# ruff: noqa: D103, UP017, B905, T201, PLR0917 -- short, and for any Python from 3.8
import base64, hashlib, hmac, json, math, re, struct, sys, zlib  # noqa: E401, I001
from datetime import datetime, timezone
from pathlib import Path

SHARES = [1.0, 0.97, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02]
WEIGHTS = [0.5] + [0.5 / 12] * 12
FRESH_SUPPORT, EVASION_LEVEL, MOST_BYTES = 2.0, 1e-3, 1 << 31
FORMS = {"float32": "<f", "float16": "<e", "float64": "<d", "uint8": "B", "int8": "b"}
BAD = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, OSError, RecursionError, zlib.error, struct.error)
EXITS = {"shown": 0, "not-shown": 1, "inconclusive": 3, "evasion-suspected": 3}
class Broken(Exception): """The first link that does not hold."""  # noqa: E701, N818

def need(holds, link):
    if not holds:
        raise Broken(link)

def sha(*octets):
    return hashlib.sha256(b"".join(octets)).digest()

def encode(*parts):
    out = b""
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        kind = b"b" if isinstance(part, bytes) else b"i" if isinstance(part, int) else b"s"
        out += kind + len(content).to_bytes(8, "big") + content
    return out

def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

def parse(octets, name):
    value = json.loads(octets)
    need(canonical(value) == octets, f"{name}: not in its canonical form")
    return value

# ---- Ed25519 (RFC 8032), verification only ----
P, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, P - 2, P) % P)

def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    e, f, g, h = (y1 - x1) * (y2 - x2), (y1 + x1) * (y2 + x2), 2 * t1 * t2 * D, 2 * z1 * z2
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P

def times(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        total, point, scalar = add(total, point) if scalar & 1 else total, add(point, point), scalar >> 1
    return total

def point(octets):
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    need(y < P and (x * x - square) % P == 0 and (x or not sign), "envelope.json: no point on the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P

def is_signed(public, signature, message):
    scalar = int.from_bytes(signature[32:], "little")
    need(len(signature) == 64 and len(public) == 32 and scalar < Q, "envelope.json: no signature")
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    a, b = times(scalar, (*BASE, 1, BASE[0] * BASE[1] % P)), add(point(signature[:32]), times(hashed, point(public)))
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0

def read_files(folder):
    envelope = parse((folder / "envelope.json").read_bytes(), "envelope.json")
    payload, entry = base64.b64decode(envelope["payload"], validate=True), envelope["signatures"][0]
    signature, public = base64.b64decode(entry["sig"], validate=True), bytes.fromhex(entry["keyid"])
    kind, entry = "application/vnd.in-toto+json", {"keyid": public.hex(), "sig": base64.b64encode(signature).decode()}
    form = {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": [entry]}
    need(envelope == form, "envelope.json: not the one form of its content")
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    need(is_signed(public, signature, signed), "envelope.json: the signature does not hold")
    statement, files = parse(payload, "the signed statement"), {}
    for name, path, subject in ((each["name"], folder / each["name"], each) for each in statement["subject"]):
        need(re.fullmatch(r"[a-z]+/[0-9]+(-[0-9]+)?|[a-z0-9-]+\.[a-z]+", name), f"{name[:80]!r}: a name no bundle has")
        need(path.is_file() and not path.is_symlink() and path.stat().st_size <= MOST_BYTES, f"{name}: missing")
        need(sum(map(len, files.values())) <= MOST_BYTES, "more than a bundle may hold")
        files[name] = path.read_bytes()
        need(sha(files[name]).hex() == subject["digest"]["sha256"], f"{name}: not the signed bytes")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    need(found == set(files) | {"envelope.json"}, f"a file that is not signed: {sorted(found - set(files))[:2]}")
    return statement, files, public.hex()

def check_commitment(files, signer):
    opened, committed = parse(files["opened.json"], "opened.json"), parse(files["commitment.json"], "commitment.json")
    need(set(committed) == {"fields", "schema"} and committed["schema"] == "ptynet-commitment/v1", "commitment.json: schema")
    terms, copies = {}, any(name.startswith("copies.") for name in committed["fields"])
    for name, field in opened["fields"].items():
        digest = sha(encode("field/v1", bytes.fromhex(field["nonce"]), name, canonical(field["value"])))
        need(committed["fields"].get(name) == digest.hex(), f"opened.json: {name} does not open the commitment")
        terms[name] = field["value"]
    need(terms["signer"] == signer, "envelope.json: signed by another than the claim names: another man's bundle")
    need(terms["statistic"] == "mixture-e-process/v1" and 1 < terms["classes"] < 2**24 and not copies, "another statistic")
    need(0 <= terms["reserve"] < terms["symbols"] <= 65536 and 0 < terms["covers"] <= 1024, "opened.json: impossible terms")
    return terms, sha(files["commitment.json"]), opened["seal"]

def children(octets):
    found, at = [], 0
    while at < len(octets):
        tag, length, at = octets[at], octets[at + 1], at + 2
        if length >= 128:
            length, at = int.from_bytes(octets[at : at + length - 128], "big"), at + length - 128
        found.append((tag, octets[at : at + length]))
        at += length
    return found

def read_stamp(files, name, message):
    try:
        content = children(children(children(files[name])[0][1])[1][1])[1][1]
        signed = children(children(content)[0][1])
        info = children(children(children(children(signed[2][1])[1][1])[0][1])[0][1])
        moment = next(value for tag, value in info if tag == 0x18).decode()[:14]
        signature = next(value for tag, value in children(children(signed[-1][1])[0][1]) if tag == 4)
        digest, time = children(info[2][1])[1][1], datetime.strptime(moment, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    except (IndexError, ValueError, StopIteration):
        raise Broken(f"{name}: no time stamp") from None
    need(digest == sha(files[message]), f"{name}: stamps something else than {message}")
    print(f"{name}: {time} UTC; verify it: openssl ts -verify -in {name} -data {message} -CAfile tsa.pem")
    return time, signature

def check_salt(files, digest, seal, started):
    need((seal is None) == ("stamp.tsr" not in files), "stamp.tsr: the seal and the stamp do not belong together")
    if seal is None:
        return digest
    time, signature = read_stamp(files, "stamp.tsr", "commitment.json")
    need(signature.hex() == seal["signature"], "stamp.tsr: another stamp than the labels were drawn with")
    need(time <= started, "stamp.tsr: later than the run that rests on it: a back-dated commitment")
    if "binding.tsr" in files:
        need(time <= read_stamp(files, "binding.tsr", "binding.json")[0], "binding.tsr: earlier than stamp.tsr")
    return sha(encode("salt/v1", digest, signature, bytes.fromhex(seal["beacon"]["value"]) if seal["beacon"] else b""))

def check_leaf(entry, symbol, terms, files):
    need(symbol < terms["symbols"] - terms["reserve"], f"symbol {symbol}: of the sealed reserve, which is never opened")
    pixels = sha(*(files[f"pictures/{symbol}-{cover}"] for cover in range(terms["covers"])))
    leaf = sha(encode("leaf/v1", bytes.fromhex(entry["nonce"]), symbol, pixels))
    node, place, width, proof = sha(b"\0", leaf), symbol, terms["symbols"], [bytes.fromhex(text) for text in entry["proof"]]
    while width > 1:
        if place ^ 1 < width:
            need(proof, f"symbol {symbol}: its proof is too short")
            other = proof.pop(0)
            node = sha(b"\1", other, node) if place & 1 else sha(b"\1", node, other)
        place, width = place // 2, (width + 1) // 2
    need(not proof and node.hex() == terms["root"], f"symbol {symbol}: its pictures are not the committed ones")

def label_of(nonce, salt, terms, symbol):
    classes = terms["classes"]
    for word in range(1 << 20):
        message = encode("label/v1", salt, terms["target"], classes, symbol, word // 4)
        drawn = int.from_bytes(hmac.new(nonce, message, "sha256").digest()[word % 4 * 8 :][:8], "big")
        if drawn < 2**64 - 2**64 % classes:
            return drawn % classes

def tensors(pixels, channels, spec):
    count = 1 if spec["color"] == "GRAY" else 3
    planes = [pixels[min(c, channels - 1) :: channels] for c in range(count)]
    planes = planes[::-1] if spec["color"] == "BGR" else planes
    mean, std, scale = spec.get("mean"), spec.get("std"), spec.get("scale")
    for dtype in sorted(FORMS, key=lambda name: name != spec.get("dtype")):
        whole = dtype in ("uint8", "int8")
        gain = 1.0 if whole else 1.0 / 255.0
        gains = [1.0 / (255.0 * float(s)) for s in std] if std else [float(scale) if scale else gain] * count
        offsets = [-float(m) / float(s) for m, s in zip(mean, std)] if std else [0.0] * count
        try:
            values = [[v * gain + offset for v in range(256)] for gain, offset in zip(gains, offsets)]
            tables = [[struct.pack(FORMS[dtype], round(value) if whole else value) for value in row] for row in values]
        except (struct.error, OverflowError):
            continue
        rows = [list(map(table.__getitem__, plane)) for table, plane in zip(tables, planes)]
        for nhwc in (False, True) if spec.get("layout") != "NHWC" else (True, False):
            yield b"".join(b"".join(pixel) for pixel in zip(*rows)) if nhwc else b"".join(map(b"".join, rows))

def png_pixels(octets):
    """The pixels of an 8-bit PNG without filters, as this project writes it; None for another kind."""
    at, data, head = 8, b"", b""
    while at + 8 <= len(octets) and octets[at + 4 : at + 8] != b"IEND":
        length, kind = int.from_bytes(octets[at : at + 4], "big"), octets[at + 4 : at + 8]
        content, at = octets[at + 8 : at + 8 + length], at + 12 + length
        head, data = content if kind == b"IHDR" else head, data + (content if kind == b"IDAT" else b"")
    width, height, depth, color = struct.unpack(">IIBB", head[:10])
    stride = width * (3 if color else 1) + 1
    rows = zlib.decompressobj().decompress(data, min(stride * height, 1 << 26))
    plain = depth == 8 and color in (0, 2) and not any(rows[::stride])
    return b"".join(rows[row * stride + 1 : (row + 1) * stride] for row in range(height)) if plain else None

def check_request(body, pixels, channels, spec, name):
    start = body.find(b"\x89PNG\r\n\x1a\n")
    if start >= 0:
        found, gray = png_pixels(body[start:]), b"".join(bytes((value,)) * 3 for value in pixels * (channels == 1))
        need(found in (None, pixels, gray), f"{name}: its PNG is not the committed picture")
        return found is not None
    if b"\xff\xd8\xff" in body and b"JFIF" in body:
        return False
    if body[:1] == b"{" and body[-1:] == b"}":
        data = json.loads(body)["inputs"][0]["data"]
        if isinstance(data[0], str):
            return check_request(base64.b64decode(data[0]), pixels, channels, spec, name)
        body = b"".join(struct.pack("<f", value) for value in data)
    need(any(form in body for form in tensors(pixels, channels, spec)), f"{name}: does not hold the committed picture")
    return True

def evidence(hits, null_rate):
    """log10 of the mixture e-process after each answer."""
    parts, path = [math.log(weight) for weight in WEIGHTS], []
    for hit in hits:
        gain = [math.log1p(u * (1 / null_rate - 1)) if hit else math.log1p(-u) if u < 1 else -math.inf for u in SHARES]
        parts = [part + factor for part, factor in zip(parts, gain)]
        path.append((max(parts) + math.log(sum(math.exp(part - max(parts)) for part in parts))) / math.log(10))
    return path

def check_transcript(lines, terms, digest, salt, leaves, files):
    head, questions, previous = lines[0], lines[1:-1], digest.hex()
    for number, line in enumerate(lines, 1):
        need(line.get("previous") == previous, f"transcript.jsonl, line {number}: does not follow the line before it")
        previous = sha(canonical(line), b"\n").hex()
    entries = "".join(line["entry"][0] for line in lines)
    need(re.fullmatch("rq*v", entries), "transcript.jsonl: not a run, its questions and its verdict")
    alpha = 6 * float(head["alpha"]) / (math.pi * head["number"]) ** 2
    need(head["claim"] == digest.hex() and math.isclose(alpha, float(head["alpha_spent"])), "transcript.jsonl: claim or alpha")
    spent = {trial["symbol"] for trial in head["earlier"]} | set(head["disclosed"])
    order = sorted(range(terms["symbols"] - terms["reserve"]), key=lambda j: sha(encode("order/v1", digest, head["run"], b"", j)))
    asked = list(dict.fromkeys(question["symbol"] for question in questions if not question["control"]))
    prefix = asked == [symbol for symbol in order if symbol not in spent][: len(asked)]
    need(prefix, "transcript.jsonl: its symbols are no prefix of the drawn order: one was dropped or chosen")
    need([entry["symbol"] for entry in leaves] == asked, "leaves.json: other leaves than those asked")
    unseen, outcomes = 0, []
    for entry in leaves:
        symbol, label = entry["symbol"], label_of(bytes.fromhex(entry["nonce"]), salt, terms, entry["symbol"])
        check_leaf(entry, symbol, terms, files)
        mine = [question for question in questions if question["symbol"] == symbol and not question["control"]]
        need([question["cover"] for question in mine] == list(range(terms["covers"])), f"symbol {symbol}: its covers were chosen")
        for question in mine:
            name = f"requests/{question['index']}"
            need(question["hit"] == (question["lost"] is None and question["answer"] == label), f"symbol {symbol}: hit or miss")
            if question["lost"] is None:
                need(sha(files[name]).hex() == question["request_sha256"], f"{name}: not the request in the transcript")
                need(sha(files[name.replace("requests", "answers")]).hex() == question["answer_sha256"], f"{name}: its answer")
                pixels = files[f"pictures/{symbol}-{question['cover']}"]
                channels = len(pixels) // (terms["size"][0] * terms["size"][1])
                same = head["spec"].get("size") in (None, terms["size"]) or 0 in head["spec"]["size"]
                unseen += not (same and check_request(files[name], pixels, channels, head["spec"], name))
        outcomes.append(sum(question["hit"] for question in mine) > terms["covers"] / 2)
    lost = {q["symbol"]: q["answer"] is None for q in questions if not q["control"] and q["cover"] == 0}
    pairs = [(lost[q["symbol"]], q["answer"] is None) for q in questions if q["control"] and q["symbol"] in lost]
    print(f"requests whose JPEG or resized picture is not compared here: {unseen}")
    return head, outcomes, pairs, lines[-1]

def check_verdict(head, outcomes, pairs, last, terms):
    needed, rate, said = -math.log10(float(head["alpha_spent"])), 1 / terms["classes"], last["verdict"]
    whole = evidence([trial["hit"] for trial in head["earlier"]] + outcomes, rate)[len(head["earlier"]) :]
    fresh, evades = evidence(outcomes, rate), evidence([probe for probe, control in pairs if probe != control], 0.5)
    shown = any(new >= min(FRESH_SUPPORT, needed) and old >= needed for new, old in zip(fresh, whole))
    need(shown == (said == "shown"), f"transcript.jsonl: says {said}, the answers {'' if shown else 'do not '}show the mark")
    evades = not shown and max(evades, default=0) >= -math.log10(EVASION_LEVEL)
    need(said in EXITS and evades == (said == "evasion-suspected"), "transcript.jsonl: evasion is not what the controls say")
    need(last["hits"] == sum(outcomes) and last["symbols"] == len(outcomes), "transcript.jsonl: its counts")
    need(math.isclose(float(last["log10_e"]), whole[-1], abs_tol=1e-6), "transcript.jsonl: its e-value is not its answers'")
    return said

def check(folder):
    """Give the verdict of a valid bundle; raise `Broken` with the first link that does not hold."""
    try:
        statement, files, signer = read_files(folder)
        terms, digest, seal = check_commitment(files, signer)
        lines = [parse(line, "transcript.jsonl") for line in files["transcript.jsonl"].split(b"\n")[:-1]]
        salt = check_salt(files, digest, seal, datetime.fromisoformat(lines[0]["started"].replace("Z", "+00:00")))
        leaves = parse(files["leaves.json"], "leaves.json")
        head, outcomes, pairs, last = check_transcript(lines, terms, digest, salt, leaves, files)
        verdict = check_verdict(head, outcomes, pairs, last, terms)
        need(statement["predicate"]["verdict"] == verdict, "the signed statement: another verdict than the transcript")
        need(statement["predicate"]["head"] == sha(canonical(lines[-1]), b"\n").hex(), "the signed statement: another transcript")
    except BAD as error:
        raise Broken(f"not the form of a bundle ({type(error).__name__}: {str(error)[:120]})") from None
    print(f"{sum(outcomes)} hits of {len(outcomes)} symbols, by chance 1 in {terms['classes']}; at {head['endpoint']}")
    print(f"grade: {statement['predicate']['grade']}; on the claimant's word: {len(head['earlier'] + head['disclosed'])} symbols")
    return verdict

if __name__ == "__main__":
    try:
        found = check(Path(sys.argv[1]))
    except Broken as problem:
        sys.exit(f"BROKEN: {problem}")
    sys.exit(print(f"VALID: {found}") or EXITS[found])
