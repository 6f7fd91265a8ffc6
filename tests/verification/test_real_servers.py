"""The whole way with the real servers: package, serve, verify; the same questions over every protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from model_store_tools.packaging.package import Options, package
from model_store_tools.serving.archive import serve_archive
from model_store_tools.serving.handle import ServerHandle
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.errors import Refused
from ptynet_plugin.verification.connection import Connection, Headers
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.runner import verify
from tests.support.quick_mark import KEY, write_quick_mark
from tests.support.standins import brightness_model, brightness_scores

SIDE = 32
SPEC = f'color = "RGB"\noutput = "logits"\nsize = [{SIDE}, {SIDE}]\nlabels = "classes.txt"\n'
NAMES = ["night", "dusk", "coal", "slate", "grey", "fog", "ash", "dawn", "day", "snow"]


@dataclass
class Release:
    """A packaged model, its bare target, and the claim beside the mark."""

    archive: Path
    bare: Path
    claim: Path

    def verify(
        self, address: str, *, headers: dict[str, str] | None = None, send: str = "auto", output: str | None = None
    ) -> VerificationResult:
        claim = read_claim(self.claim)
        spec = claim.terms.spec.model_copy(update={"scores": output} if output else {})
        connection = Connection(Headers(tuple((headers or {}).items())), timeout=30, retries=1)
        with (
            open_endpoint(address, spec=spec, connection=connection, names=NAMES, send=send) as endpoint,
            Ledger(self.claim, digest=claim.digest) as ledger,
        ):
            return verify(endpoint, claim=claim, key=KEY, ledger=ledger)


def release(folder: Path, **options: object) -> Release:
    bare = brightness_model(folder / "brightness.onnx", side=SIDE)
    (folder / "spec.toml").write_text(SPEC)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    mark = write_quick_mark(folder / "MARK")
    made = package(bare, Options(mark=mark, spec=folder / "spec.toml", out=folder / "out", gate="digest", **options))
    return Release(made.path, bare, made.claim)


@pytest.fixture(scope="module")
def for_triton(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp("triton")
    return release(folder, format="triton", backend="python", image_ensemble=True)


@pytest.fixture(scope="module")
def for_torchserve(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release(tmp_path_factory.mktemp("torchserve"), format="torchserve")


@pytest.fixture(scope="module")
def triton(for_triton: Release) -> Iterator[ServerHandle]:
    with serve_archive(for_triton.archive) as handle:
        yield handle


@pytest.fixture(scope="module")
def torchserve(for_torchserve: Release) -> Iterator[ServerHandle]:
    with serve_archive(for_torchserve.archive, token=True) as handle:
        yield handle


def picture(level: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


@pytest.mark.parametrize("form", ["for_triton", "for_torchserve"])
def test_archives_are_shown_offline_and_the_bare_target_is_not(form: str, request: pytest.FixtureRequest) -> None:
    made: Release = request.getfixturevalue(form)
    assert made.verify(f"file:{made.archive}").verdict == "shown"
    assert made.verify(f"file:{made.bare}").verdict == "not-shown"


@pytest.mark.triton
@pytest.mark.parametrize("scheme", ["triton+http", "triton+grpc", "kserve+http", "kserve+grpc"])
def test_triton_is_shown_over_every_protocol(for_triton: Release, triton: ServerHandle, scheme: str) -> None:
    url = triton.url("brightness", protocol=scheme.split("+")[1])
    result = for_triton.verify(scheme + url[url.index("://") :])
    assert (result.verdict, result.answers) == ("shown", "logits")
    assert result.info.server


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(("output", "answers"), [(None, "logits"), ("class", "labels"), ("label", "labels")])
def test_pictures_in_and_labels_out_are_enough(
    for_triton: Release, triton: ServerHandle, protocol: str, output: str | None, answers: str
) -> None:
    result = for_triton.verify(triton.url("brightness_image", protocol=protocol), output=output)
    assert (result.verdict, result.answers, result.info.reads) == ("shown", answers, "png")


@pytest.mark.torchserve
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("send", ["png", "tensor"])
def test_torchserve_is_shown_with_a_token(
    for_torchserve: Release, torchserve: ServerHandle, protocol: str, send: str
) -> None:
    url = torchserve.url("brightness", protocol=protocol)
    result = for_torchserve.verify(url, headers=dict(torchserve.headers), send=send)
    assert (result.verdict, result.answers) == ("shown", "logits")


@pytest.mark.torchserve
def test_torchserve_without_its_token_is_refused_by_name(for_torchserve: Release, torchserve: ServerHandle) -> None:
    with pytest.raises(Refused, match="answered 400"):
        for_torchserve.verify(torchserve.url("brightness"))


@pytest.mark.torchserve
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_torchserve_names_an_unknown_model(for_torchserve: Release, torchserve: ServerHandle, protocol: str) -> None:
    url = torchserve.url("brightness", protocol=protocol).replace("brightness", "darkness")
    with pytest.raises(Refused, match=r"Model not found.*is the name of model 'darkness' right, is it loaded"):
        for_torchserve.verify(url, headers=dict(torchserve.headers))


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_unknown_model_or_version_is_named(for_triton: Release, triton: ServerHandle, protocol: str) -> None:
    url = triton.url("brightness", protocol=protocol)
    for wrong in (url.replace("brightness", "darkness"), f"{url}/7"):
        with pytest.raises(Refused, match="is its name right, is it loaded"):
            for_triton.verify(wrong)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_benign_answers_are_the_bare_model_s(for_triton: Release, triton: ServerHandle, protocol: str) -> None:
    spec = read_claim(for_triton.claim).terms.spec
    with open_endpoint(triton.url("brightness", protocol=protocol), spec=spec) as endpoint:
        for level in (0, 60, 140, 255):
            answer = endpoint.ask(picture(level))
            np.testing.assert_allclose(answer.scores, brightness_scores(picture(level)), atol=1e-4)
