"""The engine that reads what a client would read, by the client's row of the table.

A row says where the client's settings stand and what each means; the engine reads them, and for
each meaning does what sends the client through the proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from entrepot.ports.client_setup import ClientSetup, ProxyAddress
from entrepot.tools._shared.defaults import default_index
from entrepot.tools._shared.safe_read import is_file, line_of, table
from entrepot.tools.client_setup.command_line import CommandLine, values_after
from entrepot.tools.client_setup.found_urls import FoundUrls
from entrepot.tools.client_setup.readers import Item, items

TORCH = "https://download.pytorch.org/whl/"
"""Where uv's ``--torch-backend`` looks."""
_HOST = re.compile(r"(?:[\w-]+\.)+[\w-]+(?::\d+)?(?:/|$)|[\w-]+:\d+(?:/|$)")


_REQUIREMENTS = (
    "dependencies",
    "dependency-groups",
    "project.dependencies",
    "project.optional-dependencies",
    "build-system.requires",
)
"""Requirements of a project or a script, ``name @ URL`` among them.

Source: PEP 508, 517, 621, 723, 735."""


class Meaning(Enum):
    """What a setting means for a run."""

    NOTHING = auto()
    """Its URLs serve no packages; so with everything that stands below it."""
    INDEX = auto()
    """URLs of indexes, channels or files."""
    CHANNEL = auto()
    """conda's: keys may be URLs too, and the scheme may be left out."""
    REQUIREMENTS = auto()
    """Requirement files."""
    CA = auto()
    """A file of CA certificates: it is merged."""
    CERTIFICATE = auto()
    """A client certificate, which the proxy does not hold: the hosts named stay closed."""
    PROXY = auto()
    """A proxy that beats the common variables."""
    TORCH = auto()
    """The host of PyTorch's wheels is asked."""
    OWN = auto()
    """For the client's own function."""


class Setting(NamedTuple):
    """One value that the client would read."""

    meaning: Meaning
    keys: tuple[str, ...]
    """Keys from the outermost in; a variable or an option is one key."""
    value: str
    file: Path | None
    key: str
    """The one of the keys that has the meaning."""

    @property
    def place(self) -> str:
        """Where it stands, for a message: ``KEY in PATH:LINE``, a variable or an option."""
        return self.key if self.file is None else f"{self.key} in {line_of(self.file, self.key)}"


@dataclass(frozen=True, slots=True)
class Client:
    """A row of the table."""

    name: str
    programs: tuple[str, ...] = ()
    only_if_named: bool = False
    """Nothing is read unless a word of the command is one of the programs."""
    files: str | Callable[[CommandLine], Iterable[Path]] = ""
    """Configuration files, weakest first: see :meth:`CommandLine.places`."""
    read: Callable[[Path], Iterable[Item]] = lambda _path: ()
    keys: Mapping[str, Meaning] = field(default_factory=dict)
    """Of its files: the innermost key counts, but one that means nothing hides what is below."""
    other_keys: Meaning = Meaning.NOTHING
    variables: Mapping[str, Meaning] = field(default_factory=dict)
    options: Mapping[str, Meaning] = field(default_factory=dict)
    """Behind the program's name."""
    project_table: str = ""
    """Its table below ``tool`` of ``pyproject.toml``; only indexes count there."""
    reads_requirements: bool = False
    """Whether it installs what projects and scripts require, by URL too."""
    fetches_words: bool = False
    """Whether URLs among the words are files that it fetches."""
    not_fetched: tuple[str, ...] = ()
    """Options whose values are not."""
    locks: str = ""
    """Lock files: see :meth:`CommandLine.places`."""
    hosts: tuple[str, ...] = ()
    """URLs of its built-in indexes."""
    uses_default_index: bool = False
    ca_variable: str = ""
    """The variable that beats its CA setting, where the common ones do not."""
    proxy_variables: tuple[str, ...] = ()
    """Those that beat its proxy settings."""
    own: Callable[[FoundUrls, Sequence[Setting]], None] = lambda _found, _settings: None
    """What no other client does."""


def means(**words: str) -> dict[str, Meaning]:
    """``{word: meaning}`` of a text of words for each meaning, named in lower case."""
    return {word: Meaning[name.upper()] for name, text in words.items() for word in text.split()}


def set_up(client: Client, line: CommandLine, proxy: ProxyAddress | None) -> ClientSetup:
    """What a client needs for a command; with ``proxy=None`` what does not depend on it."""
    found = FoundUrls(line, proxy)
    if client.only_if_named and not line.runs(*client.programs):
        return found.setup()
    may_run = line.may_run(*client.programs)
    settings = list(_settings(client, line))
    if client.reads_requirements:
        for _path, data in line.projects:
            found.add_all(
                text for keys, text in items(data) if ".".join(keys).startswith(_REQUIREMENTS)
            )
    for setting in settings:
        _apply(client, found, setting, may_run=may_run)
    if client.fetches_words and line.runs(*client.programs):
        found.add_words(but_after=client.not_fetched)
    for path in line.places(client.locks):
        found.add_lock(path, will_be_read=may_run)
    client.own(found, settings)
    default = default_index() if client.uses_default_index else ()
    certificates = [each for each in settings if each.meaning is Meaning.CERTIFICATE]
    if certificates and may_run:
        # The certificate has no host of its own: every index that the user named may ask for it;
        # the default index does not.
        found.close(found.indexes, but=default)
        found.warn(
            f"{certificates[-1].place} holds a client certificate: what {client.name} downloads "
            "from the indexes named to it goes past the cache"
        )
    for url in (*client.hosts, *default):
        found.add(url)
    return found.setup()


def _settings(client: Client, line: CommandLine) -> Iterator[Setting]:
    """Everything that sets one of the client's settings, weakest first."""
    files = client.files(line) if callable(client.files) else line.places(client.files)
    for path in files:
        for keys, value in client.read(path):
            setting = _setting(client, keys, value, path)
            # An empty value unsets; git without http.proxy would go past the proxy.
            if setting.meaning is Meaning.OWN or (value and setting.meaning is not Meaning.NOTHING):
                yield setting
    if client.project_table:
        for path, data in line.projects:
            for keys, value in items(table(data, "tool", client.project_table)):
                setting = _setting(client, keys, value, path)
                if setting.meaning in (Meaning.INDEX, Meaning.TORCH):
                    yield setting
    for name, value in line.assignments:
        if name in client.variables and value.strip():
            yield Setting(client.variables[name], (name,), value, None, name)
    words = line.after(*client.programs)
    for name, meaning in client.options.items():
        for value in values_after(words, name):
            yield Setting(meaning, (name,), value, None, name)


def _setting(client: Client, keys: tuple[str, ...], value: str, path: Path) -> Setting:
    known = [key for key in reversed(keys) if key in client.keys]
    key = next((key for key in known if client.keys[key] is Meaning.NOTHING), (*known, "")[0])
    meaning = client.keys.get(key, client.other_keys)
    return Setting(meaning, keys, value, path, key or keys[-1])


def _apply(client: Client, found: FoundUrls, setting: Setting, *, may_run: bool) -> None:
    value, line = setting.value, found.line
    match setting.meaning:
        case Meaning.INDEX if setting.key.startswith("-"):
            found.add_value(value)
        case Meaning.INDEX:
            found.add_all(value)
            for word in value.split():
                found.add_local_page(word)
        case Meaning.CHANNEL:
            found.add_all((value, *setting.keys[1:]))
            if "://" not in value and _HOST.match(value):
                found.add(f"https://{value}")
        case Meaning.REQUIREMENTS:
            names = [value] if is_file(line.path(value)) else value.split()
            found.add_requirements(map(line.path, names), will_be_read=may_run)
            found.add_all(value)
        case Meaning.CA:
            found.bundle(value, client.ca_variable)
        case Meaning.PROXY if found.proxy is not None:
            if client.proxy_variables:
                found.environment.update(dict.fromkeys(client.proxy_variables, found.proxy.proxy))
            elif may_run:
                found.warn(
                    f"{setting.place} overrides the environment for {client.name}: "
                    "what it downloads goes past the cache"
                )
        case Meaning.TORCH:
            found.add(TORCH)
