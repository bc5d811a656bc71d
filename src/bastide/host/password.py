"""Password hashes for `shadow(5)`, made by the C library's `crypt(3)`."""

import ctypes
import secrets
from functools import cache

_SALT_CHARACTERS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@cache
def _crypt() -> ctypes.CDLL:
    library = ctypes.CDLL("libcrypt.so.1", use_errno=True)
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    return library


def hash_password(password: str) -> str:
    """A salted SHA-512 hash (`$6$`), which every Linux distribution's login understands."""
    salt = "".join(secrets.choice(_SALT_CHARACTERS) for _ in range(16))
    hashed = _crypt().crypt(password.encode(), f"$6${salt}$".encode())
    if not hashed or hashed.startswith(b"*"):
        raise OSError(ctypes.get_errno(), "crypt(3) made no hash")
    return str(hashed.decode())
