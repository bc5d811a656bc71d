"""TLS for tests that connect to a host whose certificate is its own."""

import ssl


def anyone() -> ssl.SSLContext:
    """A client's context that believes every certificate.

    TLS 1.2, which sends nothing of its own after the handshake: the `websockets` library reads and writes from two
    threads at once, and TLS 1.3's tickets change the state of both. Python locks an SSL object since 3.13 alone.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
