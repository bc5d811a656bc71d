"""A real directory: Debian's slapd in a folder and on ports of its own, with people, groups and a certificate.

    with Slapd.launched(folder) as directory:
        directory.add("dn: uid=ada,ou=people,dc=test ...")

It knows the attributes of Active Directory that realms of the type `ad` read, as far as OpenLDAP can have them.
"""

import contextlib
import datetime
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from framework.patience import PATIENCE

ADMIN = "cn=admin,dc=test"
SECRET = "directory-secret"
PEOPLE = "ou=people,dc=test"
GROUPS = "ou=groups,dc=test"

_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP inetOrgPerson STRUCTURAL
  MAY ( sAMAccountName $ userPrincipalName ) )
objectclass ( 1.2.840.113556.1.5.8 NAME 'group' SUP top STRUCTURAL MUST cn
  MAY ( member $ description $ sAMAccountName ) )
pidfile {folder}/slapd.pid
argsfile {folder}/slapd.args
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
allow bind_anon_cred bind_anon_dn
sizelimit size.soft=500 size.hard=unlimited
database mdb
maxsize 268435456
suffix "dc=test"
rootdn "{admin}"
rootpw {secret}
directory {folder}/data
dbnosync
overlay memberof
memberof-group-oc group
memberof-member-ad member
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous auth
"""
_BASE = """dn: dc=test
objectClass: dcObject
objectClass: organization
dc: test
o: Test

dn: ou=people,dc=test
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=test
objectClass: organizationalUnit
ou: groups
"""


def person(name: str, password: str = "", **more: str) -> str:
    """The LDIF of somebody below `PEOPLE`."""
    lines = [f"dn: uid={name},{PEOPLE}", "objectClass: user", f"uid: {name}", f"cn: {name}", f"sn: {name}"]
    lines += [f"userPassword: {password}"] if password else []
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in more.items()), ""])


def group(name: str, *members: str) -> str:
    """The LDIF of a group of people below `GROUPS`."""
    lines = [f"dn: cn={name},{GROUPS}", "objectClass: group", f"cn: {name}"]
    return "\n".join([*lines, *(f"member: uid={member},{PEOPLE}" for member in members), ""])


class Slapd:
    """One directory. `port` speaks LDAP and StartTLS, `tls_port` LDAPS, `authority` is its certificate's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port = _free_ports()
        self.authority = folder / "ca.pem"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def launched(cls, folder: Path, *entries: str) -> Iterator["Slapd"]:
        """A directory that answers, with these entries."""
        directory = cls(folder)
        (folder / "data").mkdir(parents=True)
        _certify(folder)
        config = _CONFIG.format(folder=folder, admin=ADMIN, secret=SECRET)
        (folder / "slapd.conf").write_text(config)
        directory.load("\n".join([_BASE, *entries]))
        directory.start()
        try:
            yield directory
        finally:
            directory.stop()

    def load(self, ldif: str) -> None:
        """Add entries, many of them quickly, while it does not run."""
        argv = ["/usr/sbin/slapadd", "-q", "-f", str(self.folder / "slapd.conf")]
        done = subprocess.run(argv, input=ldif.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        with (self.folder / "slapd.log").open("wb") as log:
            argv = ["/usr/sbin/slapd", "-h", urls, "-f", str(self.folder / "slapd.conf"), "-d", "0"]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30 * PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.tls_port)):
                return
            time.sleep(0.02)
        raise RuntimeError(f"slapd does not answer:\n{(self.folder / 'slapd.log').read_text()}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30 * PATIENCE)

    def modify(self, ldif: str) -> None:
        """Change entries while it runs (ldapmodify(1)); those without a `changetype` are added."""
        argv = ["/usr/bin/ldapmodify", "-a", "-x", "-H", f"ldap://127.0.0.1:{self.port}", "-D", ADMIN, "-w", SECRET]
        done = subprocess.run(argv, input=ldif.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _certify(folder: Path) -> None:
    """An authority of its own, and a certificate for 127.0.0.1 and localhost by it."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    root = _builder(issuer, authority, ca=True).subject_name(issuer).sign(authority, hashes.SHA256())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    leaf = _builder(issuer, key, ca=False).subject_name(subject).add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "cert.pem").write_bytes(leaf.sign(authority, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _builder(issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
