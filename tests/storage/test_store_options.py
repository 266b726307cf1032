"""Storage options: which store they are for, what can not be one, and what AWS's files add to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wkdask as wk
from tests.cli.conftest import arguments, cli  # noqa: F401 - a fixture
from tests.services.stores import KEY, READER, READER_SECRET, SECRET, Store
from tests.services.web import PASSWORD, USER, web  # noqa: F401 - a fixture
from tests.storage.test_images_on_stores import planes, sent, voxels  # noqa: F401 - a fixture
from wkdask.errors import InputError, StorageError
from wkdask.storage import Location, Options, is_place, parse_options, storage_options
from wkdask.storage.address import Address


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)


# ------------------------------------------------------------------------------------------------- which store


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://lab/em", {"key": "k", "secret": "s", "anon": False}),
        ("s3://raw/em", {"key": "other", "secret": "o"}),
        ("s3://raw", {"key": "other", "secret": "o"}),
        ("s3://raw/deep/em", {"anon": True}),
        ("s3://raw-2/em", {"key": "k", "secret": "s", "anon": False}),
        ("https://lab.org/em", {"username": "me", "anon": False}),
        ("gs://lab/em", {"anon": False}),
        ("sftp://lab/em", {"username": "me", "anon": False}),
        ("HTTPS://lab.org/em", {"username": "me", "anon": False}),
        ("/data/em", {}),
    ],
)
def test_options_go_to_the_stores_that_know_them_or_that_they_name(url: str, expected: dict[str, Any]) -> None:
    words = [
        "key=k",
        "secret=s",
        "username=me",
        "anon=false",
        "s3://raw key=other",
        "s3://raw/ secret=o",
        "s3://raw/deep anon=true",
    ]
    with storage_options(parse_options(words)):
        assert dict(Location.of(url).options) == expected
        assert dict(Location.of(url, {"key": "mine"}).options) == {"key": "mine"}


def test_documents_that_link_to_a_named_store_get_its_options() -> None:
    words = ["s3://raw key=k", "s3://raw secret=s", "s3://raw endpoint_url=https://raw.org", "https://lab.org username=me"]
    with storage_options(parse_options(words)):
        ds = Location.of("https://elsewhere.org/ds")
    assert ds.linked("s3://raw.org/raw/em").options["secret"] == "s"
    assert dict(ds.linked("https://lab.org/em").options) == {"username": "me"}
    for other in ("s3://raw.org/other/em", "s3://elsewhere.org/raw/em", "https://lab.org.evil.org/em"):
        assert "s" not in dict(ds.linked(other).options).values() and "me" not in dict(ds.linked(other).options).values()


def test_links_get_the_options_of_what_they_name_most_closely() -> None:
    with storage_options(parse_options(["https://lab.org username=me", "https://lab.org/other username=you"])):
        ds = Location.of("https://elsewhere.org/ds")
    for url, user in (("https://lab.org/em", "me"), ("https://lab.org/other/em", "you")):
        assert ds.linked(url).options["username"] == user


def test_options_that_clients_take_are_taken(s3: Store) -> None:
    config = {"connect_timeout": None, "connector_args": {"keepalive_timeout": 5}}
    assert Location.of(f"{s3.url}/a", {**s3.options, "config_kwargs": config}).stat() is None
    with pytest.raises(StorageError, match="nothing answers"):
        Location.of("http://127.0.0.1:9/x", {"timeout": None}).read_bytes()


def test_options_for_all_of_a_protocol_are_for_what_users_name_alone() -> None:
    with storage_options(parse_options(["https:// username=me"])):
        ds = Location.of("https://lab.org/ds")
    assert dict(ds.options) == {"username": "me"}
    assert "username" not in ds.linked("https://elsewhere.org/em").options
    assert ds.linked("https://lab.org/em").options["username"] == "me"  # as the document's own host


def test_a_web_source_and_a_target_on_s3_by_the_same_words(s3: Store, web, cli, voxels, tmp_path: Path) -> None:  # noqa: F811
    planes(web.folder / "em", voxels)
    words = [
        f"key={KEY}",
        f"secret={SECRET}",
        f"endpoint_url={s3.endpoint}",
        f"{web.url}/ username={USER}",
        f"{web.url}/ password={PASSWORD}",
    ]
    url = f"{web.url}/private/em/em_0.tif"
    given = [part for word in words for part in ("--storage-options", word)]
    done = cli(*arguments(url, f"{s3.url}/ds"), *given)
    assert done.code == 0, done
    read = wk.Dataset.open(f"{s3.url}/ds", storage_options=s3.options).get_layer("em").get_mag(1).read()
    assert np.array_equal(read[0, ..., 0], voxels[..., 0])
    for data in (Location.of(s3.url, s3.options) / path for path, _ in Location.of(s3.url, s3.options).files_below()):
        assert not any(word.encode() in data.read_bytes() for word in (PASSWORD, SECRET))


# ------------------------------------------------------------------------------------------------- of images


def test_images_have_options_of_their_own_or_those_of_a_target_alike(s3: Store, voxels, tmp_path: Path) -> None:  # noqa: F811
    planes(tmp_path / "em", voxels)
    sent(tmp_path / "em", s3.place / "em")
    reader = {**s3.options, "key": READER, "secret": READER_SECRET}
    one = wk.Dataset.from_images(f"{s3.url}/em", tmp_path / "a", (4, 4, 35), layer_name="em", input_storage_options=reader)
    two = wk.Dataset.from_images(f"{s3.url}/em", f"{s3.url}/b", (4, 4, 35), layer_name="em", storage_options=s3.options)
    two.add_layer_from_images(f"{s3.url}/em/*_0.tif", "first")
    two.add_layer_from_images([f"{s3.url}/em/em_1.tif"], "second", input_storage_options=reader)
    three = wk.Dataset.from_images(Location.of(f"{s3.url}/em", reader), tmp_path / "c", (4, 4, 35), layer_name="em")
    for dataset in (one, two, three):
        assert np.array_equal(dataset.get_layer("em").get_mag(1).read()[0], voxels)
    assert [
        np.array_equal(two.get_layer(n).get_mag(1).read()[0, ..., 0], voxels[..., z]) for z, n in enumerate(("first", "second"))
    ]
    with pytest.raises(StorageError):
        wk.Dataset.from_images(f"{s3.url}/em", tmp_path / "d", (4, 4, 35), input_storage_options={**reader, "secret": "wrong"})
    with pytest.raises(StorageError):
        wk.Dataset.from_images(f"{s3.url}/em", f"{s3.url}/e", (4, 4, 35), storage_options=reader)  # who may not write
    assert not (tmp_path / "d").exists() and not (s3.place / "e").is_folder()


@dataclass
class FakeUPath:
    """What is asked of a ``UPath`` of universal_pathlib, which is no ``os.PathLike`` where it is no local path."""

    url: str
    protocol: str = "s3"
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.url


def test_paths_of_universal_pathlib_bring_their_options(s3: Store, voxels, tmp_path: Path) -> None:  # noqa: F811
    given = FakeUPath(s3.url, storage_options=s3.options)
    assert is_place(given) and Location.of(given) == s3.place and Location.of(given).options == s3.place.options
    planes(tmp_path / "em", voxels)
    sent(tmp_path / "em", s3.place / "em")
    em, ds = (FakeUPath(f"{s3.url}/{name}", storage_options=s3.options) for name in ("em", "ds"))
    wk.Dataset.from_images(em, ds, (4, 4, 35), layer_name="em")
    assert np.array_equal(wk.Dataset.open(ds).get_layer("em").get_mag(1).read()[0], voxels)
    local = wk.Dataset(tmp_path / "local", (4, 4, 35))
    added = local.add_layer_as_ref(FakeUPath(f"{s3.url}/ds/em", storage_options=s3.options))
    assert np.array_equal(added.get_mag(1).read()[0], voxels)


# ------------------------------------------------------------------------------------------------- what can be one


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("s3://b/x", {"sekret": "s3cret-word"}, "sekret is no storage option of s3://. Did you mean secret?"),
        ("s3://b/x", {"key": 12345678, "secret": "s3cret-word"}, "option key of s3:// is of type int, expected text"),
        ("s3://b/x", {"secret": "s3cret-word", "client_kwargs": "abc"}, "client_kwargs of s3:// is of type str"),
        ("s3://b/x", {"secret": "s3cret-word", "client_kwargs": {"regoin_name": "a"}}, "Did you mean region_name?"),
        ("s3://b/x", {"secret": "s3cret-word", "config_kwargs": {"connect_timeout": "soon"}}, "connect_timeout is no number"),
        ("s3://b/x", {"secret": "s3cret-word", "config_kwargs": {"retires": 1}}, "retires"),
        ("s3://b/x", {"anon": "yes", "secret": "s3cret-word"}, "anon of s3:// is of type str, expected true or false"),
        ("s3://b/x", {"endpoint_url": 5, "secret": "s3cret-word"}, "endpoint_url is of type int, expected text"),
        ("gs://b/x", {"projekt": "s3cret-word"}, "projekt is no storage option of gs://. Did you mean project?"),
        ("gs://b/x", {"token": {"s3cret-word": "b"}}, "do not fit gs://"),
        ("http://127.0.0.1:9/x", {"key": "s3cret-word"}, "key is no storage option of http://. There are anon"),
        ("http://127.0.0.1:9/x", {"timeout": "s3cret-word"}, "timeout is no number"),
        ("http://127.0.0.1:9/x", {"client_kwargs": {"pasword": "s3cret-word"}}, "client_kwargs.pasword"),
        ("nosuch://b/x", {"token": "s3cret-word"}, "Protocol not known: nosuch"),
        ("s3://[bench/x", {}, "has no bucket"),
        ("s3:///x", {}, "has no bucket"),
        ("gs://", {}, "has no bucket"),
        ("https:///x", {}, "has no host"),
        ("https://me:s3cret-word/x@host/ds", {}, "has no port behind its host"),
        ("https://host:p/x?X-Amz-Signature=s3cret-word", {}, "has no port behind its host"),
        ("s3://b/x?versionId=5", {}, "names a version"),
        (
            "s3://No_Bucket!/x",
            {"key": "k", "secret": "s3cret-word", "endpoint_url": "http://127.0.0.1:9"},
            "Invalid bucket name",
        ),
    ],
)
def test_what_can_not_be_meant_is_told_at_once_and_shows_no_value(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, StorageError)) as caught:
        wk.Dataset.open(url, storage_options=options)
    assert message in str(caught.value) and "s3cret-word" not in str(caught.value) and "\n" not in str(caught.value)


def test_protocols_are_the_same_in_capitals_and_hosts_may_be_numbers() -> None:
    assert Location("HTTP://host/X").url == "http://host/X" and Location("FILE:///data/X").url == "/data/X"
    assert Location("http://[::1]:80/x").url == "http://[::1]:80/x"


def test_numbers_of_the_command_line_are_numbers(s3: Store) -> None:
    words = [
        *(f"{k}={v}" for k, v in s3.options.items()),
        "config_kwargs.connect_timeout=3",
        "config_kwargs.max_pool_connections=4",
    ]
    with storage_options(parse_options(words)):
        assert Location.of(f"{s3.url}/a").stat() is None


def test_keys_may_have_question_marks(s3: Store) -> None:
    place = s3.place / "what?em"
    wk.Dataset(place, (4, 4, 35)).add_layer("em", "color", dtype="uint8")
    assert str(place) == f"{s3.url}/what?em"
    again = wk.Dataset.open(s3.place / "what?em")
    assert wk.Dataset.open(str(again.path), storage_options=s3.options).layers.keys() == {"em"}
    assert "?" not in str(Location("https://lab.org/em?token=s3cret"))


# ------------------------------------------------------------------------------------------------- AWS's files


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Store) -> Path:
    """A configuration whose profile ``lab`` is the store of the tests, and whose default is elsewhere."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        monkeypatch.delenv(name, raising=False)
    keys = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    config = tmp_path / "config"
    config.write_text(
        "[default]\nendpoint_url = http://127.0.0.1:9\n"
        f"[profile lab]\nservices = lab\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:10\n{keys}"
        f"[services lab]\ns3 =\n  endpoint_url = {s3.endpoint}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return config


def host(endpoint: str) -> str:
    return endpoint.removeprefix("http://")


def test_profiles_name_endpoints(aws: Path, s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lab = {"profile": "lab"}
    dataset = wk.Dataset(f"{s3.url}/ds", (4, 4, 35), storage_options=lab)
    dataset.add_layer("em", "color", dtype="uint8").add_mag(1).write(np.full((8, 8, 8), 7, "uint8"), allow_resize=True)
    assert (s3.place / "ds" / "datasource-properties.json").is_file()
    named = wk.Dataset.open(f"s3://{host(s3.endpoint)}/{s3.url[5:]}/ds", storage_options=lab)
    assert named.get_layer("em").get_mag(1).read().max() == 7
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        wk.Dataset.open(f"{s3.url}/ds")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert wk.Dataset.open(f"{s3.url}/ds").layers.keys() == {"em"}
    local = wk.Dataset(tmp_path / "local", (4, 4, 35))
    local.add_layer_as_ref(f"{s3.url}/ds/em")
    said = (tmp_path / "local" / "datasource-properties.json").read_text()
    assert f"s3://{host(s3.endpoint)}/{s3.url[5:]}/ds/em/1" in said
    assert wk.Dataset.open(tmp_path / "local").get_layer("em").get_mag(1).read().max() == 7
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:11")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:11"):
        wk.Dataset.open(f"{s3.url}/ds")


def test_documents_that_name_the_endpoint_of_a_profile_are_read_with_it(aws: Path, s3: Store) -> None:
    base = Location.of("s3://bucket/ds", {"profile": "lab"})
    own = base.linked(f"s3://{host(s3.endpoint)}/b/k")
    assert own.options["profile"] == "lab" and Address.of(own.url, own.options).store == host(s3.endpoint)
    assert "profile" not in base.linked("s3://elsewhere.org/b/k").options
    assert base.documented == f"s3://{host(s3.endpoint)}/bucket/ds"
    aws.write_text("[profile lab]\nregion = eu-west-1\n")  # changed while the process lives
    assert base.documented == "s3://s3.amazonaws.com/bucket/ds"


def test_endpoints_of_the_files_may_be_ignored(aws: Path, s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Location.of("s3://bucket/ds", {"profile": "lab"})
    assert host(s3.endpoint) in place.documented
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert "amazonaws" in place.documented
    monkeypatch.delenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    aws.write_text(aws.read_text().replace("[profile lab]", "[profile lab]\nignore_configured_endpoint_urls = true"))
    assert "amazonaws" in place.documented


def test_what_is_wrong_with_the_files_of_aws_is_told_by_the_client(aws: Path) -> None:
    for wrong in ("[profile lab\n", "[profile other]\n", "[profile lab]\nservices = nosuch\nendpoint_url = host\n"):
        aws.write_text(wrong)
        with pytest.raises((StorageError, InputError)):
            Location.of("s3://bucket/ds", Options({"profile": "lab"})).is_file()
