"""Tokens: read, compared, reloaded; and no secret in any message."""

import hashlib
import logging
import os
import re
import subprocess
from pathlib import Path

import pytest

from neuralrank.errors import InvalidSettings, Unauthenticated
from sidecar.access.tokens import Tokens
from tests.unit.sidecar.parts import Clock

SHOP = "shop-secret-0123456789"
CMS = "cms-secret-0123456789"
PAGE = (Path(__file__).resolve().parents[3] / "docs/security.md").read_text("utf-8")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_a_token_names_its_caller(tmp_path: Path) -> None:
    hashed = hashlib.sha256(CMS.encode()).hexdigest()
    path = write(tmp_path / "t", "# callers", "", f"shop: {SHOP}", f"cms : sha256:{hashed}")
    tokens = Tokens(path, Clock())
    assert tokens.caller(f"Bearer {SHOP}") == "shop"
    assert tokens.caller(f"bearer  {CMS} ") == "cms"


def test_the_hash_is_what_the_documented_command_prints(tmp_path: Path) -> None:
    (command,) = re.findall(r"and what `(printf .*?)` prints", PAGE)
    run = subprocess.run(
        ["bash", "-c", command], env=os.environ | {"SECRET": CMS}, capture_output=True, text=True
    )
    path = write(tmp_path / "t", f"cms: sha256:{run.stdout.strip()}")
    assert Tokens(path, Clock()).caller(f"Bearer {CMS}") == "cms"


def test_the_documented_length_is_the_shortest_that_is_taken(tmp_path: Path) -> None:
    (least,) = map(int, re.findall(r"the secret of (\d+) characters at least", PAGE))
    Tokens(write(tmp_path / "t", f"shop: {'x' * least}"), Clock())
    with pytest.raises(InvalidSettings, match=f"at least {least} characters"):
        Tokens(write(tmp_path / "t", f"shop: {'x' * (least - 1)}"), Clock())


def test_a_byte_order_mark_is_no_part_of_the_first_caller(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(f"shop: {SHOP}\n", "utf-8-sig")
    assert Tokens(path, Clock()).caller(f"Bearer {SHOP}") == "shop"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("", "none was sent"),
        ("Bearer ", "none was sent"),
        (f"Basic {SHOP}", "none was sent"),
        (SHOP, "none was sent"),
        (f"Bearer {SHOP}x", "not one of those that are allowed"),
        ("Bearer 密码", "not one of those that are allowed"),
        # The hash in the file is no way in.
        (f"Bearer sha256:{hashlib.sha256(CMS.encode()).hexdigest()}", "not one of those"),
    ],
)
def test_nothing_else_lets_in(tmp_path: Path, sent: str, words: str) -> None:
    hashed = hashlib.sha256(CMS.encode()).hexdigest()
    path = write(tmp_path / "t", f"shop: {SHOP}", f"cms: sha256:{hashed}")
    with pytest.raises(Unauthenticated, match=words) as caught:
        Tokens(path, Clock()).caller(sent)
    assert SHOP not in str(caught.value)


def test_a_caller_may_have_two_while_one_is_replaced(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "t", f"shop: {SHOP}")
    tokens = Tokens(path, clock)
    write(path, f"shop: {SHOP}", "shop: a-new-secret-0123456789")
    with pytest.raises(Unauthenticated):
        tokens.caller("Bearer a-new-secret-0123456789")
    clock.now += 1.5
    assert tokens.caller("Bearer a-new-secret-0123456789") == "shop"
    assert tokens.caller(f"Bearer {SHOP}") == "shop"
    write(path, "shop: a-new-secret-0123456789")
    clock.now += 1.5
    with pytest.raises(Unauthenticated):
        tokens.caller(f"Bearer {SHOP}")


def test_a_file_that_became_unusable_or_went_away_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    path = write(tmp_path / "t", f"shop: {SHOP}")
    tokens = Tokens(path, clock)
    write(path, "shop: short")
    clock.now += 1.5
    with caplog.at_level(logging.INFO):
        assert tokens.caller(f"Bearer {SHOP}") == "shop"
        path.unlink()
        clock.now += 1.5
        assert tokens.caller(f"Bearer {SHOP}") == "shop"
    assert [record.message for record in caplog.records] == ["the tokens stay as they were"] * 2
    assert SHOP not in caplog.text


def test_what_is_wrong_again_is_said_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    path = write(tmp_path / "t", f"shop: {SHOP}")
    tokens = Tokens(path, clock)
    with caplog.at_level(logging.INFO):
        for line in ("shop: short", "shop: short", f"shop: {SHOP}", "shop: short"):
            write(path, line)
            clock.now += 1.5
            assert tokens.caller(f"Bearer {SHOP}") == "shop"
    stay, again = "the tokens stay as they were", "tokens read again"
    assert [record.message for record in caplog.records] == [stay, again, stay]


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again_though_it_has_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    path = write(tmp_path / "t", f"shop: {SHOP}")
    tokens = Tokens(path, clock)
    write(path, "shop: a-new-secret-0123456789")

    def denied(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", denied)
        for _ in range(3):
            clock.now += 1.5
            assert tokens.caller(f"Bearer {SHOP}") == "shop"
    assert [record.message for record in caplog.records] == ["the tokens stay as they were"]
    clock.now += 1.5
    assert tokens.caller("Bearer a-new-secret-0123456789") == "shop"
    with pytest.raises(Unauthenticated):
        tokens.caller(f"Bearer {SHOP}")


def test_a_file_of_the_same_length_and_time_is_seen_to_be_another(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "t", f"shop: {SHOP}")
    tokens = Tokens(path, clock)
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the kernel's clock has gone on
        write(path, f"shop: {SHOP[::-1]}")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now += 1.5
    assert tokens.caller(f"Bearer {SHOP[::-1]}") == "shop"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("shop", "there is no ':'"),
        (": 0123456789abcdef", "before the ':' is no caller"),
        ("the shop: 0123456789abcdef", "before the ':' is no caller"),
        ("0123456789+/abcdef==: shop", "before the ':' is no caller"),
        ("shop: s3cret", "the secret has 6 characters"),
        ("shop: 0123456789 abcdef", "no header can carry"),
        ("shop: 0123456789-пароль", "no header can carry"),
        ("shop: sha256:0123456789abcdef", "no SHA-256"),
        (f"other: {SHOP}", "another caller's too"),
    ],
)
def test_a_line_that_is_no_token_stops_the_start(tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path / "t", f"shop: {SHOP}", line)
    with pytest.raises(InvalidSettings, match="line 2") as caught:
        Tokens(path, Clock())
    assert words in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_no_file_and_no_token_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="can't be read"):
        Tokens(tmp_path / "none", Clock())
    with pytest.raises(InvalidSettings, match="holds no token"):
        Tokens(write(tmp_path / "t", "# nobody yet"), Clock())
