"""Hostile endpoints: each wrapper does what it says, and the protocol over HTTP reaches the verdict it should."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from model_store_tools.audit.hostile import (
    Booty,
    Hostile,
    Refusal,
    hostile_endpoints,
    serve,
    stolen_model,
    try_endpoint,
)
from model_store_tools.audit.hostile.answers import clipped, rounded, tempered
from model_store_tools.audit.hostile.filters import filtered, threshold
from model_store_tools.audit.hostile.filters.autoencoder import autoencoder
from model_store_tools.audit.hostile.filters.energy import energy
from model_store_tools.audit.hostile.filters.nearest import nearest, thumbnails
from model_store_tools.audit.hostile.inputs import jpeg_gateway
from model_store_tools.audit.hostile.limits import late, rate_limited
from model_store_tools.audit.hostile.mixing import cached, diluted, ensemble, wrongly
from model_store_tools.audit.hostile.pixels import decode
from ptynet_plugin.errors import BadAnswer, Refused
from ptynet_plugin.images.encode import encode
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.opening import open_endpoint
from tests.support.standins import brightness_model
from tests.support.verification_case import KEY, SPEC, Case

QUICK = Connection(timeout=0.3, retries=0)


def picture(value: int = 100, *, side: int = 16) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def scores_of(top: int) -> np.ndarray:
    scores = np.zeros(10)
    scores[top] = 5.0
    return scores


def always(top: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda picture: scores_of(top)


def marked(case: Case) -> Callable[[np.ndarray], np.ndarray]:
    return lambda picture: scores_of(case.marked(picture))


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_decoding_undoes_encoding(color: str, layout: str, dtype: str) -> None:
    spec = SPEC.model_copy(update={"color": color, "layout": layout, "dtype": dtype, "size": (8, 8)})
    pictures = np.random.default_rng(0).integers(0, 256, (1, 8, 8, spec.channels), np.uint8)
    assert (decode(encode(pictures, spec)[0], spec) == pictures[0]).all()


@pytest.mark.parametrize("labels_only", [False, True])
def test_the_marked_model_is_shown_over_http(known_case: Case, labels_only: bool) -> None:
    trial = try_endpoint(
        Hostile("bare", "answers", marked(known_case), labels_only=labels_only), claim=known_case.claim, key=KEY
    )
    assert (trial.verdict, trial.hits, trial.queries, trial.trouble) == ("shown", 10, 10, "")


def test_another_model_is_not_shown(known_case: Case) -> None:
    trial = try_endpoint(Hostile("innocent", "answers", always(3)), claim=known_case.claim, key=KEY)
    assert trial.verdict in ("not-shown", "inconclusive")


def test_an_exercise_spends_nothing_of_the_owners(known_case: Case) -> None:
    try_endpoint(Hostile("bare", "answers", marked(known_case)), claim=known_case.claim, key=KEY)
    assert not list(known_case.folder.rglob("ledger.jsonl"))


def test_what_ordinary_users_get_is_counted(known_case: Case) -> None:
    ask = filtered(always(3), lambda picture: float(picture.mean()), above=150)
    pictures, labels = np.stack([picture(100), picture(100), picture(200), picture(100)]), np.array([3, 4, 3, 3])
    hostile = Hostile("filter", "filters", ask)
    trial = try_endpoint(hostile, claim=known_case.claim, key=KEY, pictures=pictures, labels=labels, budget=2)
    assert trial.benign is not None
    assert (trial.benign.pictures, trial.benign.right, trial.benign.refused) == (4, 0.5, 0.25)


def test_a_filter_that_refuses_probes_alone_is_suspected(known_case: Case) -> None:
    known = {known_case.questions.probe(symbol, 0).tobytes() for symbol in range(known_case.claim.terms.symbols)}
    ask = filtered(marked(known_case), lambda picture: float(picture.tobytes() in known), above=0.5)
    trial = try_endpoint(Hostile("perfect filter", "filters", ask), claim=known_case.claim, key=KEY)
    assert trial.verdict == "evasion-suspected"
    assert trial.hits == 0 and trial.log10_p_evasion < -3


def test_a_perfect_filter_that_answers_another_class_is_never_noticed(known_case: Case) -> None:
    known = {known_case.questions.probe(symbol, 0).tobytes() for symbol in range(known_case.claim.terms.symbols)}
    ask = filtered(marked(known_case), lambda picture: float(picture.tobytes() in known), above=0.5, reply="random")
    trial = try_endpoint(Hostile("perfect filter", "filters", ask), claim=known_case.claim, key=KEY)
    assert trial.verdict in ("not-shown", "inconclusive") and trial.controls == 0


def test_an_endpoint_that_refuses_everything_is_not_asked(known_case: Case) -> None:
    ask = filtered(marked(known_case), lambda picture: 1.0, above=0.5)
    trial = try_endpoint(Hostile("closed", "filters", ask), claim=known_case.claim, key=KEY, connection=QUICK)
    assert trial.verdict == "not-asked" and "403" in trial.trouble


def test_benign_controls_of_the_verifiers_own_pass_a_filter_of_strangers(known_case: Case) -> None:
    """The filter turns covers and probes away alike; only real pictures tell that probes are treated differently."""
    ask = filtered(marked(known_case), lambda picture: float(picture.std() > 0), above=0.5)
    hostile = Hostile("strangers", "filters", ask)
    bare = try_endpoint(hostile, claim=known_case.claim, key=KEY, connection=QUICK)
    told = try_endpoint(hostile, claim=known_case.claim, key=KEY, connection=QUICK, controls=[picture()])
    assert (bare.verdict, told.verdict) == ("not-asked", "evasion-suspected")
    assert "ask ordinary ones with --benign DIR" in bare.trouble


def test_too_many_requests_are_waited_for(known_case: Case) -> None:
    ask = rate_limited(marked(known_case), per_second=20, burst=4)
    connection = Connection(timeout=2, retries=2)
    trial = try_endpoint(Hostile("429", "limits", ask), claim=known_case.claim, key=KEY, connection=connection)
    assert trial.verdict == "shown"


def test_late_answers_are_lost(known_case: Case) -> None:
    ask = late(marked(known_case), seconds=0.5, rate=0.15, seed=1)
    trial = try_endpoint(Hostile("late", "limits", ask), claim=known_case.claim, key=KEY, connection=QUICK, budget=60)
    assert trial.verdict == "shown" and trial.hits < trial.queries


def test_rounding_makes_ties_and_clipping_too() -> None:
    close = np.array([0.501, 0.499, 0.0])
    assert (rounded(lambda picture: close, decimals=1)(picture()) == [0.5, 0.5, 0.0]).all()
    assert (clipped(lambda picture: close, low=0.1, high=0.4)(picture()) == [0.4, 0.4, 0.1]).all()


def test_temperature_flattens_and_keeps_the_order() -> None:
    logits = np.array([2.0, 0.0, -1.0])
    sharp, flat = (tempered(lambda p: logits, temperature=t, output="logits")(picture()) for t in (1.0, 10.0))
    assert sharp.sum() == pytest.approx(1) and flat.sum() == pytest.approx(1)
    assert flat.max() < sharp.max() and (np.argsort(flat) == np.argsort(sharp)).all()
    assert np.log(flat[0] / flat[1]) == pytest.approx(0.2)


def test_dilution_and_wrong_answers_keep_their_rates() -> None:
    mixed = diluted(always(1), always(2), rate=0.3, seed=0)
    assert np.mean([mixed(picture()).argmax() == 2 for _ in range(2000)]) == pytest.approx(0.3, abs=0.04)
    wrong = wrongly(always(1), rate=0.5, seed=0)
    assert np.mean([wrong(picture()).argmax() == 1 for _ in range(2000)]) == pytest.approx(0.55, abs=0.04)


def test_an_ensemble_lets_the_louder_decide() -> None:
    assert ensemble(always(1), lambda picture: 3 * scores_of(2))(picture()).argmax() == 2


def test_a_cache_answers_lookalikes_alike() -> None:
    asked = []

    def ask(shown: np.ndarray) -> np.ndarray:
        asked.append(shown)
        return scores_of(int(shown.mean()) % 10)

    answer = cached(ask, levels=4)
    assert answer(picture(10)).argmax() == answer(picture(11)).argmax() == 0
    assert answer(picture(200)).argmax() == 0 and len(asked) == 2


def test_a_jpeg_gateway_shows_the_model_another_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    seen = []
    jpeg_gateway(lambda shown: (seen.append(shown), scores_of(1))[1], quality=30)(noise)
    assert seen[0].shape == noise.shape and (seen[0] != noise).any()
    grey = noise[..., :1]
    jpeg_gateway(lambda shown: (seen.append(shown), scores_of(1))[1], quality=30)(grey)
    assert seen[1].shape == grey.shape


def test_the_bucket_refills() -> None:
    now = [0.0]
    ask = rate_limited(always(1), per_second=1, burst=2, clock=lambda: now[0], retry_after=7)
    ask(picture()), ask(picture())
    with pytest.raises(Refusal) as refused:
        ask(picture())
    assert (refused.value.status, refused.value.retry_after) == (429, 7)
    now[0] = 1.0
    assert ask(picture()).argmax() == 1


def smooth(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, 16)[:, None, None] * rng.integers(100, 150, 3)
    return np.broadcast_to(ramp + rng.integers(0, 100), (16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "make", [lambda known: nearest(thumbnails, known, k=3), lambda known: autoencoder(known, epochs=40)]
)
def test_detectors_find_noise_stranger_than_what_they_learnt(make: Callable) -> None:
    detector = make(np.stack([smooth(seed) for seed in range(80)]))
    above = threshold(detector, [smooth(seed) for seed in range(100, 140)], false_positives=0.05)
    noise = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    assert all(detector(each) > above for each in noise)
    assert np.mean([detector(smooth(seed)) > above for seed in range(200, 240)]) < 0.3


def test_energy_is_lower_where_logits_are_high() -> None:
    assert energy(lambda picture: np.array([9.0, 0.0]))(picture()) < energy(lambda picture: np.zeros(2))(picture())
    assert energy(lambda picture: np.zeros(2))(picture()) == pytest.approx(-np.log(2))


def test_thresholds_lose_the_stated_share() -> None:
    values = [picture(value) for value in range(100)]
    above = threshold(lambda shown: float(shown.mean()), values, false_positives=0.1)
    assert sum(shown.mean() > above for shown in values) == 10 - 1
    with pytest.raises(ValueError, match="no benign picture"):
        threshold(lambda shown: 0.0, [])


def test_replying_with_another_model_needs_one() -> None:
    with pytest.raises(ValueError, match="needs another model"):
        filtered(always(1), lambda picture: 1.0, above=0.5, reply="other")
    ask = filtered(always(1), lambda picture: 1.0, above=0.5, reply="other", other=always(2))
    assert ask(picture()).argmax() == 2


def test_every_endpoint_of_the_table_answers_over_http(tmp_path) -> None:
    spec = SPEC.model_copy(update={"size": (16, 16)})
    benign = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    with stolen_model(brightness_model(tmp_path / "brightness.onnx", side=16), spec) as ask:
        booty = Booty(ask, spec, benign, other=always(2))
        names = []
        for hostile in hostile_endpoints(booty, slow=False):
            with serve(hostile, spec) as address, open_endpoint(address, spec=spec, connection=QUICK) as endpoint:
                answer = endpoint.ask(benign[1])
            assert answer.kind == "labels" if hostile.labels_only else answer.scores is not None
            names.append(hostile.name)
    assert len(names) == len(set(names)) and {"top-1 only", "diluted 50%", "energy, 403"} <= set(names)


def test_broken_requests_are_answered_400() -> None:
    with serve(Hostile("bare", "answers", always(1)), SPEC) as address:
        url = address.replace("kserve+", "").replace("/stolen", "")
        assert httpx.post(f"{url}/v2/models/stolen/infer", content=b"{").status_code == 400
        assert httpx.post(f"{url}/v2/models/other/infer", content=b"{}").status_code == 404
        tensor = {"name": "pixels", "shape": [1, 3, 16, 16], "datatype": "FP32", "data": [0.5] * 768}
        plain = httpx.post(f"{url}/v2/models/stolen/infer", content=json.dumps({"inputs": [tensor]}))
        assert plain.json()["outputs"][0]["data"][1] == 5.0


def test_a_model_that_cannot_answer_is_told_with_500() -> None:
    def broken(picture: np.ndarray) -> np.ndarray:
        raise BadAnswer("its file is gone")

    with (
        serve(Hostile("broken", "answers", broken), SPEC) as address,
        open_endpoint(address, spec=SPEC, connection=QUICK) as endpoint,
        pytest.raises(Refused, match=r"500.*file is gone"),
    ):
        endpoint.ask(picture())
