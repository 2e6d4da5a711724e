"""What real conda answers to ``conda config --show pkgs_dirs --json``.

Files and variables, and the list that came out.

Made by ``tests/conda_answers.py``, which also makes it again: conda 26.7.1 (the main branch of
2026-08-21, on Linux, Python 3.11) was run once for each case, with HOME, the root prefix
(``sys.prefix`` of the Python that runs it) and the working directory put in for the words in
braces. ``None``: conda stops with an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Link:
    """A symbolic link in place of a file."""

    target: str


@dataclass(frozen=True)
class Case:
    """One run of conda."""

    expected: list[str] | None
    files: dict[str, str | bytes | Link] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)

    def lay_out(self, words: dict[str, str]) -> None:
        """Make the folders and write the files.

        Args:
            words: paths for the words in braces.
        """
        for folder in words.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            path = Path(filled(name, words))
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, Link):
                path.symlink_to(filled(text.target, words))
            else:
                path.write_bytes(filled(text, words).encode() if isinstance(text, str) else text)


def filled(text: str, words: dict[str, str]) -> str:
    """A text with paths for the words in braces."""
    for word, path in words.items():
        text = text.replace(word, path)
    return text


CASES = {
    "nothing is configured": Case(["{root}/pkgs", "{home}/.conda/pkgs"]),
    "one entry in the user's file": Case(
        ["/a/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a/pkgs\n"}
    ),
    "two entries": Case(["/a", "/b"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n  - /b\n"}),
    "an empty list means the defaults": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "pkgs_dirs: []\n"}
    ),
    "a key without a value means the defaults": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\n"}
    ),
    "the variable alone": Case(["/v"], environ={"CONDA_PKGS_DIRS": "/v"}),
    "the variable with commas": Case(
        ["/v", "/w", "/x"], environ={"CONDA_PKGS_DIRS": "/v, /w ,,/x"}
    ),
    "the variable with a colon": Case(["/v:/w"], environ={"CONDA_PKGS_DIRS": "/v:/w"}),
    "the variable is empty": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], environ={"CONDA_PKGS_DIRS": ""}
    ),
    "the variable stands in front of files": Case(
        ["/v", "/a"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n"},
        environ={"CONDA_PKGS_DIRS": "/v"},
    ),
    "the variable with !important": Case(
        ["/v", "/a"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n"},
        environ={"CONDA_PKGS_DIRS": "/v!important"},
    ),
    "the variable with !important on one of two": Case(
        ["/v", "/w", "/a"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n"},
        environ={"CONDA_PKGS_DIRS": "/v!important,/w"},
    ),
    "the variable repeats a file's entry": Case(
        ["/v", "/a"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n  - /v\n"},
        environ={"CONDA_PKGS_DIRS": "/v"},
    ),
    "a user's file above the root's": Case(
        ["/u", "/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "three files": Case(
        ["/u", "/x", "/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
            "{home}/.config/conda/.condarc": "pkgs_dirs:\n  - /x\n",
        },
    ),
    "the same entry in two files": Case(
        ["/u", "/s", "/t"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n  - /s\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n  - /t\n",
        },
    ),
    "final in the root's file": Case(
        ["/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:  #!final\n  - /s\n",
        },
    ),
    "final in the root's file beats the variable": Case(
        ["/s"],
        files={"{root}/.condarc": "pkgs_dirs:  #!final\n  - /s\n"},
        environ={"CONDA_PKGS_DIRS": "/v"},
    ),
    "final in the user's file keeps the root's": Case(
        ["/u", "/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:  #!final\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
        environ={"CONDA_PKGS_DIRS": "/v"},
    ),
    "two finals: the weakest decides": Case(
        ["/s"],
        files={
            "{home}/.condarc": "pkgs_dirs: #!final\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs: #!final\n  - /s\n",
        },
    ),
    "final behind an empty list": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs: []  #!final\n",
        },
    ),
    "final behind a flow list": Case(
        ["/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs: [/s]  #!final\n",
        },
    ),
    "top in a weak file": Case(
        ["/s", "/u", "/t"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top\n  - /t\n",
        },
    ),
    "top does not stay below the variable": Case(
        ["/u", "/v"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u #!top\n"},
        environ={"CONDA_PKGS_DIRS": "/v"},
    ),
    "bottom in a strong file": Case(
        ["/w", "/s", "/u"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u  #!bottom\n  - /w\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "two bottoms": Case(
        ["/w", "/t", "/u", "/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u  #!bottom\n  - /w\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!bottom\n  - /t\n",
        },
    ),
    "two tops": Case(
        ["/s", "/u", "/w", "/t"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /w\n  - /u  #!top\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /t\n  - /s  #!top\n",
        },
    ),
    "top and bottom for one entry": Case(
        ["/w", "/t", "/u"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u  #!top\n  - /w\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /u  #!bottom\n  - /t\n",
        },
    ),
    "a marker without the exclamation mark": Case(
        ["/s", "/u"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #top\n",
        },
    ),
    "a marker with a blank": Case(
        ["/u", "/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s  # !top\n",
        },
    ),
    "a marker with a comment line below it": Case(
        ["/u", "/s", "/t"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top\n  # note\n  - /t\n",
        },
    ),
    "a final with a comment line below it": Case(
        ["/u", "/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:  #!final\n  # note\n  - /s\n",
        },
    ),
    "a marker with an empty line below it": Case(
        ["/s", "/u"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top\n\nchannels: [x]\n",
        },
    ),
    "a marker with a word behind it": Case(
        ["/u", "/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top please\n",
        },
    ),
    "bottom on the only entry": Case(
        ["/u"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u #!bottom\n"}
    ),
    "a tilde": Case(["{home}/mine"], files={"{home}/.condarc": "pkgs_dirs:\n  - ~/mine\n"}),
    "variables in entries": Case(
        ["/base/x", "/base/y"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - $BASE/x\n  - ${BASE}/y\n"},
        environ={"BASE": "/base"},
    ),
    "an unknown variable": Case(
        ["{cwd}/$NOBODY/x"], files={"{home}/.condarc": "pkgs_dirs:\n  - $NOBODY/x\n"}
    ),
    "a relative entry": Case(
        ["{cwd}/mine/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\n  - mine/pkgs\n"}
    ),
    "an empty entry": Case(
        ["{cwd}", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - ''\n  - /a\n"}
    ),
    "a trailing slash and dots": Case(
        ["/a", "/c"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a/\n  - /a/./b/..\n  - /c\n"}
    ),
    "double slashes": Case(["//a/b"], files={"{home}/.condarc": "pkgs_dirs:\n  - //a//b\n"}),
    "quoted entries": Case(
        ["/a b", "/c"], files={"{home}/.condarc": "pkgs_dirs:\n  - \"/a b\"\n  - '/c'\n"}
    ),
    "a flow list": Case(["/a", "/b"], files={"{home}/.condarc": "pkgs_dirs: [/a, /b]\n"}),
    "a flow list over lines": Case(
        ["/a", "/b"], files={"{home}/.condarc": "pkgs_dirs: [\n  /a,\n  /b ]\n"}
    ),
    "a list at the key's own depth": Case(
        ["/a", "/b"],
        files={"{home}/.condarc": "pkgs_dirs:\n- /a\n- /b\nauto_update_conda: false\n"},
    ),
    "a number as an entry": Case(["{cwd}/5"], files={"{home}/.condarc": "pkgs_dirs:\n  - 5\n"}),
    "a truth value as an entry": Case(
        ["{cwd}/yes", "{cwd}/True"], files={"{home}/.condarc": "pkgs_dirs:\n  - yes\n  - True\n"}
    ),
    "CONDARC names a file": Case(
        ["/o", "/u"],
        files={
            "{home}/other.yml": "pkgs_dirs:\n  - /o\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
        environ={"CONDARC": "{home}/other.yml"},
    ),
    "CONDARC names a file of another kind": Case(
        ["/u"],
        files={
            "{home}/other.txt": "pkgs_dirs:\n  - /o\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
        environ={"CONDARC": "{home}/other.txt"},
    ),
    "CONDARC names a directory": Case(
        ["/b", "/a"],
        files={
            "{home}/d/b.yml": "pkgs_dirs:\n  - /b\n",
            "{home}/d/a.yaml": "pkgs_dirs:\n  - /a\n",
            "{home}/d/.condarc": "pkgs_dirs:\n  - /no\n",
        },
        environ={"CONDARC": "{home}/d"},
    ),
    "a file without a dot in ~/.conda": Case(
        ["/k", "/dot"],
        files={
            "{home}/.conda/condarc": "pkgs_dirs:\n  - /k\n",
            "{home}/.conda/.condarc": "pkgs_dirs:\n  - /dot\n",
        },
    ),
    "a condarc.d in ~/.config": Case(
        ["/twenty", "/ten"],
        files={
            "{home}/.config/conda/condarc.d/10.yml": "pkgs_dirs:\n  - /ten\n",
            "{home}/.config/conda/condarc.d/20.yaml": "pkgs_dirs:\n  - /twenty\n",
            "{home}/.config/conda/condarc.d/30.txt": "pkgs_dirs:\n  - /no\n",
        },
    ),
    "XDG_CONFIG_HOME": Case(
        ["/u", "/x", "/xdg"],
        files={
            "{home}/xdg/conda/.condarc": "pkgs_dirs:\n  - /xdg\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{home}/.config/conda/.condarc": "pkgs_dirs:\n  - /x\n",
        },
        environ={"XDG_CONFIG_HOME": "{home}/xdg"},
    ),
    "a condarc in the home without a dot does not count": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/condarc": "pkgs_dirs:\n  - /no\n"}
    ),
    "the active environment's file": Case(
        ["/env", "/u"],
        files={
            "{home}/env/.condarc": "pkgs_dirs:\n  - /env\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
        environ={"CONDA_PREFIX": "{home}/env"},
    ),
    "CONDA_ROOT moves the root's file": Case(
        ["/u", "/r"],
        files={
            "{home}/r/.condarc": "pkgs_dirs:\n  - /r\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
        environ={"CONDA_ROOT": "{home}/r", "CONDA_PREFIX": "{home}/env"},
    ),
    "the root prefix by a variable": Case(
        ["{home}/r2/pkgs", "{home}/.conda/pkgs"], environ={"CONDA_ROOT_PREFIX": "{home}/r2"}
    ),
    "the root prefix by a file": Case(
        ["{home}/r3/pkgs", "{home}/.conda/pkgs"],
        files={"{home}/.condarc": "root_prefix: {home}/r3\n"},
    ),
    "32 bits forced": Case(
        ["{root}/pkgs32", "{home}/.conda/pkgs32"], environ={"CONDA_FORCE_32BIT": "true"}
    ),
    "unknown keys": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={"{home}/.condarc": "pkgs_dir:\n  - /a\npackage_cache_path: /b\n"},
    ),
    "a tab for a blank": Case(
        ["/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n\t- /a\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "an empty file": Case(["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": ""}),
    "a comment alone": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "# nothing\n"}
    ),
    "another list with the entry's markers": Case(
        ["/a"], files={"{home}/.condarc": "channels:\n  - x  #!top\npkgs_dirs:\n  - /a\n"}
    ),
    "the key between others": Case(
        ["/a"],
        files={"{home}/.condarc": "ssl_verify: true\npkgs_dirs:\n  - /a\n\nchannels:\n  - x\n"},
    ),
    "an anchor": Case(["/a"], files={"{home}/.condarc": "envs_dirs: &x\n  - /a\npkgs_dirs: *x\n"}),
    "envs_dirs given in a variable does nothing here": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], environ={"CONDA_ENVS_DIRS": "/e"}
    ),
    "the key written twice": Case(
        None,
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /a\npkgs_dirs:\n  - /b\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "a string": Case(None, files={"{home}/.condarc": "pkgs_dirs: /a\n"}),
    "an unclosed bracket": Case(None, files={"{home}/.condarc": "pkgs_dirs: [/a\nchannels: [x]\n"}),
    "a mapping as an entry": Case(None, files={"{home}/.condarc": "pkgs_dirs:\n  - a: b\n"}),
    "no mapping at all": Case(None, files={"{home}/.condarc": "- /a\n"}),
    "a null entry": Case(
        ["{cwd}/None", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - ~\n  - /a\n"}
    ),
    "an environment's condarc.d": Case(
        ["/d", "/c", "/dot"],
        files={
            "{home}/env/condarc.d/a.yml": "pkgs_dirs:\n  - /d\n",
            "{home}/env/condarc": "pkgs_dirs:\n  - /c\n",
            "{home}/env/.condarc": "pkgs_dirs:\n  - /dot\n",
        },
        environ={"CONDA_PREFIX": "{home}/env"},
    ),
    "an environment's .condarc in ~/.condarc's way": Case(
        ["/u"],
        files={
            "{home}/.condarc": "pkgs_dirs: #!final\n  - /u\n",
            "{home}/env/.condarc": "pkgs_dirs:\n  - /e\n",
        },
        environ={"CONDA_PREFIX": "{home}/env"},
    ),
    "an empty CONDA_PREFIX": Case(
        ["/r"], files={"{root}/.condarc": "pkgs_dirs:\n  - /r\n"}, environ={"CONDA_PREFIX": ""}
    ),
    "a root's condarc.d": Case(
        ["/z", "/c"],
        files={
            "{root}/condarc.d/z.yml": "pkgs_dirs:\n  - /z\n",
            "{root}/condarc": "pkgs_dirs:\n  - /c\n",
        },
    ),
    "a file of condarc.d with a marker": Case(
        ["/one", "/u", "/two"],
        files={
            "{home}/.conda/condarc.d/1.yml": "pkgs_dirs:\n  - /one #!top\n",
            "{home}/.conda/condarc.d/2.yml": "pkgs_dirs:\n  - /two\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "a folder inside condarc.d": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={"{home}/.conda/condarc.d/1.yml/2.yml": "pkgs_dirs:\n  - /no\n"},
    ),
    "condarc.d's hidden file": Case(
        ["/h"], files={"{home}/.conda/condarc.d/.hidden.yml": "pkgs_dirs:\n  - /h\n"}
    ),
    "condarc.d is a file": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={"{home}/.conda/condarc.d": "pkgs_dirs:\n  - /no\n"},
    ),
    "a .condarc that is a folder": Case(
        ["/x"], files={"{home}/.condarc/x.yml": "pkgs_dirs:\n  - /x\n"}
    ),
    "CONDARC is empty": Case(
        ["/u"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n"}, environ={"CONDARC": ""}
    ),
    "CONDARC names nothing that is there": Case(
        ["/u"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n"},
        environ={"CONDARC": "{home}/none.yml"},
    ),
    "CONDARC is relative": Case(
        ["/m"], files={"{cwd}/mine.yml": "pkgs_dirs:\n  - /m\n"}, environ={"CONDARC": "mine.yml"}
    ),
    "CONDARC with a tilde": Case(
        ["/m"], files={"{home}/mine.yml": "pkgs_dirs:\n  - /m\n"}, environ={"CONDARC": "~/mine.yml"}
    ),
    "CONDARC with a variable": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={"{home}/mine.yml": "pkgs_dirs:\n  - /m\n"},
        environ={"CONDARC": "$WHERE/mine.yml", "WHERE": "{home}"},
    ),
    "CONDARC names the user's file": Case(
        ["/e", "/u"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
            "{home}/env/.condarc": "pkgs_dirs:\n  - /e\n",
        },
        environ={"CONDARC": "{home}/.condarc", "CONDA_PREFIX": "{home}/env"},
    ),
    "CONDARC with a final": Case(
        ["/o", "/u"],
        files={
            "{home}/o.yml": "pkgs_dirs: #!final\n  - /o\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
        environ={"CONDARC": "{home}/o.yml", "CONDA_PKGS_DIRS": "/v"},
    ),
    "XDG_CONFIG_HOME is empty": Case(
        ["/x"],
        files={"{home}/.config/conda/condarc": "pkgs_dirs:\n  - /x\n"},
        environ={"XDG_CONFIG_HOME": ""},
    ),
    "XDG_CONFIG_HOME with a tilde and condarc.d": Case(
        ["/x"],
        files={"{home}/xdg/conda/condarc.d/a.yml": "pkgs_dirs:\n  - /x\n"},
        environ={"XDG_CONFIG_HOME": "~/xdg"},
    ),
    "XDG_CACHE_HOME and XDG_DATA_HOME do nothing": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        environ={"XDG_CACHE_HOME": "/x", "XDG_DATA_HOME": "/y"},
    ),
    "the variable with a tilde and a variable": Case(
        ["{home}/v", "/base/w", "{cwd}/${NOBODY}/x"],
        environ={"CONDA_PKGS_DIRS": "~/v,$BASE/w,${NOBODY}/x", "BASE": "/base"},
    ),
    "the variable is relative": Case(
        ["{cwd}/v", "{cwd}/w", "{home}/x"], environ={"CONDA_PKGS_DIRS": "v,./w,../x"}
    ),
    "the variable holds a path twice": Case(
        ["/v", "/w"], environ={"CONDA_PKGS_DIRS": "/v,/w,/v,/v/,/w/."}
    ),
    "the variable holds blanks alone": Case(
        ["/u"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n"}, environ={"CONDA_PKGS_DIRS": "  "}
    ),
    "the variable holds a comma alone": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], environ={"CONDA_PKGS_DIRS": ","}
    ),
    "the variable with a semicolon": Case(["/v;/w"], environ={"CONDA_PKGS_DIRS": "/v;/w"}),
    "the variable with a comma and a colon": Case(
        ["/v:/w", "/x"], environ={"CONDA_PKGS_DIRS": "/v:/w,/x"}
    ),
    "the variable with quotes and brackets": Case(
        ["{cwd}/['/v'", '{cwd}/"/w"]'], environ={"CONDA_PKGS_DIRS": "['/v', \"/w\"]"}
    ),
    "the variable with a marker for files": Case(
        ["/v #!final", "/u"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n"},
        environ={"CONDA_PKGS_DIRS": "/v #!final"},
    ),
    "the variable with !top": Case(
        ["/v", "/w!top", "/u"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n"},
        environ={"CONDA_PKGS_DIRS": "/v,/w!top"},
    ),
    "the variable against a bottom and a top": Case(
        ["/t", "/v", "/m", "/b"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /t #!top\n  - /m\n  - /b #!bottom\n"},
        environ={"CONDA_PKGS_DIRS": "/v"},
    ),
    "the variable repeats a top and a bottom": Case(
        ["/t", "/v", "/m", "/b"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /t #!top\n  - /m\n  - /b #!bottom\n"},
        environ={"CONDA_PKGS_DIRS": "/b,/v,/t"},
    ),
    "the variable in small letters": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], environ={"conda_pkgs_dirs": "/v"}
    ),
    "an old name of the variable": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        environ={"CONDA_PKGS_DIR": "/v", "CONDA_PACKAGE_CACHE_PATH": "/w"},
    ),
    "a final in the environment's file": Case(
        ["/e", "/u"],
        files={
            "{home}/env/.condarc": "pkgs_dirs: #!final\n  - /e\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
        environ={"CONDA_PREFIX": "{home}/env", "CONDA_PKGS_DIRS": "/v"},
    ),
    "a final on an entry": Case(
        ["/u", "/s"],
        files={
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!final\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "a top on the key": Case(
        ["/u", "/s"],
        files={
            "{root}/.condarc": "pkgs_dirs:  #!top\n  - /s\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "markers in a flow list over lines": Case(
        ["/t", "/u", "/s"],
        files={
            "{root}/.condarc": "pkgs_dirs: [\n  /s,  #!top\n  /t]\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "a final on the line above": Case(
        ["/u", "/s"],
        files={
            "{root}/.condarc": "#!final\npkgs_dirs:\n  - /s\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "a final behind a tab": Case(
        ["/u"],
        files={
            "{root}/.condarc": "pkgs_dirs:\t#!final\n  - /s\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "a final without a blank before it": Case(
        None,
        files={
            "{root}/.condarc": "pkgs_dirs:#!final\n  - /s\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "a final in capitals": Case(
        ["/u", "/s"],
        files={
            "{root}/.condarc": "pkgs_dirs:  #!FINAL\n  - /s\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "a final of another key": Case(
        ["/u", "/s"],
        files={
            "{root}/.condarc": "channels:  #!final\n  - x\npkgs_dirs:\n  - /s\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "markers with more signs": Case(
        ["/s", "/t", "/u"],
        files={
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!!top!\n  - /t  ##top##\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n",
        },
    ),
    "an entry bottom here and plain there": Case(
        ["/u", "/t", "/s"],
        files={
            "{root}/.condarc": "pkgs_dirs:\n  - /s  #!bottom\n  - /t\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /s\n  - /u\n",
        },
    ),
    "one path written in two ways, one with a marker": Case(
        ["/s", "/u", "/t"],
        files={
            "{root}/.condarc": "pkgs_dirs:\n  - /s/  #!top\n  - /t\n",
            "{home}/.condarc": "pkgs_dirs:\n  - /u\n  - /s\n",
        },
    ),
    "one cache by a tilde and in full": Case(
        ["{home}/p"], files={"{home}/.condarc": "pkgs_dirs:\n  - ~/p\n  - {home}/p\n  - $HOME/p\n"}
    ),
    "the default written out": Case(
        ["{root}/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\n  - {root}/pkgs\n"}
    ),
    "the home of another user": Case(
        ["/root/p", "{cwd}/~no-such-user/p"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - ~root/p\n  - ~no-such-user/p\n"},
    ),
    "a per cent sign": Case(
        ["{cwd}/%BASE%/p"],
        files={"{home}/.condarc": 'pkgs_dirs:\n  - "%BASE%/p"\n'},
        environ={"BASE": "/base"},
    ),
    "a dollar sign in the middle and at the end": Case(
        ["/a/base/b$", "/c/${BASE"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /a$BASE/b$\n  - /c/${BASE\n"},
        environ={"BASE": "/base"},
    ),
    "a variable within a variable": Case(
        ["/two/p"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - $ONE/p\n"},
        environ={"ONE": "$TWO", "TWO": "/two"},
    ),
    "a variable that holds a tilde": Case(
        ["{home}/p"], files={"{home}/.condarc": "pkgs_dirs:\n  - $ONE/p\n"}, environ={"ONE": "~"}
    ),
    "an empty variable in an entry": Case(
        ["/p"], files={"{home}/.condarc": "pkgs_dirs:\n  - $ONE/p\n"}, environ={"ONE": ""}
    ),
    "a blank inside an entry and around it": Case(
        ["/a b", "{cwd}/  /c  "], files={"{home}/.condarc": "pkgs_dirs:\n  - /a b\n  - '  /c  '\n"}
    ),
    "letters of other alphabets": Case(
        ["/päckchen/包"], files={"{home}/.condarc": "pkgs_dirs:\n  - /päckchen/包\n"}
    ),
    "a byte order mark": Case(["/a"], files={"{home}/.condarc": "\ufeffpkgs_dirs:\n  - /a\n"}),
    "Windows newlines": Case(
        ["/a", "/c", "/b"],
        files={"{home}/.condarc": "pkgs_dirs:\r\n  - /a\r\n  - /b  #!bottom\r\n  - /c\r\n"},
    ),
    "a file in Latin-1": Case(
        None,
        files={
            "{home}/.condarc": b"pkgs_dirs:\n  - /p\xe4ck\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "a NUL": Case(
        ["/s"],
        files={
            "{home}/.condarc": b"pkgs_dirs:\n  - /a\x00\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "a document's start and end": Case(
        ["/a"], files={"{home}/.condarc": "---\npkgs_dirs:\n  - /a\n...\n"}
    ),
    "two documents": Case(
        None, files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n---\npkgs_dirs:\n  - /b\n"}
    ),
    "the keys indented": Case(
        ["/a"], files={"{home}/.condarc": "  pkgs_dirs:\n    - /a\n  ssl_verify: true\n"}
    ),
    "the key in quotes": Case(["/a"], files={"{home}/.condarc": '"pkgs_dirs":\n  - /a\n'}),
    "the key in capitals, and with a dash": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={"{home}/.condarc": "PKGS_DIRS:\n  - /a\npkgs-dirs:\n  - /b\n"},
    ),
    "a key that is a number": Case(["/a"], files={"{home}/.condarc": "5: x\npkgs_dirs:\n  - /a\n"}),
    "a merge of another mapping": Case(
        ["/m"], files={"{home}/.condarc": "x: &x\n  pkgs_dirs: [/m]\n<<: *x\n"}
    ),
    "a block of text": Case(None, files={"{home}/.condarc": "pkgs_dirs: |\n  /a\n  /b\n"}),
    "an empty text": Case(None, files={"{home}/.condarc": "pkgs_dirs: ''\n"}),
    "a number for the list": Case(None, files={"{home}/.condarc": "pkgs_dirs: 5\n"}),
    "a truth value for the list": Case(None, files={"{home}/.condarc": "pkgs_dirs: false\n"}),
    "a mapping for the list": Case(None, files={"{home}/.condarc": "pkgs_dirs:\n  a: /b\n"}),
    "a list as an entry": Case(None, files={"{home}/.condarc": "pkgs_dirs:\n  - [/a, /b]\n"}),
    "a string in a weak file below a right one": Case(
        None,
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs: /s\n"},
    ),
    "a string above a final": Case(
        None,
        files={
            "{home}/.condarc": "pkgs_dirs: /u\n",
            "{root}/.condarc": "pkgs_dirs: #!final\n  - /s\n",
        },
    ),
    "hexadecimal and other numbers": Case(
        ["{cwd}/31", "{cwd}/1.5", "{cwd}/1000", "{cwd}/7", "{cwd}/10000.0"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - 0x1F\n  - 1.50\n  - 1_000\n  - 007\n  - 1e4\n"},
    ),
    "a date as an entry": Case(None, files={"{home}/.condarc": "pkgs_dirs:\n  - 2001-01-01\n"}),
    "a tagged entry": Case(None, files={"{home}/.condarc": "pkgs_dirs:\n  - !mine x\n"}),
    "a set for the list": Case(None, files={"{home}/.condarc": "pkgs_dirs: !!set {/a, /b}\n"}),
    "no and off and Null": Case(
        ["{cwd}/no", "{cwd}/off", "{cwd}/None", "{cwd}/False"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - no\n  - off\n  - Null\n  - FALSE\n  - \n"},
    ),
    "a symbolic link for the file": Case(
        ["/a"],
        files={
            "{home}/dotfiles": "pkgs_dirs:\n  - /a\n",
            "{home}/.condarc": Link("{home}/dotfiles"),
        },
    ),
    "a symbolic link that leads nowhere": Case(
        ["/s"],
        files={"{home}/.condarc": Link("{home}/none"), "{root}/.condarc": "pkgs_dirs:\n  - /s\n"},
    ),
    "caches that are one by a symbolic link": Case(
        ["{home}/one", "{home}/two"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - {home}/one\n  - {home}/two\n",
            "{home}/one/urls.txt": "",
            "{home}/two": Link("{home}/one"),
        },
    ),
    "a cache that is a file": Case(
        ["{home}/one"], files={"{home}/.condarc": "pkgs_dirs:\n  - {home}/one\n", "{home}/one": ""}
    ),
    "a bracket that closes nothing": Case(None, files={"{home}/.condarc": "pkgs_dirs: /a]\n"}),
    "a brace left open": Case(
        None,
        files={"{home}/.condarc": "pkgs_dirs: {a: b\n", "{root}/.condarc": "pkgs_dirs:\n  - /s\n"},
    ),
    "a quote left open": Case(
        ["/s"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - '/a\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "a tab at the end of a line": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\t\n  - /a\t\n"}
    ),
    "text behind a list": Case(
        None,
        files={
            "{home}/.condarc": "pkgs_dirs: [/a] /b\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "a key at the wrong depth": Case(
        None,
        files={
            "{home}/.condarc": "channels:\n  - x\n pkgs_dirs:\n  - /a\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /s\n",
        },
    ),
    "32 bits forced by a file": Case(
        ["{root}/pkgs32", "{home}/.conda/pkgs32"], files={"{home}/.condarc": "force_32bit: true\n"}
    ),
    "the root prefix in an old key": Case(
        ["{home}/r4/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "root_dir: {home}/r4\n"}
    ),
    "CONDA_EXE and CONDA_PYTHON_EXE do nothing": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        environ={"CONDA_EXE": "{home}/x/bin/conda", "CONDA_PYTHON_EXE": "{home}/x/bin/python"},
    ),
    "a condarc in the working directory does not count": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{cwd}/.condarc": "pkgs_dirs:\n  - /no\n"}
    ),
    "mamba's files do not count": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={
            "{home}/.mambarc": "pkgs_dirs:\n  - /no\n",
            "{home}/.config/mamba/mambarc": "pkgs_dirs:\n  - /no\n",
        },
        environ={"MAMBARC": "{home}/.mambarc", "MAMBA_ROOT_PREFIX": "{home}/m"},
    ),
}
