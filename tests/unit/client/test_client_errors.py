"""An answer becomes the error that the daemon raised."""

import json

import pytest

from bastide.base import errors
from bastide.client.errors import ApiError, from_answer, from_text


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (500, "Configuration file 'nodes/a/lxc/100.conf' does not exist\n", errors.NotFound),
        (500, "no such task", errors.NotFound),
        (500, "CT 100 already exists on node 'a'", errors.AlreadyExists),
        (500, "can't lock guest 100: UPID:a:... (vzcreate) works on it", errors.Locked),
        (500, "detected modified configuration - file changed by other user? Try again.", errors.Conflict),
        (500, "CT 100 not running", errors.WrongState),
        (500, "storage 'xf' is disabled", errors.WrongState),
        (500, "can't remove storage - used by CT 103", errors.WrongState),
        (500, "CT 100 is a template: its volumes keep their sizes", errors.WrongState),
        (500, "storage 'xf' does not support content type 'rootdir'", errors.NotSupported),
        (500, "internal error 12ab: the daemon's log tells more", ApiError),
        (403, "Permission check failed (/, Sys.Audit)", errors.PermissionDenied),
        (401, "", errors.AuthenticationFailed),
        (501, "Method 'GET /x' not implemented", errors.MethodNotImplemented),
    ],
)
def test_status_and_text_decide(status, message, expected):
    body = json.dumps({"data": None, "message": message}).encode() if message else b""
    error = from_answer(status, "Unauthorized", body)
    assert type(error) is expected
    assert str(error) == (message.strip() or "Unauthorized")


def test_bad_parameters_are_named():
    body = b'{"data":null,"message":"Parameter verification failed.\\n","errors":{"memory":"too small"}}'
    error = from_answer(400, "Parameter verification failed.", body)
    assert isinstance(error, errors.InvalidParameter)
    assert error.errors == {"memory": "too small"}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": 5}', b"\xff\xfe"])
def test_a_body_that_is_no_answer(body):
    assert "Bad Gateway" in str(from_answer(502, "Bad Gateway", body))


def test_an_unknown_sentence_is_not_guessed():
    assert from_text("tar: unexpected end of file") is None
