#!/usr/bin/env python3
"""Check an evidence bundle with the Python standard library alone: python3 check_bundle.py BUNDLE

It recomputes everything; time stamps are read here, and verified by the openssl commands it prints. `check`, at the end, leads.
Exit 0: valid, and the claim is shown. 1: broken (the first broken link is named), or valid and not shown. 3: valid and neither.
"""
import base64, hashlib, hmac, itertools, json, math, re, struct, sys, zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
SHARES, WEIGHTS = [1.0, 0.97, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02], [0.5] + [0.5 / 12] * 12
FRESH_SUPPORT, EVASION_LEVEL, MOST_BYTES, SKEW, HOUR = 2.0, 1e-3, 1 << 31, timedelta(minutes=5), timedelta(hours=1)
FORMS = {"float32": ("<f", -3e38, 3e38), "float16": ("<e", -65504, 65504), "float64": ("<d", -1e308, 1e308)}
FORMS.update({"uint8": ("B", -0.5, 255.4), "int8": ("b", -128.5, 127.4)})
BAD = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, OSError, RecursionError, zlib.error, struct.error)
EXITS = {"shown": 0, "not-shown": 1, "inconclusive": 3, "evasion-suspected": 3}
NAME, IN_TOTO = r"[a-z]+/[0-9]+(-[0-9]+)?|[a-z0-9-]+\.[a-z]+", "application/vnd.in-toto+json"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3}|\.[0-9]{6})?(Z|[+-][0-9]{2}:[0-9]{2})"
ROUND = {"source": str, "round": int, "value": str, "signature": str, "genesis_time": int, "period": int}
class Broken(Exception): """The first link that does not hold."""
# ---- bytes, hashes, the one form of JSON, and Ed25519 signatures (RFC 8032, verification only) ----
def need(holds, link):
    if not holds: raise Broken(link)
def sha(*octets): return hashlib.sha256(b"".join(octets)).digest()
def time_of(text):
    need(re.fullmatch(TIME, text), f"{text[:40]!r}: no time with its zone")
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
def whole(n): return int(n) if re.fullmatch("-?[0-9]{1,16}", n) and abs(int(n)) < 2**53 else need(0, f"{n[:40]}: not below 2^53")
def canonical(value): return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
def parse(octets, name):
    value = json.loads(octets, parse_float=whole, parse_constant=whole, parse_int=whole)
    need(canonical(value) == octets, f"{name}: not in its canonical form")
    return value
def encode(*parts):
    kinds = [({bytes: b"b", int: b"i", str: b"s"}[type(p)], p if isinstance(p, bytes) else str(p).encode()) for p in parts]
    return b"".join(kind + len(content).to_bytes(8, "big") + content for kind, content in kinds)
P, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, P - 2, P) % P)
def add(a, b):
    t = D * a[0] * a[1] * b[0] * b[1]
    return (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, P - 2, P) % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, P - 2, P) % P
def times(scalar, point):
    total = (0, 1)
    for bit in bin(scalar)[2:]: total = add(add(total, total), point) if bit == "1" else add(total, total)
    return total
def point(octets):
    sign, y = divmod(int.from_bytes(octets, "little"), 2**255)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    need(y < P and (x * x - square) % P == 0 and (x or not sign), "a signature: no point on the curve")
    return P - x if x & 1 != sign else x, y
def is_signed(public, signature, message):
    scalar = int.from_bytes(signature[32:], "little")
    need(len(signature) == 64 and len(public) == 32 and scalar < Q, "a signature: not of its form")
    need(times(8, point(public)) != (0, 1), "a signature: of a key of small order, under which one fits any message")
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    return times(scalar, BASE) == add(point(signature[:32]), times(hashed, point(public)))
# ---- what was signed, and what was committed to ----
def open_envelope(octets, name, about):  # the signed statement in a DSSE envelope, and the public key that signed it
    envelope = json.loads(octets)
    payload, entry = base64.b64decode(envelope["payload"], validate=True), envelope["signatures"][0]
    signature, public = base64.b64decode(entry["sig"], validate=True), bytes.fromhex(entry["keyid"])
    form = {"payloadType": IN_TOTO, "payload": base64.b64encode(payload).decode()}
    form["signatures"] = [{"keyid": public.hex(), "sig": base64.b64encode(signature).decode()}]
    need(octets == canonical(form), f"{name}: not the one form of its content")
    signed = b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
    need(is_signed(public, signature, signed), f"{name}: the signature does not hold")
    told, kind = parse(payload, name), ("https://in-toto.io/Statement/v1", f"urn:ptynet:{about}:v1")
    need((told["_type"], told["predicateType"]) == kind, f"{name}: a statement of another kind")
    return told, public.hex()
def read_files(folder):
    (statement, signer), files = open_envelope((folder / "envelope.json").read_bytes(), "envelope.json", "evidence"), {}
    for name, subject in ((each["name"], each) for each in statement["subject"]):
        need(re.fullmatch(NAME, name), f"{name[:80]!r}: a name no bundle has")
        path, room = folder / name, min(1 << 26, MOST_BYTES - sum(map(len, files.values())))
        need(path.is_file() and not path.is_symlink() and path.stat().st_size <= room, f"{name}: missing, or too large")
        files[name] = path.read_bytes()
        need(sha(files[name]).hex() == subject["digest"]["sha256"], f"{name}: not the signed bytes")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    need(found == set(files) | {"envelope.json"}, f"a file that is not signed: {sorted(found - set(files))[:2]}")
    return statement, files, signer
def check_opened(files, opened, committed):
    values, hidden = {}, parse(files[committed], committed)["fields"]
    for name, field in parse(files[opened], opened)["fields"].items():
        digest = sha(encode("field/v1", bytes.fromhex(field["nonce"]), name, canonical(field["value"])))
        need(hidden.get(name) == digest.hex(), f"{opened}: {name} does not open the {committed[:-5]}")
        values[name] = field["value"]
    return values
def check_commitment(files, signer):
    """The claim's terms, and what the owner signed when he handed its reserve to a witness (None for a party's bundle)."""
    terms, hidden = check_opened(files, "opened.json", "commitment.json"), parse(files["commitment.json"], "commitment.json")
    opened = all(name in terms for name in hidden["fields"] if name.startswith("copies."))
    need(opened and terms["statistic"] == "mixture-e-process/v1" and 1 < terms["classes"] < 2**24, "opened.json: another test")
    pairs, quick, c0 = [terms.get(f"copies.{n}", least) for n, least in (("positions", 0), ("quick", 0), ("coalition", 1))]
    first, whole = terms["symbols"] - terms["reserve"], pairs % 8 == quick % 2 == 0
    possible = 0 < terms["covers"] <= 1024 and 0 < c0 <= 64 and min(pairs, quick, terms["reserve"]) >= 0 and whole
    need(possible and first > 0 and pairs + quick <= first and terms["symbols"] <= 65536, "opened.json: impossible terms")
    terms["pairs"] = pairs > 0 and terms["classes"] >= 10  # a hit is then either label of a symbol's pair, by chance 2/C
    terms["asked"] = range(pairs) if terms["pairs"] else range(pairs + quick, first)
    if "handover.json" not in files:
        need(terms["signer"] == signer, "envelope.json: signed by another than the claim names: another man's bundle")
        return terms, None
    told, owner = open_envelope(files["handover.json"], "handover.json", "handover")
    need(owner == terms["signer"], "handover.json: signed by another than the claim names: another man's reserve")
    need(owner != signer == told["predicate"]["witness"], "envelope.json: signed by another than the witness of its hand-over")
    terms["pairs"], terms["asked"] = False, range(first, terms["symbols"])
    return terms, told["predicate"]
# ---- when was what fixed ----
def children(octets):
    found = []
    while octets:
        tag, length, at = octets[0], octets[1], 2
        if length >= 128: length, at = int.from_bytes(octets[2 : length - 126], "big"), length - 126
        found, octets = [*found, (tag, octets[at : at + length])], octets[at + length :]
    return found
def read_stamp(files, name, message, roots="tsa.pem"):
    try:
        signed = children(children(children(children(children(files[name])[0][1])[1][1])[1][1])[0][1])
        info = children(children(children(children(signed[2][1])[1][1])[0][1])[0][1])
        moment, _, part = next(value for tag, value in info if tag == 0x18).decode("ascii").rstrip("Z").partition(".")
        signature = next(value for tag, value in children(children(signed[-1][1])[0][1]) if tag == 4)
        digest, time = children(info[2][1])[1][1], datetime.strptime(moment, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
        time += timedelta(microseconds=int(part.ljust(6, "0")[:6]))
    except (IndexError, ValueError, StopIteration): raise Broken(f"{name}: no time stamp") from None
    need(digest == sha(files[message]), f"{name}: stamps something else than {message}")
    print(f"{name}: {time} UTC; verify it: openssl ts -verify -in {name} -data {message} -CAfile {roots}")
    return time, signature
def check_round(drawn, where, earliest):  # its octets and time: of the hour after, so not known before, and few to choose from
    value, signature = bytes.fromhex(drawn["value"]), bytes.fromhex(drawn["signature"])
    due = datetime.fromtimestamp(drawn["genesis_time"] + (drawn["round"] - 1) * drawn["period"], timezone.utc)
    possible = value and value == (sha(signature) if signature else value) and min(drawn["round"], drawn["period"]) > 0
    need(possible and due.year >= 2000 and {n: type(told) for n, told in drawn.items()} == ROUND, f"{where}: no beacon round")
    need(earliest <= due <= earliest + HOUR, f"{where}: a beacon round not of the hour after what it must follow")
    print(f"{where}: drawn by round {drawn['round']} of {drawn['source']}, due {due}, {drawn['value']}: look it up")
    return value, due
def check_stamps(files, digest, seal, started):  # the time of the claim's stamp, and the salt of its labels
    need((seal is None) == ("stamp.tsr" not in files), "stamp.tsr: the seal and the stamp do not belong together")
    if "binding.json" in files:
        bound, stamp = check_opened(files, "binding-opened.json", "binding.json"), seal and sha(files["stamp.tsr"]).hex()
        need((bound["claim"], bound["stamp"]) == (digest.hex(), stamp), "binding.json: binds another claim or another stamp")
    if seal is None: return None, digest
    time, signature = read_stamp(files, "stamp.tsr", "commitment.json")
    need(signature.hex() == seal["signature"], "stamp.tsr: another stamp than the labels were drawn with")
    need(time <= started, "stamp.tsr: later than the run that rests on it: a back-dated commitment")
    if seal["beacon"] and seal["beacon"].get("period"):
        need(check_round(seal["beacon"], "opened.json", time)[1] <= started, "opened.json: a beacon round of after the run")
    if "binding.tsr" in files: need(time <= read_stamp(files, "binding.tsr", "binding.json")[0], "binding.tsr: before stamp.tsr")
    for name in (name for name in files if re.fullmatch(r"renewal-[0-9]+\.tsr", name)):
        same = all(sha(files[each]).hex() == hashed for each, hashed in parse(files[name[:-3] + "json"], name)["stamps"].items())
        need(same and read_stamp(files, name, name[:-3] + "json")[0] >= time, f"{name}: does not renew the stamps before it")
    return time, sha(encode("salt/v1", digest, signature, bytes.fromhex(seal["beacon"]["value"]) if seal["beacon"] else b""))
def check_frame(lines, files, claimed, seal, handover):  # the octets that draw the order, and the grade by what frames the run
    head, last, opened, value, stamped = lines[0], lines[-1], time_of(lines[0]["started"]), b"", "before.tsr" in files
    need(files.get("run.json") == canonical(head), "run.json: not the header of the transcript")
    need(stamped == ("after.tsr" in files) and (seal or not stamped), "before.tsr: without its counterpart")
    if stamped:
        framed = (("before.tsr", "run.json"), ("after.tsr", "transcript.jsonl"))
        before, after = (read_stamp(files, *each, "run-tsa.pem")[0] for each in framed)
        need(claimed <= before <= after >= time_of(last["finished"]) - SKEW, "before.tsr, after.tsr: not around the run")
        opened = max(opened, before)
    for line in (line for line in lines[1:2] if line["entry"] == "beacon"):
        value, opened = check_round({n: line[n] for n in set(line) - {"entry", "previous"}}, "transcript.jsonl, line 2", opened)
    asked = [time_of(line["at"]) for line in lines if line["entry"] == "question"]
    need(all(at >= opened - SKEW for at in asked), "transcript.jsonl: asked before its header was stamped or its order drawn")
    if handover:
        same = [handover[name] == head[name] for name in ("claim", "endpoint", "alpha", "number")]
        same += [value != b"", time_of(handover["made"]) - SKEW <= time_of(head["started"])]
        need(all(same), "handover.json: was made for another run, or no beacon drew the order of this one")
    return value, "witnessed" if seal and handover else "stamped" if stamped else f"party evidence{'' if seal else ', unstamped'}"
# ---- were these the questions ----
def check_leaf(entry, symbol, terms, files):
    need(symbol in terms["asked"], f"symbol {symbol}: of the sealed reserve, which a witness alone opens")
    pixels = sha(*(files[f"pictures/{symbol}-{cover}"] for cover in range(terms["covers"])))
    node, place, width = encode("leaf/v1", bytes.fromhex(entry["nonce"]), symbol, pixels), symbol, terms["symbols"]
    node, proof = sha(b"\0", sha(node)), [bytes.fromhex(text) for text in entry["proof"]]
    while width > 1:
        if place ^ 1 < width: node = sha(b"\1", proof.pop(0), node) if place & 1 else sha(b"\1", node, proof.pop(0))
        place, width = place // 2, (width + 1) // 2
    need(not proof and node.hex() == terms["root"], f"symbol {symbol}: its pictures are not the committed ones")
def labels_of(nonce, salt, terms, symbol):  # or its two, drawn from 64-bit words by rejection
    purpose = "label-pair/v1" if terms["pairs"] else "label/v1", salt, terms["target"], terms["classes"], symbol
    blocks = (hmac.new(nonce, encode(*purpose, counter), "sha256").digest() for counter in itertools.count())
    words = (int.from_bytes(block[at : at + 8], "big") for block in blocks for at in range(0, 32, 8))
    def below(limit): return next(word for word in words if word < 2**64 - 2**64 % limit) % limit
    labels = [below(terms["classes"])] + [below(terms["classes"] - 1) for _ in range(terms["pairs"])]
    return labels[:1] + [other + (other >= labels[0]) for other in labels[1:]]
def tensors(pixels, channels, spec):  # the picture in every number format and layout a model may read, the spec's own first
    count, mean, std, scale = 1 if spec["color"] == "GRAY" else 3, spec.get("mean"), spec.get("std"), spec.get("scale")
    planes = [pixels[min(c, channels - 1) :: channels] for c in range(count)][:: -1 if spec["color"] == "BGR" else 1]
    for dtype in sorted(FORMS, key=lambda name: name != spec.get("dtype")):
        (form, least, most), whole = FORMS[dtype], dtype in ("uint8", "int8")
        gains = [1.0 / (255.0 * float(s)) for s in std] if std else [float(scale or (1.0 if whole else 1.0 / 255.0))] * count
        offsets = [-float(m) / float(s) for m, s in zip(mean, std)] if std else [0.0] * count
        values = [[v * gain + offset for v in range(256)] for gain, offset in zip(gains, offsets)]
        if all(least <= value <= most for row in values for value in row):
            tables = [[struct.pack(form, round(value) if whole else value) for value in row] for row in values]
            rows = [list(map(table.__getitem__, plane)) for table, plane in zip(tables, planes)]
            for nhwc in (False, True) if spec.get("layout") != "NHWC" else (True, False):
                yield b"".join(b"".join(pixel) for pixel in zip(*rows)) if nhwc else b"".join(map(b"".join, rows))
def holds_png(body, pixels, channels, size):  # as 8 bits, one IDAT chunk, no filters: the way this project writes it
    forms = [(0, pixels), (2, b"".join(bytes((value,)) * 3 for value in pixels))] if channels == 1 else [(2, pixels)]
    for kind, form in forms:
        rows = b"".join(b"\0" + bytes(row) for row in zip(*[iter(form)] * (len(form) // size[0])))
        found = zlib.decompressobj().decompress(body[body.index(b"IDAT") + 4 :], len(rows) + 1)
        if found == rows and struct.pack(">4sIIBBBBB", b"IHDR", size[1], size[0], 8, kind, 0, 0, 0) in body: return True
def check_request(body, pixels, channels, spec, size, name):
    if body[:1] == b"{" and body[-1:] == b"}":
        data = json.loads(body)["inputs"][0]["data"]
        body = base64.b64decode(data[0]) if isinstance(data[0], str) else b"".join(struct.pack("<f", value) for value in data)
    start = body.find(b"\x89PNG\r\n\x1a\n")
    if start < 0 and b"\xff\xd8\xff" in body and b"JFIF" in body: return False
    held = any(form in body for form in tensors(pixels, channels, spec)) if start < 0 else holds_png(body, pixels, channels, size)
    need(held, f"{name}: does not hold the committed picture")
    return True  # False above: a JPEG's pixels are not compared
def check_questions(head, questions, terms, digest, salt, beacon, files):
    numbered = canonical([each["index"] for each in questions]) == canonical(list(range(len(questions))))
    spent = {trial["symbol"] for trial in [] + head["earlier"]} | set([] + head["disclosed"])  # lists, or no header of ours
    order = sorted(terms["asked"], key=lambda j: sha(encode("order/v1", digest, head["run"], beacon, j)))
    probes, leaves = [each for each in questions if not each["control"]], parse(files["leaves.json"], "leaves.json")
    asked, unseen, outcomes = list(dict.fromkeys(each["symbol"] for each in probes)), 0, []
    need(numbered and canonical(asked) == canonical([each for each in order if each not in spent][: len(asked)]),
         "transcript.jsonl: its symbols are no prefix of the drawn order: one was dropped or chosen")
    need(canonical([entry["symbol"] for entry in leaves]) == canonical(asked), "leaves.json: other leaves than those asked")
    for entry in leaves:
        symbol, labels = entry["symbol"], labels_of(bytes.fromhex(entry["nonce"]), salt, terms, entry["symbol"])
        check_leaf(entry, symbol, terms, files)
        mine = [question for question in probes if question["symbol"] == symbol]
        need([each["cover"] for each in mine] == list(range(terms["covers"])), f"symbol {symbol}: its covers were chosen")
        for each in mine:
            hit, request, answer = each["answer"] in labels, f"requests/{each['index']}", f"answers/{each['index']}"
            need(each["hit"] == (each["lost"] is None and hit), f"symbol {symbol}: hit or miss is not what its label says")
            if each["lost"] is None:
                sums = sha(files[request]).hex(), sha(files[answer]).hex()
                need(sums == (each["request_sha256"], each["answer_sha256"]), f"{request}: it or its answer was exchanged")
                pixels, size = files[f"pictures/{symbol}-{each['cover']}"], head["spec"].get("size")
                channels, same = len(pixels) // math.prod(terms["size"]), size in (None, terms["size"]) or 0 in size
                unseen += not (same and check_request(files[request], pixels, channels, head["spec"], terms["size"], request))
        votes = [each["answer"] for each in mine if each["lost"] is None]
        outcomes.append(any(votes.count(label) > terms["covers"] / 2 for label in labels))
    print(f"requests whose JPEG or resized picture is not compared here: {unseen}")
    return outcomes
# ---- does the verdict follow ----
def evidence(hits, null_rate):
    parts, path = [math.log(weight) for weight in WEIGHTS], []  # the logarithm to base 10 after each answer
    for hit in hits:
        gain = [math.log1p(u * (1 / null_rate - 1)) if hit else math.log1p(-u) if u < 1 else -math.inf for u in SHARES]
        parts = [part + factor for part, factor in zip(parts, gain)]
        path.append((max(parts) + math.log(sum(math.exp(part - max(parts)) for part in parts))) / math.log(10))
    return path
def check_verdict(head, questions, outcomes, last, terms, seal):
    alpha, said, earlier = 6 * float(head["alpha"]) / (math.pi * head["number"]) ** 2, last["verdict"], head["earlier"]
    need(0 < alpha < 1 and math.isclose(alpha, float(head["alpha_spent"])), "transcript.jsonl: may spend another alpha")
    needed, rate = -math.log10(alpha), (1 + terms["pairs"]) / terms["classes"]
    whole, fresh = evidence([trial["hit"] is True for trial in earlier] + outcomes, rate), evidence(outcomes, rate)
    shown = any(new >= min(FRESH_SUPPORT, needed) and old >= needed for new, old in zip(fresh, whole[len(earlier) :]))
    need(said in EXITS and shown == (said == "shown"),
         f"transcript.jsonl: says {said}, the answers {'' if shown else 'do not '}show the mark")
    lost = {q["symbol"]: q["answer"] is None for q in questions if not q["control"] and q["cover"] == 0}
    pairs = [(lost[q["symbol"]], q["answer"] is None) for q in questions if q["control"] and q["symbol"] in lost]
    evades = max(evidence([probe for probe, control in pairs if probe != control], 0.5), default=0) >= -math.log10(EVASION_LEVEL)
    need((evades and not shown) == (said == "evasion-suspected"), "transcript.jsonl: evasion is not what the controls say")
    allowance, p = 64 if seal is None else 20 if (seal["beacon"] or {}).get("period") else 40, -max(0.0, *whole)
    told, adjusted = (last["symbols"], last["hits"], last["allowance"]), min(0.0, p + allowance * math.log10(2))
    need(told == (len(outcomes), sum(outcomes), allowance), "transcript.jsonl: its counts or its allowance")
    for name, value in (("log10_e", whole[-1]), ("log10_p", p), ("log10_p_adjusted", adjusted)):
        need(math.isclose(float(last[name]), value, abs_tol=1e-6), f"transcript.jsonl: its {name} is not that of its answers")
    opened, level = min(0.0, -max(0.0, *fresh, 0.0) + allowance * math.log10(2)), min(-needed, -3.0)  # at most 10^-3
    print(f"the run: {said}, p = 10^{p:.1f}; adjusted for 2^{allowance} keys: 10^{adjusted:.1f}; the level is 10^{level:.1f}")
    print(f"by the opened answers alone: 10^{opened:.1f}; a claim needs both")
    if earlier: print(f"{sum(t['hit'] is True for t in earlier)} hits of {len(earlier)} earlier answers, unopened, on his word")
    return "inconclusive" if said == "shown" and max(adjusted, opened) > 1e-9 + level else said
def check(folder):
    """Give the verdict of a valid bundle; raise `Broken` with the first link that does not hold."""
    try:
        statement, files, signer = read_files(folder)
        (terms, handover), digest, told = check_commitment(files, signer), sha(files["commitment.json"]), statement["predicate"]
        lines = [parse(line, "transcript.jsonl") for line in files["transcript.jsonl"].split(b"\n")[:-1]]
        known, previous = re.fullmatch("run( beacon)?( question)* verdict", " ".join(e["entry"] for e in lines)), digest.hex()
        need(known, "transcript.jsonl: not a run, its questions and its verdict")
        for number, line in enumerate(lines, 1):
            need(line.get("previous") == previous, f"transcript.jsonl, line {number}: does not follow the line before it")
            previous = sha(canonical(line), b"\n").hex()
        need(previous == told["head"], "the signed statement: another transcript")
        need(lines[0]["claim"] == digest.hex(), "transcript.jsonl: a run of another claim")
        (head, *questions, last), seal = (e for e in lines if e["entry"] != "beacon"), json.loads(files["opened.json"])["seal"]
        claimed, salt = check_stamps(files, digest, seal, time_of(head["started"]))
        beacon, grade = check_frame(lines, files, claimed, seal is not None, handover)
        need(grade == last["grade"] == told["grade"], f"transcript.jsonl: calls itself another grade than {grade}")
        outcomes = check_questions(head, questions, terms, digest, salt, beacon, files)
        verdict = check_verdict(head, questions, outcomes, last, terms, seal)
        need(told["verdict"] == last["verdict"], "the signed statement: another verdict than the transcript")
        print(f"{sum(outcomes)} hits of {len(outcomes)}, chance {1 + terms['pairs']} in {terms['classes']}; {head['endpoint']}")
        print(f"{grade}, signed by {signer}; left out on the claimant's word: {len(head['earlier'] + head['disclosed'])} symbols")
    except BAD as error: raise Broken(f"not the form of a bundle ({type(error).__name__}: {str(error)[:120]})") from None
    return verdict
if __name__ == "__main__":
    try: found = check(Path(sys.argv[1]))
    except Broken as problem: sys.exit(f"BROKEN: {problem}")
    sys.exit(print(f"VALID: {found}") or EXITS[found])
