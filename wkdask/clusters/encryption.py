"""TLS between client, scheduler and workers, as dask's configuration says."""

from __future__ import annotations

import os
from typing import Any

from wkdask.errors import InputError

ROLES = ("scheduler", "worker", "client")


def encryption() -> Any:
    """Return dask's `distributed.security.Security` where its configuration demands TLS, else None.

    It does where ``distributed.comm.require-encryption`` is true; files are those of ``distributed.comm.tls``.

    Raises
    ------
    InputError
        Where one that somebody needs is not given, or not there.

    Examples
    --------
    >>> encryption() is None
    True
    """
    from distributed.security import Security

    security = Security()
    if not security.require_encryption:
        return None
    for role in ROLES:
        given = security.get_tls_config_for_role(role)
        for what, name in (("ca_file", "ca-file"), ("cert", f"{role}.cert"), ("key", f"{role}.key")):
            place = given.get(what)
            if not place or not os.path.isfile(place):
                found = f"there is no file {place}" if place else "it is not given"
                raise InputError(
                    f"dask's configuration demands encryption, but of distributed.comm.tls.{name} {found}. Give a file in PEM "
                    "format in a folder that all nodes see, or set distributed.comm.require-encryption to false."
                )
    return security
