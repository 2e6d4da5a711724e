"""Lock files and requirement files."""

import json
import time

import pytest

from entrepot.digests import Digest
from entrepot.lockfiles import Allowed, Pins, hosts_in_lock, links_from, read_arguments, read_lock

A, B, C, M = "a" * 64, "b" * 64, "c" * 64, "d" * 32
SHA_A, SHA_B, SHA_C, MD5 = (
    Digest("sha256", A),
    Digest("sha256", B),
    Digest("sha256", C),
    Digest("md5", M),
)


def facts(known):
    return [(link.url, *(str(d)[:8] for d in link.digests)) for link in known.links]


UV = f"""
version = 1
requires-python = ">=3.11"

[[package]]
name = "my-app"
version = "0.1.0"
source = {{ virtual = "." }}
dependencies = [{{ name = "foo-bar" }}]

[[package]]
name = "foo-bar"
version = "1.0"
source = {{ registry = "https://index.test/simple" }}
sdist = {{ url = "https://files.test/foo-bar-1.0.tar.gz", hash = "sha256:{A}", size = 12, upload-time = "2024-01-02T03:04:05Z" }}
wheels = [
    {{ url = "https://files.test/foo_bar-1.0-py3-none-any.whl", hash = "sha256:{B}", size = 34 }},
    {{ url = "foo_bar-1.0-cp311-cp311-linux_x86_64.whl", hash = "sha256:{C}" }},
    {{ url = "https://files.test/foo_bar-1.0+cu-py3-none-any.whl" }},
]

[[package]]
name = "direct"
version = "2.0"
source = {{ url = "https://files.test/direct-2.0-py3-none-any.whl" }}
wheels = [{{ filename = "direct-2.0-py3-none-any.whl", hash = "sha256:{A}" }}]

[[package]]
name = "direct-sdist"
version = "2.0"
source = {{ url = "https://files.test/direct-sdist.zip" }}
sdist = {{ hash = "sha256:{B}" }}

[[package]]
name = "local"
version = "3.0"
source = {{ registry = "../links" }}
wheels = [{{ path = "local-3.0-py3-none-any.whl" }}]

[[package]]
name = "checkout"
version = "4.0"
source = {{ git = "https://code.test/checkout?rev=main#0123" }}
"""


def test_a_uv_lock_names_urls_and_digests():
    known = read_lock(UV, name="/home/me/uv.lock")
    assert facts(known) == [
        ("https://files.test/foo-bar-1.0.tar.gz", "sha256:a"),
        ("https://files.test/foo_bar-1.0-py3-none-any.whl", "sha256:b"),
        ("https://index.test/simple/foo_bar-1.0-cp311-cp311-linux_x86_64.whl", "sha256:c"),
        ("https://files.test/foo_bar-1.0+cu-py3-none-any.whl",),
        ("https://files.test/foo_bar-1.0%2Bcu-py3-none-any.whl",),
        ("https://files.test/direct-2.0-py3-none-any.whl", "sha256:a"),
        ("https://files.test/direct-sdist.zip", "sha256:b"),
    ]
    first = known.links[0]
    assert (first.project, first.version, first.kind, first.size) == ("foo-bar", "1.0", "sdist", 12)
    assert (first.filename, first.upload_time, first.source) == (
        "foo-bar-1.0.tar.gz",
        "2024-01-02T03:04:05Z",
        "/home/me/uv.lock",
    )
    assert known.hosts == {"index.test:443", "files.test:443"}
    assert known.allowed == ()


def test_links_from_gives_the_links_alone():
    assert links_from(UV, name="uv.lock") == list(read_lock(UV, name="uv.lock").links)


def test_a_poetry_lock_fixes_files_by_their_names():
    known = read_lock(
        f"""
[[package]]
name = "Foo.Bar"
version = "1.0"
files = [
    {{file = "foo_bar-1.0-py3-none-any.whl", hash = "sha256:{A}"}},
    {{file = "foo-bar-1.0.tar.gz", hash = "sha256:{B}"}},
]
[package.source]
type = "legacy"
url = "https://user:pw@index.test/simple"
reference = "mine"

[[package]]
name = "direct"
version = "2.0"
files = [{{file = "direct-2.0-py3-none-any.whl", hash = "sha256:{C}"}}]
[package.source]
type = "url"
url = "https://files.test/direct-2.0-py3-none-any.whl"

[[package]]
name = "checkout"
version = "1"
files = []
[package.source]
type = "git"
url = "https://code.test/checkout.git"
""",
        name="poetry.lock",
    )
    assert known.allowed == (
        Allowed((SHA_A,), "foo-bar", "1.0", "foo_bar-1.0-py3-none-any.whl", source="poetry.lock"),
        Allowed((SHA_B,), "foo-bar", "1.0", "foo-bar-1.0.tar.gz", source="poetry.lock"),
    )
    assert facts(known) == [("https://files.test/direct-2.0-py3-none-any.whl", "sha256:c")]
    assert known.hosts == {"index.test:443", "files.test:443"}


def test_an_old_poetry_lock_has_its_files_in_the_metadata():
    known = read_lock(
        f'[[package]]\nname="x"\nversion="1.0"\n[metadata.files]\nX = [{{file = "x-1.0.tar.gz", hash = "sha256:{A}"}}]',
        name="poetry.lock",
    )
    assert known.allowed == (Allowed((SHA_A,), "x", "1.0", "x-1.0.tar.gz", source="poetry.lock"),)


def test_a_pdm_lock_fixes_files_by_name_or_by_url():
    known = read_lock(
        f"""
[metadata]
lock_version = "4.5.0"
[[package]]
name = "x"
version = "1.0"
files = [
    {{file = "x-1.0-py3-none-any.whl", hash = "sha256:{A}"}},
    {{url = "https://files.test/x-1.0.tar.gz", hash = "sha256:{B}"}},
]
[[package]]
name = "y"
version = "2.0"
url = "https://files.test/y-2.0.zip"
files = [{{file = "y-2.0.zip", hash = "sha256:{C}"}}]
""",
        name="pdm.lock",
    )
    assert known.allowed == (
        Allowed((SHA_A,), "x", "1.0", "x-1.0-py3-none-any.whl", source="pdm.lock"),
    )
    assert facts(known) == [
        ("https://files.test/x-1.0.tar.gz", "sha256:b"),
        ("https://files.test/y-2.0.zip", "sha256:c"),
    ]


@pytest.mark.parametrize("name", ["pylock.toml", "pylock.dev.toml"])
def test_a_pylock_names_files_with_all_their_hashes(name):
    """PEP 751."""
    known = read_lock(
        f"""
lock-version = "1.0"
[[packages]]
name = "x"
version = "1.0"
index = "https://index.test/simple"
sdist.url = "https://files.test/x-1.0.tar.gz"
sdist.upload-time = 2024-01-02T03:04:05Z
sdist.hashes = {{ sha256 = "{A}", md5 = "{M}" }}
[[packages.wheels]]
name = "x-1.0-py3-none-any.whl"
path = "wheels/x-1.0-py3-none-any.whl"
hashes = {{ sha256 = "{B}" }}
[[packages]]
name = "y"
archive = {{ url = "https://files.test/y.zip", hashes = {{ sha256 = "{C}" }} }}
[[packages]]
name = "z"
vcs = {{ type = "git", url = "https://code.test/z", commit-id = "0" }}
""",
        name=name,
    )
    assert facts(known) == [
        ("https://files.test/x-1.0.tar.gz", "sha256:a", "md5:dddd"),
        ("https://files.test/y.zip", "sha256:c"),
    ]
    assert known.links[0].upload_time == "2024-01-02T03:04:05+00:00"
    assert known.allowed == (Allowed((SHA_B,), "x", "1.0", "x-1.0-py3-none-any.whl", source=name),)
    assert known.hosts == {"index.test:443", "files.test:443"}


def test_a_pipfile_lock_allows_any_of_a_versions_hashes():
    text = json.dumps(
        {
            "_meta": {"sources": [{"url": "https://index.test/simple", "name": "x"}]},
            "default": {
                "Foo_Bar": {"hashes": [f"sha256:{A}", f"sha256:{B}"], "version": "==1.0"},
                "git": {"git": "https://code.test/x"},
            },
        }
    )
    known = read_lock(text, name="Pipfile.lock")
    assert known.allowed == (Allowed((SHA_A, SHA_B), "foo-bar", "1.0", source="Pipfile.lock"),)
    assert known.hosts == {"index.test:443"}


REQUIREMENTS = f"""\
# a comment with https://home.test/
-i https://user:pw@index.test/simple
--extra-index-url=https://extra.test:8443/simple
--find-links 'https://links.test/'
-r other.txt
-cconstraints.txt
--requirement="third.txt"
foo-bar[x,y] == 1.0 ; python_version > "3" \\
    --hash=sha256:{A} \\
    # a comment that ends it
Foo_Baz==2.0.0 --hash=sha256:{A} --hash sha256:{B}  # and --hash=sha256:{C}
ranged>=1,<2 --hash=sha512:{"e" * 128}
wild==1.* --hash=sha256:{C}
unhashed==1.0
one @ https://files.test/one-1.0-py3-none-any.whl#sha256={A}
two@https://files.test/two-1.0.tar.gz \\
  --hash=sha256:{B}
three @ https://files.test/three-1.0.tar.gz ; python_version > "3" --hash=sha256:{A} --hash=sha256:{B}
https://u:p@files.test/four-1.0.zip#egg=four&sha256={C}
git+https://code.test/five@main#egg=five
-e git+https://code.test/six
./local-1.0-py3-none-any.whl --hash=sha256:{A}
short==1 --hash=sha256:abc
"""


def test_a_requirement_file_gives_hashes_and_direct_urls():
    known = read_lock(REQUIREMENTS, name="req/requirements.txt")
    assert facts(known) == [
        ("https://files.test/one-1.0-py3-none-any.whl", "sha256:a"),
        ("https://files.test/two-1.0.tar.gz", "sha256:b"),
        ("https://files.test/three-1.0.tar.gz",),
        ("https://files.test/four-1.0.zip", "sha256:c"),
    ]
    assert [(a.project, a.version, len(a.digests), a.url) for a in known.allowed] == [
        ("foo-bar", "1.0", 1, ""),
        ("foo-baz", "2.0.0", 2, ""),
        ("ranged", None, 1, ""),
        ("wild", None, 1, ""),
        ("three", None, 2, "https://files.test/three-1.0.tar.gz"),
    ]
    assert known.includes == ("other.txt", "constraints.txt", "third.txt")
    assert known.hosts == {"index.test:443", "extra.test:8443", "links.test:443", "files.test:443"}


def test_no_credential_of_a_requirement_file_is_kept():
    assert "pw" not in repr(read_lock(REQUIREMENTS, name="x.txt"))
    assert "u:p" not in repr(read_lock(REQUIREMENTS, name="x.txt"))


def test_windows_line_ends_and_a_missing_last_one_change_nothing():
    assert read_lock(REQUIREMENTS.replace("\n", "\r\n"), name="x") == read_lock(
        REQUIREMENTS, name="x"
    )
    assert read_lock(f"x==1 \\\n --hash=sha256:{A}", name="x").allowed[0].digests == (SHA_A,)
    assert read_lock(f"x==1 --hash=sha256:{A} \\", name="x").allowed[0].digests == (SHA_A,)


def test_a_conda_explicit_list_names_urls_with_bare_digests():
    known = read_lock(
        f"""# platform: linux-64
@EXPLICIT
https://channel.test/main/linux-64/numpy-1.26.0-py311_0.conda#{M}
https://channel.test/main/noarch/x-1.0-0.tar.bz2#sha256:{A}
https://channel.test/t/tk-1/noarch/y-1.0-0.conda#{B}
https://channel.test/main/noarch/z-1.0-0.conda
""",
        name="explicit.txt",
    )
    assert facts(known) == [
        ("https://channel.test/main/linux-64/numpy-1.26.0-py311_0.conda", "md5:dddd"),
        ("https://channel.test/main/noarch/x-1.0-0.tar.bz2", "sha256:a"),
        ("https://channel.test/t/tk-1/noarch/y-1.0-0.conda", "sha256:b"),
        ("https://channel.test/main/noarch/z-1.0-0.conda",),
    ]
    assert (known.links[0].project, known.links[0].version, known.links[0].kind) == (
        "numpy",
        "1.26.0",
        "archive",
    )


def test_a_conda_lock_names_urls_with_nested_digests():
    known = read_lock(
        f"""# comment
version: 1
metadata:
  channels:
  - url: conda-forge
    used_env_vars: []
  platforms:
  - linux-64
package:
- name: numpy
  version: 1.26.0
  manager: conda
  dependencies:
    url: '>=1'
    python: ''
  url: https://channel.test/linux-64/numpy-1.26.0-py311_0.conda
  hash:
    md5: {M}
    sha256: {A}
  category: main
- name: Foo_Bar
  version: '1.0'
  manager: pip
  dependencies: {{}}
  url: "https://files.test/foo_bar-1.0-py3-none-any.whl"
  hash:
    sha256: {B}
""",
        name="conda-lock.yml",
    )
    assert facts(known) == [
        ("https://channel.test/linux-64/numpy-1.26.0-py311_0.conda", "sha256:a", "md5:dddd"),
        ("https://files.test/foo_bar-1.0-py3-none-any.whl", "sha256:b"),
    ]
    assert [link.project for link in known.links] == ["numpy", "foo-bar"]


def test_a_pixi_lock_names_urls_with_digests():
    known = read_lock(
        f"""version: 6
environments:
  default:
    channels:
    - url: https://channel.test/main/
    packages:
      linux-64:
      - conda: https://channel.test/main/linux-64/numpy-1.26.0-py311_0.conda
      - pypi: https://files.test/x-1.0-py3-none-any.whl
packages:
- conda: https://channel.test/main/linux-64/numpy-1.26.0-py311_0.conda
  sha256: {A}
  md5: {M}
  depends:
  - __glibc >=2.17,<3.0.a0
  - python >=3.11
  size: 1234
- pypi: https://files.test/x-1.0-py3-none-any.whl
  name: x
  version: '1.0'
  sha256: {B}
""",
        name="pixi.lock",
    )
    assert facts(known)[-2:] == [
        ("https://channel.test/main/linux-64/numpy-1.26.0-py311_0.conda", "sha256:a", "md5:dddd"),
        ("https://files.test/x-1.0-py3-none-any.whl", "sha256:b"),
    ]
    assert known.links[-2].size == 1234
    assert known.hosts == {"channel.test:443", "files.test:443"}


def test_a_command_line_names_direct_urls_and_hashes():
    known = read_arguments(
        [
            "install",
            "--index-url",
            "https://index.test/simple",
            "--proxy=http://p.test",
            f"x @ https://files.test/x-1.0.zip#sha256={A}",
            "https://files.test/y-1.0.tar.gz",
            "foo==1.0",
            f"--hash=sha256:{B}",
            "--hash",
            f"sha256:{C}",
            "-r",
            "req.txt",
            "git+https://code.test/z",
        ]
    )
    assert facts(known) == [
        ("https://files.test/x-1.0.zip", "sha256:a"),
        ("https://files.test/y-1.0.tar.gz",),
    ]
    assert known.allowed == (
        Allowed((SHA_B, SHA_C), "foo", "1.0", source="the command line", binds=True),
    )
    assert known.includes == ()


@pytest.mark.parametrize(
    "name",
    ["uv.lock", "poetry.lock", "pylock.toml", "Pipfile.lock", "conda-lock.yml", "requirements.txt"],
)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "[" * 50_000,
        "{" * 50_000,
        "- " * 10_000,
        "\n\\" * 1000,
        "package = 5",
        "[[package]]\nwheels = [5]",
        '{"default": [1]}',
        '{"default": {"x": {"hashes": [5, null], "version": 5}}}',
        "[[package]]\nname = 5\nversion = []\nsource = 7\nfiles = [{url = 5, hash = 7}]",
    ],
    ids=range(11),
)
def test_a_file_that_cannot_be_read_says_nothing(name, text):
    known = read_lock(text, name=name)
    assert (known.links, known.allowed) == ((), ())


def test_a_broken_lock_says_what_is_the_matter():
    assert read_lock("[[package", name="uv.lock").problem
    assert read_lock("{", name="Pipfile.lock").problem


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", set()),
        (
            "https://A.Test/x http://b.test:8080/ https://u:p@c.test",
            {"a.test:443", "b.test:8080", "c.test:443"},
        ),
        ("https://[::1]:8443/x http://[::1]", {"[::1]:8443", "[::1]:80"}),
        ("git+https://code.test/x", set()),
        ('git = "https://code.test/x"', set()),
        ("'https://a.test','https://b.test'", {"a.test:443", "b.test:443"}),
        ("https:// http:///x https://@", set()),
    ],
)
def test_hosts_of_packages_are_found_in_any_text(text, hosts):
    assert hosts_in_lock(text) == hosts


def test_the_most_exact_pin_decides_and_equal_ones_are_added_up():
    pins = Pins(
        [
            Allowed((SHA_A,), "x", "1.0", "x-1.0.zip"),
            Allowed((SHA_B,), "x", "1.0", "x-1.0.zip"),
            Allowed((SHA_C,), "x", "1.0"),
            Allowed((MD5,), "x", None),
            Allowed((MD5,), url="https://files.test/y.zip"),
        ]
    )
    assert pins.allowed(project="x", version="1.0", filename="x-1.0.zip") == {SHA_A, SHA_B}
    assert pins.allowed(project="x", version="1.0", filename="x-1.0.tar.gz") == {SHA_C}
    assert pins.allowed(project="x", version="1.1") == {MD5}
    assert pins.allowed(url="https://files.test/y.zip", project="x", version="1.0") == {MD5}
    assert pins.allowed(project="other", version="1.0") == frozenset()
    assert pins.allowed() == frozenset()


def test_a_lock_of_a_hundred_thousand_lines_is_read_in_seconds():
    text = "".join(
        f"- conda: https://channel.test/noarch/x{i}-1.0-0.conda\n  sha256: {A}\n  md5: {M}\n  depends:\n  - y\n"
        for i in range(20_000)
    )
    start = time.process_time()
    assert len(read_lock(text, name="pixi.lock").links) == 20_000
    assert time.process_time() - start < 5
