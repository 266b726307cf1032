"""Credentials: given once, in no text, for their own host alone."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import subprocess
import sys

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.stores import BUCKET, SECRET, Store
from wkdask.errors import InputError
from wkdask.storage import (
    Location,
    Options,
    parse_options,
)
from wkdask.storage.address import Address


def test_secrets_are_in_no_text_and_no_pickle(s3: Store) -> None:
    out, handler = io.StringIO(), logging.StreamHandler()
    handler.setStream(out)
    logging.getLogger().addHandler(handler)
    try:
        place = s3.place / "a"
        place.write_bytes(b"1")
        graph = dask.delayed(place.read_bytes)()
        texts = [
            repr(place),
            str(place),
            repr(place.options),
            str(pickle.dumps(place)),
            repr(graph.dask),
            repr(dict(graph.dask)),
        ]
        assert graph.compute(scheduler="sync") == b"1"
    finally:
        logging.getLogger().removeHandler(handler)
    assert SECRET not in "".join(texts) + out.getvalue()
    again = pickle.loads(pickle.dumps(place))
    assert again == place and again.read_bytes() == b"1"
    assert dask.base.tokenize(place) == dask.base.tokenize(again)


@given(
    st.dictionaries(st.sampled_from(["key", "secret", "headers", "token"]), st.text(st.characters(codec="ascii"), min_size=8))
)
def test_options_survive_pickling_and_are_struck_out(given: dict[str, str]) -> None:
    options = Options(given)
    data = pickle.dumps(options)
    assert pickle.loads(data) == options and dict(options) == given
    text = options.conceal(" ".join(given.values()))
    assert not [value for value in given.values() if value in text and value not in "*** *** *** ***"]


def test_the_environment_serves_other_processes(s3: Store) -> None:
    (s3.place / "a").write_bytes(b"1")
    code = f"from wkdask.storage import Location; print(Location.of('{s3.url}/a').read_bytes())"
    for name in ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"):
        environment = {**os.environ, **s3.environment}
        environment[name] = environment.pop("AWS_ENDPOINT_URL")
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
        assert done.stdout == "b'1'\n", done.stderr


def test_urls_with_the_endpoint_in_them(s3: Store) -> None:
    (s3.place / "a").write_bytes(b"1")
    host = s3.endpoint.removeprefix("http://")
    assert Location.of(f"s3://{host}/{BUCKET}/{s3.folder}/a", s3.options).read_bytes() == b"1"
    with pytest.raises(InputError, match="another endpoint"):
        Location.of(f"s3://localhost:1/{BUCKET}/a", s3.options).read_bytes()


@pytest.mark.parametrize(
    ("url", "kept", "endpoint"),
    [
        ("s3://lab.org:9000/b/k", True, "https://lab.org:9000"),
        ("s3://bucket/k", True, "https://lab.org:9000"),
        ("s3://elsewhere.org/b/k", False, "https://elsewhere.org"),
        ("s3://s3.amazonaws.com/b/k", False, None),
        ("https://lab.org:9000/b/k", False, None),
        ("gs://bucket/k", False, None),
    ],
)
def test_credentials_go_to_their_own_host_only(
    url: str, kept: bool, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    base = Location.of("s3://bucket/ds", {"key": "k", "secret": "s", "endpoint_url": "https://lab.org:9000"})
    found = base.linked(url)
    assert ("secret" in found.options) == kept
    assert Address.of(found.url, found.options).options.get("endpoint_url") == endpoint


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("s3.amazonaws.com", True),
        ("s3.eu-west-1.amazonaws.com", True),
        ("s3-us-west-2.amazonaws.com", True),
        ("s3.dualstack.eu-west-1.amazonaws.com", True),
        ("s3-fips.dualstack.us-east-1.amazonaws.com", True),
        ("ec2-203-0-113-25.compute-1.amazonaws.com", False),
        ("s3-mine-1234.us-east-1.elb.amazonaws.com", False),
        ("abc.execute-api.us-east-1.amazonaws.com", False),
        ("s3.amazonaws.com.elsewhere.org", False),
    ],
)
def test_machines_of_customers_of_amazon_get_no_credentials(host: str, trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    given = Location.of("s3://bucket/ds", {"key": "k", "secret": "s"}).linked(f"s3://{host}/b/k")
    assert ("secret" in given.options) == trusted
    found = Location.of("https://lab.org/ds").linked(f"s3://{host}/b/k")  # else the environment's are taken
    assert found.options.get("anon", False) == (not trusted)


def test_users_of_web_servers_are_options() -> None:
    place = Location("https://me:pa%2Fss@host/ds")
    assert place.url == "https://host/ds" and dict(place.options) == {"username": "me", "password": "pa/ss"}


def test_words_of_options() -> None:
    assert dict(parse_options(["key=a=b", "client_kwargs.verify=false", 'headers={"a": "b"}'])) == {
        "key": "a=b",
        "client_kwargs": {"verify": False},
        "headers": {"a": "b"},
    }
    for wrong in (["s3cret"], ["=s3cret"], ["a={s3cret"], ["a=s3cret", "a.b=1"]):
        with pytest.raises(InputError) as caught:
            parse_options(wrong)
        assert "s3cret" not in str(caught.value)


def test_s3fs_is_imported_for_s3_only() -> None:
    code = "import sys, wkdask; from wkdask.storage import Location; Location('memory://a/b').write_bytes(b'1'); "
    code += "print(json.dumps([n for n in ('s3fs', 'aiobotocore', 'gcsfs', 'aiohttp') if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
