"""Certificates for a TLS server on 127.0.0.1."""

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """A private certificate authority, which no system trust store contains."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    # The authority's certificate in PEM.
    file: Path


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


_LOCAL = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


def authority(folder: Path, name: str) -> Authority:
    """Creates an authority and writes its certificate to `<name>.pem`."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), _named(name)
    certificate = (
        _builder(subject, subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(_pem(certificate))
    return Authority(subject, key, file)


def server(folder: Path, issuer: Authority) -> ssl.SSLContext:
    """Returns the context of a server at 127.0.0.1 whose certificate `issuer` signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_named("Ray's dashboard"), issuer.name)
        .public_key(key.public_key())
        .add_extension(_LOCAL, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    return _context(folder / "server.pem", certificate, key)


def self_signed_server(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Returns the context of a server at 127.0.0.1 and the path of its certificate.

    The certificate is self-signed, as `openssl req -x509` creates it.
    """
    key, subject = ec.generate_private_key(ec.SECP256R1()), _named("self-signed")
    certificate = (
        _builder(subject, subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_LOCAL, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "self-signed.pem"
    file.write_bytes(_pem(certificate))
    return _context(folder / "self-signed-with-key.pem", certificate, key), file


def _context(
    file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> ssl.SSLContext:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(_pem(certificate) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
