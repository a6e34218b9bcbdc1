"""Keys in files: what one signs the other checks; what is no key is refused with its name."""

from pathlib import Path

import pytest

from sterna import pki
from sterna.errors import ConfigError
from sterna.signing import load_signing_key, load_verifier


def test_what_a_key_signs_its_public_half_checks(tmp_path: Path) -> None:
    private, public = pki.make_signing_key(tmp_path, "k")
    assert private.stat().st_mode & 0o777 == 0o600
    key, verify = load_signing_key(private), load_verifier(public)
    signature = key.sign(b"content")
    assert len(key.public) == 32
    assert verify(signature, b"content")
    assert not verify(signature, b"contents")
    assert not verify(signature[:-1], b"content")
    with pytest.raises(ConfigError, match="exists already"):
        pki.make_signing_key(tmp_path, "k")


@pytest.mark.parametrize("load", [load_signing_key, load_verifier])
def test_what_is_no_key_is_named(tmp_path: Path, load: object) -> None:
    assert callable(load)
    path = tmp_path / "k.pem"
    with pytest.raises(ConfigError, match=r"k\.pem.*No such file"):
        load(path)
    path.write_text("nothing of the kind")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"k\.pem: no (private|public) key to read"):
        load(path)


def test_a_key_of_another_kind_or_one_that_everybody_may_read(tmp_path: Path) -> None:
    ca = pki.init(tmp_path / "ca", "tern")
    with pytest.raises(ConfigError, match="expected an Ed25519 private key"):
        load_signing_key(ca.key_file)
    private, public = pki.make_signing_key(tmp_path, "k")
    with pytest.raises(ConfigError, match="no private key"):
        public.chmod(0o600)
        load_signing_key(public)
    private.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by everybody"):
        load_signing_key(private)
