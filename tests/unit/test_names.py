"""Project names and file names."""

import subprocess
import sys

import pytest
from packaging.utils import canonicalize_name

from entrepot.names import (
    classify,
    filename_of,
    is_plain_filename,
    normal_version,
    normalize,
)


@pytest.mark.parametrize(
    "name", ["x", "Foo", "foo__bar", "Foo.-_Bar", "a.b.c", "---", "\u0130x", ""]
)
def test_names_are_normalized_as_packaging_does(name):
    assert normalize(name) == canonicalize_name(name)


WHEELS = [
    ("Foo_Bar-1.0-py3-none-any.whl", "foo-bar", "1.0", "py3-none-any", ""),
    ("foo-1.0-2-py3-none-any.whl", "foo", "1.0", "py3-none-any", "2"),
    ("foo-1.0-2build-py3-none-any.whl", "foo", "1.0", "py3-none-any", "2build"),
    (
        "zope.interface-2024.01.05-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "zope-interface",
        "2024.1.5",
        "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "",
    ),
    (
        "torch-2.1.0+cpu.cxx11.abi-cp311-cp311-linux_x86_64.whl",
        "torch",
        "2.1.0+cpu.cxx11.abi",
        "cp311-cp311-linux_x86_64",
        "",
    ),
    (
        "x-1!2.0rc1.post2.dev3-py2.py3-none-any.whl",
        "x",
        "1!2.0rc1.post2.dev3",
        "py2.py3-none-any",
        "",
    ),
    ("x-1.0_1-py3-none-any.whl", "x", "1.0.post1", "py3-none-any", ""),
]


@pytest.mark.parametrize(("filename", "project", "version", "tags", "build"), WHEELS)
def test_a_wheel_is_taken_apart(filename, project, version, tags, build):
    found = classify(filename)
    assert (found.kind, found.project, found.version, found.tags, found.build) == (
        "wheel",
        project,
        version,
        tags,
        build,
    )
    assert found.filename == filename


@pytest.mark.parametrize(("filename", "project", "version", "tags", "build"), WHEELS)
def test_a_metadata_sibling_is_named_after_its_wheel(filename, project, version, tags, build):
    found = classify(f"{filename}.metadata")
    assert (found.kind, found.project, found.version, found.filename) == (
        "metadata",
        project,
        version,
        f"{filename}.metadata",
    )


@pytest.mark.parametrize(
    ("filename", "known", "project", "version"),
    [
        ("foo-1.0.tar.gz", None, "foo", "1.0"),
        ("Foo.Bar-1.0.zip", None, "foo-bar", "1.0"),
        ("foo-bar-1.0.tar.gz", None, "foo-bar", "1.0"),
        ("foo-bar-1.0.tar.gz", "foo-bar", "foo-bar", "1.0"),
        ("foo-2-1.0.tar.gz", None, "foo-2", "1.0"),
        ("foo-2-1.0.tar.gz", "foo", "foo", "2.post1.0"),
        ("foo-1.0-1.tar.gz", None, "foo-1-0", "1"),
        ("foo-1.0-1.tar.gz", "foo", "foo", "1.0.post1"),
        ("foo-1.0-beta1.tar.gz", None, "foo", "1.0b1"),
        ("pytz-2004d.tar.gz", None, "pytz", "2004d"),
        ("python-foo-1.0.tgz", None, "python-foo", "1.0"),
        ("foo-bar-1.0.tar.bz2", None, "foo-bar", "1.0"),
        ("numpy-1.26-py311_0.tar.bz2", "numpy", "numpy", "1.26-py311_0"),
        ("x-1.0.tar.xz", None, "x", "1.0"),
    ],
)
def test_an_sdist_is_taken_apart_with_and_without_its_project(filename, known, project, version):
    found = classify(filename, project=known)
    if version == "2.post1.0":  # no version at all: the text after the name stays as it is
        version = "2-1.0"
    assert (found.kind, found.project, found.version) == ("sdist", project, version)


@pytest.mark.parametrize(
    ("filename", "project", "version", "build"),
    [
        ("numpy-1.26.0-py311h64a7726_0.conda", "numpy", "1.26.0", "py311h64a7726_0"),
        ("_libgcc_mutex-0.1-conda_forge.tar.bz2", "_libgcc_mutex", "0.1", "conda_forge"),
        ("python-dateutil-2.8.2-pyhd8ed1ab_0.tar.bz2", "python-dateutil", "2.8.2", "pyhd8ed1ab_0"),
        (
            "ca-certificates-2023.7.22-hbcca054_0.conda",
            "ca-certificates",
            "2023.7.22",
            "hbcca054_0",
        ),
        ("x-1.0-0.tar.bz2", "x", "1.0", "0"),
        ("tzdata-2024a-h0c530f3_0.conda", "tzdata", "2024a", "h0c530f3_0"),
    ],
)
def test_a_conda_archive_is_taken_apart(filename, project, version, build):
    found = classify(filename)
    assert (found.kind, found.project, found.version, found.tags) == (
        "archive",
        project,
        version,
        build,
    )


@pytest.mark.parametrize(
    "filename",
    [
        "",
        ".",
        "..",
        ".whl",
        "-.whl",
        "x.whl",
        "x-1.0.whl",
        "x-y-py3-none-any.whl",
        "x-1.0-b-py3-none-any.whl",
        "x-1-2-3-py3-none-any.whl",
        "master.tar.gz",
        "x-.tar.gz",
        "-1.0.tar.gz",
        "x-master.tar.gz",
        ".metadata",
        "x.metadata",
        "x-1.0-py3-none-any.whl.metadata.metadata",
        "index.html",
        "a/x-1.0.tar.gz",
        "..\\x-1.0.tar.gz",
        "x-1.0.tar.gz\x00",
        "x\n-1.0.tar.gz",
        "x-1.0-py3-none-any.whl\ud800",
        "x-1.conda",
        "x-" + "1" * 5000 + "-py3-none-any.whl",
    ],
)
def test_what_is_no_distribution_has_no_class(filename):
    assert classify(filename) is None


@pytest.mark.parametrize(
    ("url", "filename"),
    [
        ("https://h/a/x-1.0.tar.gz", "x-1.0.tar.gz"),
        ("https://h/a/x-1%2Bcpu.whl?a=/b#c/d", "x-1+cpu.whl"),
        ("https://h/a%2Fx.whl", "x.whl"),
        ("https://h/..%2f..%2fetc%2Fpasswd", "passwd"),
        ("https://h/%2e%2e", ""),
        ("https://h/a%00b", ""),
        ("https://h/a%5Cb", ""),
        ("https://h/simple/", ""),
        ("https://h", ""),
        ("https://h#x", ""),
        ("../../packages/x.whl", "x.whl"),
        ("x.whl", "x.whl"),
        ("", ""),
        ("https://h/%ff", "\ufffd"),
        ("https://[::1/x.whl", "x.whl"),
        ("https://h/" + "x" * 500, ""),
    ],
)
def test_a_file_name_comes_out_of_a_url_and_never_a_path(url, filename):
    assert filename_of(url) == filename
    assert not filename or is_plain_filename(filename)


@pytest.mark.parametrize(
    ("version", "normal"),
    [
        ("1.0", "1.0"),
        ("v1.0", "1.0"),
        ("1.0-alpha.1", "1.0a1"),
        ("01.2", "1.2"),
        ("1.0+CPU_1", "1.0+cpu.1"),
        ("x", None),
        ("", None),
    ],
)
def test_versions_are_normalized_where_they_can_be(version, normal):
    assert normal_version(version) == normal


def test_the_slow_parser_is_not_imported_for_ordinary_names():
    code = (
        "import sys; from entrepot.names import classify;"
        "assert classify('Foo_Bar-1.0.post1-py3-none-any.whl') and classify('foo-1.0.tar.gz') and classify('x-1-0.conda');"
        "sys.exit(any(name.startswith('packaging') for name in sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False
        ).returncode
        == 0
    )
