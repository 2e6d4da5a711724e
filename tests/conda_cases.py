"""What real conda answers to ``conda config --show pkgs_dirs --json``: files and variables, and the list that came out.

Made by running conda 26.7.1 (the main branch of 2026-08-21, on Linux, Python 3.11) once for each case, with HOME, the root
prefix (``sys.prefix`` of the Python that runs it) and the working directory put in for the words in braces. ``None``: conda
stops with an error. To make it again: write the files, run the command, compare.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One run of conda."""

    expected: list[str] | None
    files: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


CASES = {
    "nothing is configured": Case(["{root}/pkgs", "{home}/.conda/pkgs"]),
    "one entry in the user's file": Case(["/a/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a/pkgs\n"}),
    "two entries": Case(["/a", "/b"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n  - /b\n"}),
    "an empty list means the defaults": Case(["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "pkgs_dirs: []\n"}),
    "a key without a value means the defaults": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\n"}
    ),
    "the variable alone": Case(["/v"], environ={"CONDA_PKGS_DIRS": "/v"}),
    "the variable with commas": Case(["/v", "/w", "/x"], environ={"CONDA_PKGS_DIRS": "/v, /w ,,/x"}),
    "the variable with a colon": Case(["/v:/w"], environ={"CONDA_PKGS_DIRS": "/v:/w"}),
    "the variable is empty": Case(["{root}/pkgs", "{home}/.conda/pkgs"], environ={"CONDA_PKGS_DIRS": ""}),
    "the variable stands in front of files": Case(
        ["/v", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n"}, environ={"CONDA_PKGS_DIRS": "/v"}
    ),
    "the variable with !important": Case(
        ["/v", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n"}, environ={"CONDA_PKGS_DIRS": "/v!important"}
    ),
    "the variable with !important on one of two": Case(
        ["/v", "/w", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n"}, environ={"CONDA_PKGS_DIRS": "/v!important,/w"}
    ),
    "the variable repeats a file's entry": Case(
        ["/v", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a\n  - /v\n"}, environ={"CONDA_PKGS_DIRS": "/v"}
    ),
    "a user's file above the root's": Case(
        ["/u", "/s"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s\n"}
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
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n  - /s\n", "{root}/.condarc": "pkgs_dirs:\n  - /s\n  - /t\n"},
    ),
    "final in the root's file": Case(
        ["/s"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:  #!final\n  - /s\n"}
    ),
    "final in the root's file beats the variable": Case(
        ["/s"], files={"{root}/.condarc": "pkgs_dirs:  #!final\n  - /s\n"}, environ={"CONDA_PKGS_DIRS": "/v"}
    ),
    "final in the user's file keeps the root's": Case(
        ["/u", "/s"],
        files={"{home}/.condarc": "pkgs_dirs:  #!final\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s\n"},
        environ={"CONDA_PKGS_DIRS": "/v"},
    ),
    "two finals: the weakest decides": Case(
        ["/s"], files={"{home}/.condarc": "pkgs_dirs: #!final\n  - /u\n", "{root}/.condarc": "pkgs_dirs: #!final\n  - /s\n"}
    ),
    "final behind an empty list": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs: []  #!final\n"},
    ),
    "final behind a flow list": Case(
        ["/s"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs: [/s]  #!final\n"}
    ),
    "top in a weak file": Case(
        ["/s", "/u", "/t"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top\n  - /t\n"},
    ),
    "top does not stay below the variable": Case(
        ["/u", "/v"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u #!top\n"}, environ={"CONDA_PKGS_DIRS": "/v"}
    ),
    "bottom in a strong file": Case(
        ["/w", "/s", "/u"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u  #!bottom\n  - /w\n", "{root}/.condarc": "pkgs_dirs:\n  - /s\n"},
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
        files={"{home}/.condarc": "pkgs_dirs:\n  - /w\n  - /u  #!top\n", "{root}/.condarc": "pkgs_dirs:\n  - /t\n  - /s  #!top\n"},
    ),
    "top and bottom for one entry": Case(
        ["/w", "/t", "/u"],
        files={
            "{home}/.condarc": "pkgs_dirs:\n  - /u  #!top\n  - /w\n",
            "{root}/.condarc": "pkgs_dirs:\n  - /u  #!bottom\n  - /t\n",
        },
    ),
    "a marker without the exclamation mark": Case(
        ["/s", "/u"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s  #top\n"}
    ),
    "a marker with a blank": Case(
        ["/u", "/s"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s  # !top\n"}
    ),
    "a marker with a comment line below it": Case(
        ["/u", "/s", "/t"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top\n  # note\n  - /t\n"},
    ),
    "a final with a comment line below it": Case(
        ["/u", "/s"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:  #!final\n  # note\n  - /s\n"},
    ),
    "a marker with an empty line below it": Case(
        ["/s", "/u"],
        files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top\n\nchannels: [x]\n"},
    ),
    "a marker with a word behind it": Case(
        ["/u", "/s"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u\n", "{root}/.condarc": "pkgs_dirs:\n  - /s  #!top please\n"}
    ),
    "bottom on the only entry": Case(["/u"], files={"{home}/.condarc": "pkgs_dirs:\n  - /u #!bottom\n"}),
    "a tilde": Case(["{home}/mine"], files={"{home}/.condarc": "pkgs_dirs:\n  - ~/mine\n"}),
    "variables in entries": Case(
        ["/base/x", "/base/y"], files={"{home}/.condarc": "pkgs_dirs:\n  - $BASE/x\n  - ${BASE}/y\n"}, environ={"BASE": "/base"}
    ),
    "an unknown variable": Case(["{cwd}/$NOBODY/x"], files={"{home}/.condarc": "pkgs_dirs:\n  - $NOBODY/x\n"}),
    "a relative entry": Case(["{cwd}/mine/pkgs"], files={"{home}/.condarc": "pkgs_dirs:\n  - mine/pkgs\n"}),
    "an empty entry": Case(["{cwd}", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - ''\n  - /a\n"}),
    "a trailing slash and dots": Case(["/a", "/c"], files={"{home}/.condarc": "pkgs_dirs:\n  - /a/\n  - /a/./b/..\n  - /c\n"}),
    "double slashes": Case(["//a/b"], files={"{home}/.condarc": "pkgs_dirs:\n  - //a//b\n"}),
    "quoted entries": Case(["/a b", "/c"], files={"{home}/.condarc": "pkgs_dirs:\n  - \"/a b\"\n  - '/c'\n"}),
    "a flow list": Case(["/a", "/b"], files={"{home}/.condarc": "pkgs_dirs: [/a, /b]\n"}),
    "a flow list over lines": Case(["/a", "/b"], files={"{home}/.condarc": "pkgs_dirs: [\n  /a,\n  /b ]\n"}),
    "a list at the key's own depth": Case(
        ["/a", "/b"], files={"{home}/.condarc": "pkgs_dirs:\n- /a\n- /b\nauto_update_conda: false\n"}
    ),
    "a number as an entry": Case(["{cwd}/5"], files={"{home}/.condarc": "pkgs_dirs:\n  - 5\n"}),
    "a truth value as an entry": Case(["{cwd}/yes", "{cwd}/True"], files={"{home}/.condarc": "pkgs_dirs:\n  - yes\n  - True\n"}),
    "CONDARC names a file": Case(
        ["/o", "/u"],
        files={"{home}/other.yml": "pkgs_dirs:\n  - /o\n", "{home}/.condarc": "pkgs_dirs:\n  - /u\n"},
        environ={"CONDARC": "{home}/other.yml"},
    ),
    "CONDARC names a file of another kind": Case(
        ["/u"],
        files={"{home}/other.txt": "pkgs_dirs:\n  - /o\n", "{home}/.condarc": "pkgs_dirs:\n  - /u\n"},
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
        ["/k", "/dot"], files={"{home}/.conda/condarc": "pkgs_dirs:\n  - /k\n", "{home}/.conda/.condarc": "pkgs_dirs:\n  - /dot\n"}
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
        files={"{home}/env/.condarc": "pkgs_dirs:\n  - /env\n", "{home}/.condarc": "pkgs_dirs:\n  - /u\n"},
        environ={"CONDA_PREFIX": "{home}/env"},
    ),
    "CONDA_ROOT moves the root's file": Case(
        ["/u", "/r"],
        files={"{home}/r/.condarc": "pkgs_dirs:\n  - /r\n", "{home}/.condarc": "pkgs_dirs:\n  - /u\n"},
        environ={"CONDA_ROOT": "{home}/r", "CONDA_PREFIX": "{home}/env"},
    ),
    "the root prefix by a variable": Case(["{home}/r2/pkgs", "{home}/.conda/pkgs"], environ={"CONDA_ROOT_PREFIX": "{home}/r2"}),
    "the root prefix by a file": Case(
        ["{home}/r3/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "root_prefix: {home}/r3\n"}
    ),
    "32 bits forced": Case(["{root}/pkgs32", "{home}/.conda/pkgs32"], environ={"CONDA_FORCE_32BIT": "true"}),
    "unknown keys": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "pkgs_dir:\n  - /a\npackage_cache_path: /b\n"}
    ),
    "a tab for a blank": Case(["/s"], files={"{home}/.condarc": "pkgs_dirs:\n\t- /a\n", "{root}/.condarc": "pkgs_dirs:\n  - /s\n"}),
    "an empty file": Case(["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": ""}),
    "a comment alone": Case(["{root}/pkgs", "{home}/.conda/pkgs"], files={"{home}/.condarc": "# nothing\n"}),
    "another list with the entry's markers": Case(
        ["/a"], files={"{home}/.condarc": "channels:\n  - x  #!top\npkgs_dirs:\n  - /a\n"}
    ),
    "the key between others": Case(["/a"], files={"{home}/.condarc": "ssl_verify: true\npkgs_dirs:\n  - /a\n\nchannels:\n  - x\n"}),
    "an anchor": Case(["/a"], files={"{home}/.condarc": "envs_dirs: &x\n  - /a\npkgs_dirs: *x\n"}),
    "envs_dirs given in a variable does nothing here": Case(
        ["{root}/pkgs", "{home}/.conda/pkgs"], environ={"CONDA_ENVS_DIRS": "/e"}
    ),
    "the key written twice": Case(
        None, files={"{home}/.condarc": "pkgs_dirs:\n  - /a\npkgs_dirs:\n  - /b\n", "{root}/.condarc": "pkgs_dirs:\n  - /s\n"}
    ),
    "a string": Case(None, files={"{home}/.condarc": "pkgs_dirs: /a\n"}),
    "an unclosed bracket": Case(None, files={"{home}/.condarc": "pkgs_dirs: [/a\nchannels: [x]\n"}),
    "a mapping as an entry": Case(None, files={"{home}/.condarc": "pkgs_dirs:\n  - a: b\n"}),
    "no mapping at all": Case(None, files={"{home}/.condarc": "- /a\n"}),
    "a null entry": Case(["{cwd}/None", "/a"], files={"{home}/.condarc": "pkgs_dirs:\n  - ~\n  - /a\n"}),
}
