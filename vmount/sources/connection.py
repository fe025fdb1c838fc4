"""Which vCenter or ESXi host the sources of a command need."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from vmount.errors import Remedy, UsageError
from vmount.sources.registry import recognise
from vmount.vsphere.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.options import OpenOptions


def with_connection(
    options: OpenOptions,
    sources: Sequence[str],
    chosen: Layer | None = None,
    profile: str | None = None,
) -> OpenOptions:
    """Return the options with the connection that is needed if one of the sources is a VM.

    `chosen` is what the command line says, `profile` the one that it names. The password is asked for, if
    it must be. Raises UsageError for a configuration that is wrong.
    """
    if options.connection is not None or not any(
        recognise(source).needs_connection for source in sources
    ):
        return options
    layer = Layer("caller") if chosen is None else chosen
    # Imported here: other sources need none of it.
    from vmount.vsphere.settings import resolve

    try:
        settings = resolve(layer, os.environ, profile)
    except UsageError as error:
        if layer.host is not None or profile is not None:
            raise
        remedy = Remedy(error.command_remedy, error.remedy)
        return replace(options, no_connection=error.message, no_connection_remedy=remedy)
    return replace(options, connection=settings.with_password_read())
