"""What one change of a tool's configuration replaced comes back to the byte, for every tool whose settings are edited."""

import os
from pathlib import Path

import pytest

from entrepot.config.file import OwnSettings
from entrepot.config.history import UndoJournal
from entrepot.errors import ChangedSince, ConfigError
from entrepot.ports.tool import Change, Surroundings
from entrepot.tools.conda.settings import CondaSettings, MambaSettings
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
        self.around = around
        self.tool, self.settings, self.journal = tool, makers[tool](around), UndoJournal(around)
        self.file = self.settings.file()
        if text is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(text.encode())

    def change(self, verb: str, *words: str) -> None:
        self.journal.add(self.tool, getattr(self.settings, verb)(*words))

    def undo(self) -> Change | None:
        return self.journal.undo(self.tool)


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
    assert made.undo() is None


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
def test_a_file_that_was_changed_since_is_left_alone_and_the_lines_are_told(
    scene, tool, text, words, key, more
):
    made = scene(tool, text)
    made.change(*words)
    changed = made.file.read_bytes() + more.encode()
    made.file.write_bytes(changed)
    with pytest.raises(ChangedSince) as caught:
        made.undo()
    assert made.file.read_bytes() == changed
    if words[1] == "pkgs_dirs.prepend":
        told = "take these lines out:\n      - /new"
    else:
        told = next(line for line in text.splitlines() if line.startswith(key))
        assert "put back these lines:\n" in caught.value.message
    assert told in caught.value.message
    assert made.undo() is None, "it is forgotten: it would stand in the way of those before it"


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
    assert made.journal.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "words", "undone"),
    [
        ("anaconda_token: s3cret\n", ("unset", "anaconda_token"), False),
        ("add_anaconda_token: true\n", ("set", "add_anaconda_token", "false"), True),
        ("a: 1  # the token is s3cret\n", ("unset", "a"), False),
        (
            "channels:\n  - x\n  - https://c.test/t/s3cret/y\n",
            ("set", "channels.remove", "x"),
            True,
        ),
    ],
)
def test_a_line_with_a_credential_is_not_kept_and_undo_names_it(scene, text, words, undone):
    made = scene("conda", text)
    made.change(*words)
    assert "s3cret" not in made.journal.path.read_text()
    if undone:
        made.undo()
        assert made.file.read_text() == text
        return
    after = made.file.read_text()
    with pytest.raises(ConfigError, match=f"{words[1]} in .* cannot be put back: .* credential"):
        made.undo()
    assert made.file.read_text() == after
    assert made.undo() is None


def test_root_takes_back_nothing_of_its_own_that_another_users_journal_names(scene, monkeypatch):
    made = scene("conda", "a: 1\n")
    made.change("set", "a", "2")
    theirs, stat = made.journal.path, Path.stat

    def owned(path: Path, **more: bool) -> os.stat_result:
        found = stat(path, **more)
        return os.stat_result([*found[:4], 4242, *found[5:]]) if path == theirs else found

    monkeypatch.setattr(Path, "stat", owned)
    as_root = Surroundings(made.around.environ, made.around.home, made.around.cwd, euid=0)
    with pytest.raises(ConfigError, match=r"is left alone: .* belongs to uid 4242"):
        UndoJournal(as_root).undo("conda")
    assert made.file.read_text() == "a: 2\n"


@pytest.mark.root
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("tool", ["pip", "conda", "uv", "entrepot"])
def test_root_writes_through_no_link_of_another_user(tmp_path, tool, exists):
    made = Scene(tmp_path, tool, None)
    victim = tmp_path / "victim"
    if exists:
        victim.write_text("")
    made.file.parent.mkdir(parents=True, exist_ok=True)
    made.file.symlink_to(victim)
    os.lchown(made.file, 4242, -1)
    key, value = {
        "pip": ("global.timeout", "5"),
        "conda": ("ssl_verify", "false"),
        "uv": ("offline", "true"),
        "entrepot": ("timeout", "5s"),
    }[tool]
    with pytest.raises(ConfigError, match="uid 4242"):
        made.change("set", key, value)
    assert victim.exists() is exists
    assert not exists or victim.read_text() == ""


def test_what_a_dangling_link_led_to_goes_and_the_link_stays(scene):
    made = scene("conda", None)
    made.file.symlink_to(made.file.with_name("dotfile"))
    made.change("set", "pkgs_dirs.prepend", "/n")
    made.undo()
    assert made.file.is_symlink()
    assert not made.file.exists()
