from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna import pki
from sterna.clock import FakeClock, SystemClock
from sterna.errors import ConfigError
from sterna.identity import Identity, Role, load_credentials
from tests.conftest import Fleet

LABELS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\Z")


def load(files: pki.IssuedFiles, **changes: object) -> Identity:
    arguments: dict[str, object] = {
        "ca_file": files.ca_file,
        "cert_file": files.cert_file,
        "key_file": files.key_file,
        "now": SystemClock().now(),
        **changes,
    }
    return load_credentials(**arguments).identity  # type: ignore[arg-type]


@given(fleet=LABELS, role=st.sampled_from(Role), name=LABELS)
def test_a_uri_reads_back_as_the_identity_that_wrote_it(fleet: str, role: Role, name: str) -> None:
    identity = Identity(fleet=fleet, role=role, name=name)
    assert Identity.parse(identity.uri) == identity
    assert identity.server_name == f"{name}.{role.value}.{fleet}.sterna.internal"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "spiffe://fleet",
        "spiffe://fleet/site",
        "spiffe://fleet/site/",
        "spiffe://fleet/site/a/b",
        "spiffe://fleet/site/a/",
        "spiffe://fleet/boss/a",
        "spiffe://fleet/Site/a",
        "spiffe://Fleet/site/a",
        "spiffe://fleet/site/a_b",
        "spiffe://fleet/site/-a",
        "spiffe://fleet/site/a.b",
        "spiffe://fleet/site/a\n",
        "spiffe://fleet/site/é",
        "spiffe://fleet/site/" + "a" * 64,
        "spiffe://" + "a." * 60 + "b/site/a",
        "spiffe://fleet:1/site/a",
        "spiffe://u@fleet/site/a",
        "spiffe://fleet/site/a?b",
        "spiffe://fleet/site/a#b",
        "https://fleet/site/a",
        "SPIFFE://fleet/site/a",
        " spiffe://fleet/site/a",
    ],
)
def test_anything_else_is_no_identity(uri: str) -> None:
    with pytest.raises(ValueError, match=r"spiffe|fleet|name|role"):
        Identity.parse(uri)


def test_good_files_name_their_holder(fleet: Fleet) -> None:
    credentials = fleet.credentials(Role.SITE, "miami")
    assert credentials.identity.uri == "spiffe://test-fleet/site/miami"
    assert timedelta(days=364) < credentials.not_after_at - datetime.now(UTC) < timedelta(days=366)  # noqa: TID251
    assert "PRIVATE" not in repr(credentials)


def test_a_certificate_of_the_wrong_site_is_named(fleet: Fleet) -> None:
    files = fleet.files(Role.SITE, "miami")
    expected = Identity(fleet="test-fleet", role=Role.SITE, name="sand-point")
    with pytest.raises(
        ConfigError, match=r"site-miami\.pem: is the certificate of .*/miami, not of .*/sand-p"
    ):
        load(files, expected=expected)


def test_the_key_of_another_certificate_is_named(fleet: Fleet) -> None:
    files, other = fleet.files(Role.SITE, "miami"), fleet.files(Role.SITE, "greensboro")
    with pytest.raises(ConfigError, match=r"site-greensboro-key\.pem: is not the key of .*site-miami\.pem"):
        load(files, key_file=other.key_file)


def test_another_ca_is_named(fleet: Fleet, other_fleet: Fleet) -> None:
    with pytest.raises(ConfigError, match=r"site-miami\.pem: not valid under the CA .*ca\.pem"):
        load(fleet.files(Role.SITE, "miami"), ca_file=other_fleet.ca.ca_file)


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (timedelta(days=366), r"site-miami\.pem: expired at 20"),
        (timedelta(days=-2), r"site-miami\.pem: not valid before .*is the clock right"),
    ],
)
def test_the_callers_now_decides_about_time(fleet: Fleet, offset: timedelta, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(fleet.files(Role.SITE, "miami"), now=SystemClock().now() + offset)


def test_a_certificate_that_has_expired_is_judged_by_now_not_by_openssl(tmp_path: Path) -> None:
    then = datetime(2001, 1, 1, tzinfo=UTC)
    pki.init(tmp_path, "old", clock=FakeClock(then))
    files = pki.issue(tmp_path, Role.SITE, "a", clock=FakeClock(then))
    assert load(files, now=then + timedelta(days=1)) == files.identity


@pytest.mark.parametrize("which", ["ca_file", "cert_file", "key_file"])
def test_unreadable_empty_and_damaged_files_are_named(fleet: Fleet, tmp_path: Path, which: str) -> None:
    files = fleet.files(Role.SITE, "miami")
    path = tmp_path / "broken.pem"
    with pytest.raises(ConfigError, match=r"broken\.pem: cannot read the (certificate|private key): No such"):
        load(files, **{which: path})
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"broken\.pem: no (certificate|private key) in PEM form"):
        load(files, **{which: path})
    lines = getattr(files, which).read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"AAAA" + lines[1][4:], *lines[2:]]))
    with pytest.raises(ConfigError, match=r"broken\.pem.*(damaged|not valid)"):
        load(files, **{which: path})


def test_a_certificate_without_a_spiffe_name_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    ca_key = serialization.load_pem_private_key(fleet.ca.key_file.read_bytes(), None)
    ca = x509.load_pem_x509_certificate(fleet.ca.ca_file.read_bytes())
    files = fleet.files(Role.SITE, "miami")
    certificate = x509.load_pem_x509_certificate(files.cert_file.read_bytes())
    plain = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(ca.subject)
        .public_key(certificate.public_key())
        .serial_number(1)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
        .sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]
    )
    path = tmp_path / "plain.pem"
    path.write_bytes(plain.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(ConfigError, match=r"plain\.pem: has 0 URI names"):
        load(files, cert_file=path)


def test_the_check_does_not_ask_for_a_passphrase(fleet: Fleet, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as ser

    files = fleet.files(Role.SITE, "miami")
    key = ser.load_pem_private_key(files.key_file.read_bytes(), None)
    path = tmp_path / "locked.pem"
    path.write_bytes(
        key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.BestAvailableEncryption(b"x"))
    )
    with pytest.raises(ConfigError, match=r"locked\.pem: damaged, or the key is encrypted"):
        load(files, key_file=path)


def test_a_folder_in_place_of_a_file_is_an_error(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(fleet.files(Role.SITE, "miami"), ca_file=tmp_path)
