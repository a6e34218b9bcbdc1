from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sterna import pki
from sterna.errors import ConfigError
from sterna.identity import Role
from tests.conftest import Fleet


def test_keys_are_for_their_owner_alone(fleet: Fleet) -> None:
    files = fleet.files(Role.OPERATOR, "ann")
    for key_file in (files.key_file, fleet.ca.key_file):
        assert key_file.stat().st_mode & 0o777 == 0o600
    assert files.cert_file.name == "operator-ann.pem"


def test_a_certificate_names_its_holder_and_serves_both_ends(fleet: Fleet) -> None:
    files = pki.issue(fleet.folder, Role.SITE, "hosts", ["10.0.0.7", "agent.example"])
    certificate = x509.load_pem_x509_certificate(files.cert_file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://test-fleet/site/hosts"]
    assert names.get_values_for_type(x509.DNSName) == [
        "hosts.site.test-fleet.sterna.internal",
        "agent.example",
    ]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_nothing_is_overwritten(fleet: Fleet) -> None:
    files = fleet.files(Role.VIEWER, "vi")
    before = {path: path.read_bytes() for path in (files.cert_file, files.key_file, fleet.ca.ca_file)}
    with pytest.raises(ConfigError, match=r"viewer-vi\.pem: exists already"):
        pki.issue(fleet.folder, Role.VIEWER, "vi")
    with pytest.raises(ConfigError, match=r"ca\.pem: exists already"):
        pki.init(fleet.folder, "another")
    assert before == {path: path.read_bytes() for path in before}


def test_names_that_no_identity_can_have_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fleet 'No Fleet'"):
        pki.init(tmp_path, "No Fleet")
    pki.init(tmp_path, "f")
    with pytest.raises(ConfigError, match=r"name '\.\./a'"):
        pki.issue(tmp_path, Role.SITE, "../a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca-key.pem", "ca.pem"]


def test_without_a_sound_ca_nothing_is_issued(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.pem: cannot read the fleet's CA"):
        pki.issue(tmp_path, Role.SITE, "a")
    (tmp_path / "ca.pem").write_bytes(fleet.ca.ca_file.read_bytes())
    (tmp_path / "ca-key.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match="damaged"):
        pki.issue(tmp_path, Role.SITE, "a")
    (tmp_path / "ca-key.pem").write_bytes(fleet.files(Role.SITE, "a").key_file.read_bytes())
    with pytest.raises(ConfigError, match=r"ca-key\.pem: is not the key of"):
        pki.issue(tmp_path, Role.SITE, "a")


def test_a_leaf_is_no_ca(fleet: Fleet, tmp_path: Path) -> None:
    files = fleet.files(Role.SITE, "a")
    (tmp_path / "ca.pem").write_bytes(files.cert_file.read_bytes())
    (tmp_path / "ca-key.pem").write_bytes(files.key_file.read_bytes())
    with pytest.raises(ConfigError, match="is not a fleet's CA"):
        pki.issue(tmp_path, Role.SITE, "b")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"ca-key\.pem: cannot write"):
        pki.init(tmp_path / "file", "f")
