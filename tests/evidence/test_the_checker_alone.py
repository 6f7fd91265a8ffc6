"""The stand-alone checker: one page, the standard library alone, its signatures those of the library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from ptynet_plugin.evidence import check_bundle as alone
from tests.support.bundles import (
    CHECKER,
    run_alone,
)


def test_the_checker_runs_on_the_standard_library_alone(shown: Path, tmp_path: Path) -> None:
    done = run_alone(shown, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "VALID: shown" in done.stdout
    (tmp_path / "nothing").mkdir()
    broken = run_alone(tmp_path / "nothing", tmp_path)
    assert broken.returncode == 1
    assert broken.stderr.startswith("BROKEN: ")
    assert "Traceback" not in broken.stderr


def test_the_checker_is_one_page_and_imports_the_standard_library_alone() -> None:
    text = CHECKER.read_text()
    assert len(text.splitlines()) <= 300
    nodes = list(ast.walk(ast.parse(text)))
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names


def test_ed25519_written_out_agrees_with_the_library() -> None:
    from ptynet_plugin.claims.signing import sign, signer

    for number in range(3):
        secret = bytes([number]) * 32
        signature = sign(secret, b"message")
        assert alone.is_signed(bytes.fromhex(signer(secret)), signature, b"message")
        assert not alone.is_signed(bytes.fromhex(signer(secret)), signature, b"massage")
