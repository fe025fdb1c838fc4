"""Reading properties of many objects in one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyVmomi import vmodl

PAGE = 250
"""Objects an answer holds at most; the rest is fetched by continuing."""


class Properties(dict[str, Any]):
    """An object's properties by name; what it does not have, or may not be read, is not in it."""

    def __init__(
        self,
        reference: Any,
        values: Mapping[str, Any],
        refused: Mapping[str, vmodl.MethodFault] | None = None,
    ) -> None:
        super().__init__(values)
        self.reference = reference
        self.refused = refused or {}
        """Why properties may not be read, by their names."""
        self.moref: str = reference._moId  # noqa: SLF001 (there is no other way to it)


def retrieve(
    collector: vmodl.query.PropertyCollector,
    objects: Sequence[vmodl.query.PropertyCollector.ObjectSpec],
    wanted: Mapping[type, Sequence[str]],
) -> list[Properties]:
    """Return the `wanted` properties by type of what `objects` select. Blocks.

    Raises what pyvmomi raises; NotAuthenticated also where the server tells of it object by object.
    """
    from pyVmomi import vim, vmodl

    query = vmodl.query.PropertyCollector
    filters = query.FilterSpec(
        objectSet=list(objects),
        propSet=[
            query.PropertySpec(type=kind, pathSet=list(paths)) for kind, paths in wanted.items()
        ],
    )
    found = []
    answer = collector.RetrievePropertiesEx([filters], query.RetrieveOptions(maxObjects=PAGE))
    while answer is not None:
        for content in answer.objects:
            for missing in content.missingSet or ():
                if isinstance(missing.fault, vim.fault.NotAuthenticated):
                    raise missing.fault
            values = {one.name: one.val for one in content.propSet or ()}
            refused = {missing.path: missing.fault for missing in content.missingSet or ()}
            found.append(Properties(content.obj, values, refused))
        if not answer.token:
            break
        answer = collector.ContinueRetrievePropertiesEx(answer.token)
    return found
