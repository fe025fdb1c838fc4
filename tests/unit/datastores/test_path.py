"""R16: names that other programs trip over reach /folder unharmed."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from vmount.datastores.path import DatastorePath, DatastorePathError, folder_url

NAMES = [
    *("plain", "ds@1", "a b", "100%", "%20", "%2520", "a+b", "a#b", "a?b", "a&b", "a=b", "a;b"),
    *("a,b", "a:b", "a'b", 'a"b', "a(b)", "a[b", "a\\b", "a~b", "a!b", "a$b", "a*b", "a|b"),
    *("a]b", "[a] b", "ç", "日本", "\N{GRINNING FACE}", "a{b}", "a^b", "a`b", "-a", ".a", "a..b"),
]


@pytest.mark.requirement("R16")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("via_vcenter", [False, True])
def test_every_name_comes_back(name: str, via_vcenter: bool) -> None:
    url = folder_url(
        "https://vc:8443/",
        DatastorePath(name, f"{name}/{name}.vmdk"),
        name,
        via_vcenter=via_vcenter,
    )
    parts = urlsplit(url)
    query = parse_qs(parts.query, strict_parsing=True)
    twice = unquote if via_vcenter else str
    assert unquote(parts.path) == f"/folder/{name}/{name}.vmdk"
    assert twice(query["dcPath"][0]) == name
    assert twice(query["dsName"][0]) == name
    assert parts.netloc == "vc:8443"
    assert not parts.fragment


@pytest.mark.requirement("R16")
def test_one_address_in_full() -> None:
    assert folder_url(
        "https://vc", DatastorePath.parse("[ds@1] a b/ç%#?&.vmdk"), "folder/DC 0", via_vcenter=False
    ) == ("https://vc/folder/a%20b/%C3%A7%25%23%3F%26.vmdk?dcPath=folder%2FDC%200&dsName=ds%401")
    assert folder_url("https://vc", DatastorePath("ds@1", "x"), "DC 0", via_vcenter=True).endswith(
        "/x?dcPath=DC%25200&dsName=ds%25401"
    )


def test_parsing() -> None:
    path = DatastorePath.parse("[ds@1] a b/c.vmdk")
    assert path == DatastorePath("ds@1", "a b/c.vmdk")
    assert str(path) == "[ds@1] a b/c.vmdk"
    assert DatastorePath.parse("[ds]a]b/[c]") == DatastorePath("ds", "a]b/[c]")
    assert DatastorePath.parse("[d]s] [c] b/[c] b") == DatastorePath("d]s", "[c] b/[c] b")


@pytest.mark.requirement("R16")
@pytest.mark.parametrize(
    "text", ["", "ds/a", "[]a", "[ds]", "[ds] ", "[ds] ../a", "[ds] a/../b", "[ds] a//b", "[d/s] a"]
)
def test_what_names_no_file(text: str) -> None:
    with pytest.raises(DatastorePathError):
        DatastorePath.parse(text)
