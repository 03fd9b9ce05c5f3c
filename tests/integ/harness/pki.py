# SPDX-License-Identifier: Apache-2.0
"""Certificates for integration tests, made by a library that is not ours: an authority as weftd has one, good leaves,
and leaves that are wrong in one thing each.

    ca = pki.Authority("weft.test")
    orders = ca.leaf("shop", "orders")            # .cert (chain, PEM), .key, .roots
    orders.write(tmp_path, "orders")              # orders.crt, orders.key, orders.roots -> three paths
    for name in pki.EVIL:                         # "expired", "two_uris", "nul_in_uri", ...
        bad = pki.evil(name, ca, "shop", "orders")
        bad.says                                  # what a refusal must say ("" when TLS refuses before it is shown)
"""
import contextlib
import datetime
import pathlib
import sqlite3

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


def spiffe_id(trust_domain, ns, sa):
    return f"spiffe://{trust_domain}/ns/{ns}/sa/{sa}"


def new_key(kind="P-256"):
    if kind == "RSA-1024":
        return rsa.generate_private_key(65537, 1024)
    return ec.generate_private_key({"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}[kind]())


def pem_cert(cert):
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def pem_key(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


def _utc(seconds):
    return datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds)


def _key_usage(*on):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{n: n in on for n in names})


class Credential:
    """cert: chain, leaf first; key: PKCS#8; roots: what its holder trusts. All PEM text."""

    def __init__(self, cert, key, roots, identity, says=""):
        self.cert, self.key, self.roots, self.identity, self.says = cert, key, roots, identity, says

    def write(self, folder, name):
        paths = []
        for suffix, text in (("crt", self.cert), ("key", self.key), ("roots", self.roots)):
            path = pathlib.Path(folder) / f"{name}.{suffix}"
            path.touch(mode=0o600)
            path.write_text(text)
            paths.append(str(path))
        return tuple(paths)


class Authority:
    """A root and an issuing intermediate of one trust domain, of the shape that `weftd init` makes."""

    def __init__(self, trust_domain):
        self.trust_domain = trust_domain
        self.root_key, self.issuer_key = new_key(), new_key()
        self.root = self._ca_cert("root", self.root_key, None, None)
        self.issuer = self._ca_cert("issuer", self.issuer_key, self.root, self.root_key, path_length=0)

    @classmethod
    def of_store(cls, path):
        """The authority of a weftd, out of its store: so that wrong leaves are signed by the right one."""
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            meta = dict(db.execute("SELECT key, value FROM meta"))
        ca = cls.__new__(cls)
        ca.trust_domain = bytes(meta["trust_domain"]).decode()
        ca.root, ca.issuer = (x509.load_der_x509_certificate(meta[f"ca_{k}_cert"]) for k in ("root", "issuer"))
        ca.root_key, ca.issuer_key = (serialization.load_der_private_key(meta[f"ca_{k}_key"], None) for k in ("root", "issuer"))
        return ca

    @property
    def roots(self):
        return pem_cert(self.root)

    @property
    def root_hash(self):
        return self.root.fingerprint(hashes.SHA256())

    def _ca_cert(self, kind, key, issuer, issuer_key, path_length=None):
        serial = x509.random_serial_number()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Test {kind} {serial:x}"[:60])])
        return (x509.CertificateBuilder().serial_number(serial).subject_name(name)
                .issuer_name(issuer.subject if issuer else name).public_key(key.public_key())
                .not_valid_before(_utc(-60)).not_valid_after(_utc(86400 * 365))
                .add_extension(x509.BasicConstraints(True, path_length), True)
                .add_extension(_key_usage("key_cert_sign", "crl_sign"), True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), False)
                .add_extension(x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(f"spiffe://{self.trust_domain}")]), False)
                .sign(issuer_key or key, hashes.SHA256()))

    def intermediate(self, issuer, issuer_key):
        """One more CA certificate beneath `issuer`: (certificate, key)."""
        key = new_key()
        return self._ca_cert("intermediate", key, issuer, issuer_key), key

    def leaf(self, ns, sa, *, uris=None, others=(), eku=(SERVER, CLIENT), usage=("digital_signature",), is_ca=False,
             basic=True, begin=-60, end=3600, key_kind="P-256", digest=None, self_signed=False, depth=0, says="",
             with_root=False):
        """A leaf of spiffe://<trust domain>/ns/<ns>/sa/<sa>; each keyword changes one thing of it."""
        identity = spiffe_id(self.trust_domain, ns, sa)
        key = new_key(key_kind)
        issuer, issuer_key, chain = self.issuer, self.issuer_key, [self.issuer]
        if depth:
            issuer, issuer_key, chain = self.root, self.root_key, []
            for _ in range(depth):
                issuer, issuer_key = self.intermediate(issuer, issuer_key)
                chain.insert(0, issuer)
        subject = x509.Name([])
        if self_signed:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
            issuer_key, chain = key, []
        names = [x509.UniformResourceIdentifier(u) for u in ([identity] if uris is None else uris)] + list(others)
        b = (x509.CertificateBuilder().serial_number(x509.random_serial_number()).subject_name(subject)
             .issuer_name(subject if self_signed else issuer.subject).public_key(key.public_key())
             .not_valid_before(_utc(begin)).not_valid_after(_utc(end))
             .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
             .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False))
        if basic:
            b = b.add_extension(x509.BasicConstraints(is_ca, None), True)
        if usage:
            b = b.add_extension(_key_usage(*usage), True)
        if eku:
            b = b.add_extension(x509.ExtendedKeyUsage(list(eku)), False)
        if names:
            b = b.add_extension(x509.SubjectAlternativeName(names), True)
        cert = b.sign(issuer_key, digest or hashes.SHA256())
        if with_root:
            chain = chain + [self.root]
        return Credential("".join(map(pem_cert, [cert] + chain)), pem_key(key), self.roots, identity, says)


# --- leaves that are wrong in one thing; each takes (authority, ns, sa) ---

def expired(ca, ns, sa):
    return ca.leaf(ns, sa, begin=-7200, end=-5, says="has expired")


def not_yet_valid(ca, ns, sa):
    return ca.leaf(ns, sa, begin=300, says="clocks differ")


def no_uri(ca, ns, sa):
    return ca.leaf(ns, sa, uris=[], others=[x509.DNSName("orders")], says="no URI SAN")


def two_uris(ca, ns, sa):
    uris = [spiffe_id(ca.trust_domain, ns, sa), spiffe_id(ca.trust_domain, ns, "other")]
    return ca.leaf(ns, sa, uris=uris, says="2 URI SANs")


def nul_in_uri(ca, ns, sa):
    return ca.leaf(ns, sa, uris=[spiffe_id(ca.trust_domain, ns, sa) + "\0.evil.test"], says="NUL")


def dns_beside_uri(ca, ns, sa):
    return ca.leaf(ns, sa, others=[x509.DNSName("orders.shop.mesh")], says="SANs that are no URI")


def wrong_eku(ca, ns, sa):
    return ca.leaf(ns, sa, eku=[ExtendedKeyUsageOID.CODE_SIGNING], says="extendedKeyUsage")


def no_eku(ca, ns, sa):
    return ca.leaf(ns, sa, eku=(), says="lacks extendedKeyUsage")


def other_trust_domain(ca, ns, sa):
    """Signed by the right authority, named for another trust domain."""
    return ca.leaf(ns, sa, uris=[spiffe_id("other.test", ns, sa)], says="trust domain other.test")


def other_authority(ca, ns, sa):
    """The right name, signed by somebody else's authority of the same trust domain."""
    c = Authority(ca.trust_domain).leaf(ns, sa, says="not signed by a trusted root")
    c.roots = ca.roots
    return c


def self_signed(ca, ns, sa):
    return ca.leaf(ns, sa, self_signed=True, says="self-signed")


def ca_true(ca, ns, sa):
    return ca.leaf(ns, sa, is_ca=True, usage=("digital_signature", "key_cert_sign"), says="CA:TRUE")


def key_cert_sign(ca, ns, sa):
    return ca.leaf(ns, sa, usage=("digital_signature", "key_cert_sign"), says="keyCertSign")


def sha1(ca, ns, sa):
    return ca.leaf(ns, sa, digest=hashes.SHA1(), says="too weak")


def too_deep(ca, ns, sa):
    return ca.leaf(ns, sa, depth=3, says="longer than depth 3")


def upper_case_trust_domain(ca, ns, sa):
    return ca.leaf(ns, sa, uris=[spiffe_id(ca.trust_domain.upper(), ns, sa)], says="trust domain")


def trailing_slash(ca, ns, sa):
    return ca.leaf(ns, sa, uris=[spiffe_id(ca.trust_domain, ns, sa) + "/"], says="service account")


def percent_encoded(ca, ns, sa):
    return ca.leaf(ns, sa, uris=[spiffe_id(ca.trust_domain, ns, "a%2fb")], says="service account")


def p384(ca, ns, sa):
    """Refused by TLS itself, before it is shown: no common signature algorithm."""
    return ca.leaf(ns, sa, key_kind="P-384")


def rsa_1024(ca, ns, sa):
    """Refused by TLS itself, before it is shown: no common signature algorithm."""
    return ca.leaf(ns, sa, key_kind="RSA-1024")


EVIL = {f.__name__: f for f in (
    expired, not_yet_valid, no_uri, two_uris, nul_in_uri, dns_beside_uri, wrong_eku, no_eku, other_trust_domain,
    other_authority, self_signed, ca_true, key_cert_sign, sha1, too_deep, upper_case_trust_domain, trailing_slash,
    percent_encoded, p384, rsa_1024)}


def evil(name, authority, ns="shop", sa="orders"):
    return EVIL[name](authority, ns, sa)
