"""A certificate for loopback, made when it is needed and never stored."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from syncd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate with its key, as PEM text."""

    certificate_pem: str
    key_pem: str

    def __repr__(self) -> str:
        return "Certificate(…)"

    def server_context(self) -> ssl.SSLContext:
        """Return a context to serve with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # OpenSSL reads a chain from files only; these are gone before the first client comes.
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = Path(directory, "certificate.pem"), Path(directory, "key.pem")
            certificate.write_text(self.certificate_pem)
            key.touch(mode=0o600)
            key.write_text(self.key_pem)
            context.load_cert_chain(certificate, key)
        return context


def make_certificate(host: str) -> Certificate:
    """Given the address to serve on, return a certificate for it, for 127.0.0.1 and for localhost.

    Raises:
        ConfigError: The package `cryptography` is not installed.
    """
    try:
        from cryptography import x509  # noqa: PLC0415  # an extra: only TLS needs it
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
        from cryptography.x509.oid import NameOID  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "The sandbox cannot make a TLS certificate: the package cryptography is not installed.",
            hint="Install it with: pip install 'syncd[tls]'",
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "syncd sandbox portal")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    for address in dict.fromkeys(("127.0.0.1", host)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )
