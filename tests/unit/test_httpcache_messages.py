import re
from importlib import import_module

import pytest

import entrepot.httpcache as core
from entrepot.httpcache.messages import Headers


def test_headers_are_values():
    one = Headers([("A", "1"), ("b", "2")])
    assert one == Headers({"A": "1", "b": "2"})
    assert one != Headers({"a": "1", "b": "2"})
    assert one != {"A": "1", "b": "2"}
    assert hash(one) == hash(Headers({"A": "1", "b": "2"}))
    assert repr(one) == "Headers([('A', '1'), ('b', '2')])"
    assert len(one) == 2


def test_headers_are_looked_up_without_regard_to_case():
    headers = Headers([("Vary", "a"), ("vary", "b")])
    assert headers.get("VARY") == "a, b"
    assert headers.all("Vary") == ("a", "b")
    assert headers.all("x") == ()
    assert "vARY" in headers
    assert 1 not in headers
    assert headers.names() == {"vary"}


def test_copies_differ_in_one_field():
    headers = Headers({"A": "1", "B": "2"})
    assert list(headers.replaced("a", "3")) == [("B", "2"), ("a", "3")]
    assert list(headers.added("A", "3")) == [("A", "1"), ("B", "2"), ("A", "3")]
    assert list(headers.without("b")) == [("A", "1")]


def test_every_name_that_the_package_lists_stands_in_its_module():
    listed = re.findall(r"``(\w+)``: ([\w ,;()\n]+)", core.__doc__)
    assert len(listed) == 10
    for module, names in listed:
        for name in re.findall(r"\w+", names.replace("byte ranges", "")):
            assert hasattr(import_module(f"entrepot.httpcache.{module}"), name)


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ({"b"}, [("A", "1"), ("a", "3")]),
        ({"a"}, [("B", "2")]),
        ({"a", "b"}, []),
        ({"c"}, [("A", "1"), ("B", "2"), ("a", "3")]),
    ],
    ids=["one line", "one name in two lines", "all", "none"],
)
def test_less_leaves_lines_and_look_up_in_step(gone, left):
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")]).less(frozenset(gone))
    assert list(headers) == left
    assert headers.names() == {name.lower() for name, _ in left}
    assert all(name not in headers for name in gone)
    assert headers.less(frozenset({"b"})) == Headers([line for line in left if line[0] != "B"])
