"""What one change of a tool's configuration replaced comes back to the byte, for every tool whose settings are edited."""

import os
from pathlib import Path

import pytest

from entrepot.config.file import OwnSettings
from entrepot.config.history import Mends, UndoJournal, put_file_back, remove_made
from entrepot.errors import ChangedSince, ConfigError
from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.conda_settings import CondaSettings
from entrepot.tools.conda.mamba_settings import MambaSettings
from entrepot.tools.pip.settings import PipSettings
from entrepot.tools.uv.settings import UvSettings

PIP = "; mine\r\n[global]\r\ntimeout = 60   \r\nextra-index-url =\r\n  https://a.test\r\n  # why\r\n  https://b.test\r\n[install]\r\n"
RC = "pkgs_dirs:  # mine\n  - /b   # second\n\n  # between\n  - /a  #!top\nssl_verify:   true   # yes\nchannels: [x, y]\n# end"
UV = '# mine\ncache-dir    =  "/c"   # why\noffline=true\nno-build-package = [\n  "a", # one\n]\n[[index]]\nname = "x"\nurl = "https://x.test"\n'
OWN = '# mine\nstore   = "/s"   # why\n\n[limit]\ntotal = "5GB" # enough\n'


class Scene:
    """One tool's settings in a home of its own, changed and taken back by way of the journal, as the command does it."""

    def __init__(self, home: Path, tool: str, text: str | None) -> None:
        # No system's files; for pip, that of the user is named, which is quicker than asking for a pip's own folders.
        around = Surroundings({"PATH": "", "XDG_CONFIG_DIRS": str(home / "site")}, home, home)
        makers = {
            "pip": PipSettings,
            "conda": CondaSettings,
            "mamba": MambaSettings,
            "uv": UvSettings,
            "entrepot": OwnSettings,
        }
        self.tool, self.settings, self.journal = tool, makers[tool](around), UndoJournal(around)
        self.file = self.settings.file()
        if text is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(text.encode())

    def change(self, verb: str, *words: str) -> None:
        self.journal.add(self.tool, getattr(self.settings, verb)(*words))

    def undo(self) -> None:
        last = self.journal.last(self.tool)
        assert last is not None
        self.settings.restore(last.change)
        remove_made(last.change)
        self.journal.drop(self.tool)


@pytest.fixture
def scene(tmp_path):
    return lambda tool, text: Scene(tmp_path, tool, text)


CHANGES = [
    (
        "pip",
        PIP,
        [
            ("set", "timeout", "5"),
            ("unset", "global.extra-index-url"),
            ("set", "install.no-deps", "yes"),
        ],
    ),
    ("pip", None, [("set", "timeout", "5"), ("set", "retries", "1")]),
    (
        "conda",
        RC,
        [
            ("set", "pkgs_dirs.prepend", "/new"),
            ("unset", "pkgs_dirs"),
            ("set", "ssl_verify", "false"),
        ],
    ),
    (
        "conda",
        RC,
        [
            ("set", "channels", "z"),
            ("set", "pkgs_dirs.remove", "/b"),
            ("set", "always_yes", "true"),
        ],
    ),
    (
        "mamba",
        RC,
        [
            ("unset", "ssl_verify"),
            ("set", "pkgs_dirs.append", "/b"),
            ("set", "channels.remove", "x"),
        ],
    ),
    ("mamba", None, [("set", "pkgs_dirs.append", "/b")]),
    (
        "uv",
        UV,
        [
            ("set", "cache-dir", "/n"),
            ("unset", "offline"),
            ("unset", "no-build-package"),
            ("unset", "index"),
        ],
    ),
    (
        "uv",
        UV,
        [
            ("set", "no-build-package", '["b"]'),
            ("set", "pip.link-mode", "copy"),
            ("unset", "cache-dir"),
        ],
    ),
    ("uv", None, [("set", "offline", "true")]),
    (
        "entrepot",
        OWN,
        [("unset", "store"), ("set", "limit.total", "9GB"), ("set", "timeout", "10s")],
    ),
    ("entrepot", None, [("set", "timeout", "10s")]),
]


@pytest.mark.parametrize(
    ("tool", "text", "changes"), CHANGES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CHANGES)]
)
def test_several_changes_come_back_one_by_one_to_the_byte(scene, tool, text, changes):
    made = scene(tool, text)
    stood: list[bytes | None] = []
    for words in changes:
        stood.append(made.file.read_bytes() if made.file.exists() else None)
        made.change(*words)
        assert made.file.read_bytes() != stood[-1]
    for before in reversed(stood):
        made.undo()
        assert (made.file.read_bytes() if made.file.exists() else None) == before
    assert made.journal.last(tool) is None


ELSEWHERE = [
    ("pip", PIP, ("set", "timeout", "5"), "timeout", "\r\n[list]\r\nformat = json\r\n"),
    ("conda", RC, ("set", "ssl_verify", "false"), "ssl_verify", "\nalways_yes: true\n"),
    ("conda", RC, ("set", "pkgs_dirs.prepend", "/new"), "pkgs_dirs", "\nalways_yes: true\n"),
    ("mamba", RC, ("unset", "ssl_verify"), "ssl_verify", "\nalways_yes: true\n"),
    ("uv", UV, ("set", "cache-dir", "/n"), "cache-dir", "[pip]\nstrict = true\n"),
    ("uv", UV, ("unset", "no-build-package"), "no-build-package", "[pip]\nstrict = true\n"),
    ("entrepot", OWN, ("set", "store", "/n"), "store", "# more\n"),
]


@pytest.mark.parametrize(
    ("tool", "text", "words", "key", "more"), ELSEWHERE, ids=[f"{c[0]}-{c[3]}" for c in ELSEWHERE]
)
def test_the_key_alone_comes_back_when_the_file_was_changed_elsewhere(
    scene, tool, text, words, key, more
):
    made = scene(tool, text)
    before = made.settings.get(key)
    made.change(*words)
    made.file.write_bytes(made.file.read_bytes() + more.encode())
    made.undo()
    assert made.settings.get(key) == before
    assert (
        made.file.read_bytes().endswith(more.encode())
        or more.strip().encode() in made.file.read_bytes()
    )


OTHERS = [
    ("pip", ("set", "timeout", "5"), "[global]\ntimeout = 99\n"),
    ("conda", ("set", "ssl_verify", "false"), "ssl_verify: /ca.pem\n"),
    ("mamba", ("set", "pkgs_dirs.append", "/b"), "pkgs_dirs:\n  - /b\n  - /theirs\n"),
    ("uv", ("set", "cache-dir", "/n"), 'cache-dir = "/theirs"\n'),
    ("uv", ("set", "offline", "true"), 'offline = "true"\n'),
    ("entrepot", ("set", "store", "/n"), 'store = "/theirs"\n'),
]


@pytest.mark.parametrize(
    ("tool", "words", "theirs"), OTHERS, ids=[f"{c[0]}-{c[1][1]}" for c in OTHERS]
)
def test_a_key_that_somebody_else_changed_since_is_left_alone(scene, tool, words, theirs):
    made = scene(tool, None)
    made.change(*words)
    made.file.write_text(theirs)
    with pytest.raises(ChangedSince):
        made.undo()
    assert made.file.read_text() == theirs


def test_an_index_of_uv_is_not_put_back_into_a_file_that_was_changed(scene):
    """It is a table of several lines, which the journal has no other place for."""
    made = scene("uv", UV)
    made.change("unset", "index")
    made.file.write_text(made.file.read_text() + "native-tls = true\n")
    with pytest.raises(ChangedSince):
        made.undo()


@pytest.mark.parametrize(
    ("tool", "text", "words"),
    [
        (
            "pip",
            "[global]\nindex-url = https://me:s3cret@i.test/\ntimeout = 1\n",
            ("set", "index-url", "https://i.test/"),
        ),
        ("conda", "ssl_verify: true\nanaconda_token: s3cret\n", ("unset", "anaconda_token")),
        ("uv", '[[index]]\nname = "x"\nurl = "https://me:s3cret@i.test/"\n', ("unset", "index")),
        (
            "uv",
            'index-url="https://i.test/t/s3cret/simple"\n',
            ("set", "index-url", "https://i.test/"),
        ),
        (
            "mamba",
            "channels:\n  - https://conda.test/t/s3cret/main\n  - x\n",
            ("set", "channels.remove", "x"),
        ),
    ],
)
def test_no_credential_is_in_the_journal(scene, tool, text, words):
    made = scene(tool, text)
    made.change(*words)
    assert "s3cret" not in made.journal.path.read_text()
    assert made.journal.last(tool) is not None
    assert made.journal.path.stat().st_mode & 0o777 == 0o600


BROKEN = {
    "pip": "\ufeff[global]\ntimeout = 60\n[global]\nretries = 2\nnonsense",
    "conda": "pkgs_dirs: /a # one\nchannels: [x\nssl_verify:\n\t- true\n",
    "mamba": "pkgs_dirs: /a\n",
}


@pytest.mark.parametrize("secret", [False, True], ids=["", "with a credential"])
@pytest.mark.parametrize("tool", BROKEN)
def test_a_mend_is_taken_back_to_the_byte(scene, tool, secret):
    more = {"pip": "\nindex-url = https://me:s3cret@i.test\n"}.get(
        tool, "custom_channels:\n  x: https://me:s3cret@i.test\n"
    )
    text = BROKEN[tool] + (more if secret else "")
    made = scene(tool, text)
    made.file.chmod(0o640)
    mends = Mends(path for path, _ in made.settings.problems())
    assert made.settings.mend()
    kept = mends.remember(tool, made.journal)[made.file]
    mended = made.file.read_bytes()
    assert mended != text.encode()
    assert "s3cret" not in made.journal.path.read_text()
    assert (kept is not None) == secret
    assert kept is None or (kept.stat().st_mode & 0o777, kept.read_bytes()) == (
        0o640,
        text.encode(),
    )
    made.file.write_bytes(mended + b"# more\n")
    with pytest.raises(ChangedSince):
        put_file_back(made.journal.last(tool))
    made.file.write_bytes(mended)
    put_file_back(made.journal.last(tool))
    assert made.file.read_bytes() == text.encode()
    assert made.file.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(made.file.parent)).count(f"{made.file.name}.before-mend") == 0


def test_a_copy_never_takes_the_place_of_a_file_and_one_that_is_gone_is_told(scene):
    made = scene("pip", "index-url = https://me:s3cret@i.test\n")
    theirs = made.file.with_name("pip.conf.before-mend")
    theirs.write_text("mine")
    mends = Mends([made.file])
    made.settings.mend()
    kept = mends.remember("pip", made.journal)[made.file]
    assert (theirs.read_text(), kept.name) == ("mine", "pip.conf.before-mend-2")
    kept.unlink()
    with pytest.raises(ConfigError, match="cannot be put back from"):
        put_file_back(made.journal.last("pip"))


def test_a_file_that_could_not_be_mended_has_no_copy(scene):
    made = scene("pip", "index-url = https://me:s3cret@i.test\n")
    assert Mends([made.file]).remember("pip", made.journal) == {}
    assert os.listdir(made.file.parent) == ["pip.conf"]
