"""What AWS's files of configuration, ``~/.aws``, say of S3's endpoint and region."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

FILES = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))


def settings_of_profile(profile: str | None) -> Mapping[str, str]:
    """Return ``endpoint_url`` and ``region`` that the files give a profile for S3, as far as they do.

    What is wrong with the files, or a profile that they do not have, is left for the client to tell, which says it better.

    Parameters
    ----------
    profile
        Its name; None stands for that of the environment, or the default.

    References
    ----------
    `Service-specific endpoints <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>`_ in AWS's guide.

    Examples
    --------
    >>> settings_of_profile("there-is-none")
    {}
    """
    paths = [os.path.expanduser(os.environ.get(name) or usual) for name, usual in FILES]
    stamps = tuple((path, _stamp(path)) for path in paths)
    if not any(stamp for _, stamp in stamps):
        return {}
    if (os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or "").lower() == "true":
        return {name: value for name, value in _settings(_name(profile), stamps).items() if name != "endpoint_url"}
    return _settings(_name(profile), stamps)


def _name(profile: str | None) -> str | None:
    return profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=16)
def _settings(profile: str | None, stamps: tuple[tuple[str, int], ...]) -> Mapping[str, str]:  # noqa: ARG001
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:  # which making the client tells
        return {}
    session = Session(profile=profile)
    try:
        scoped: Mapping[str, Any] = session.get_scoped_config()
        services = session.full_config.get("services", {}).get(scoped.get("services"), {})
    except BotoCoreError:
        return {}
    of_s3 = services.get("s3")
    ignored = str(scoped.get("ignore_configured_endpoint_urls")).lower() == "true"
    endpoint = (of_s3.get("endpoint_url") if isinstance(of_s3, dict) else None) or scoped.get("endpoint_url")
    found = {"endpoint_url": None if ignored else endpoint, "region": scoped.get("region")}
    return {name: str(value) for name, value in found.items() if value}
