"""Where rattler's tools keep things: pixi, rattler-build and programs that use py-rattler.

Source: rattler and pixi of August 2026, read; py-rattler 0.28, run. condarc's ``pkgs_dirs`` is read
by none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.ports.tool import Layer, Surroundings
from entrepot.tools._shared.safe_read import is_dir, is_file, line_of, read_toml, table
from entrepot.tools.conda.platform_paths import expand_user, expand_variables, pathmod

KINDS = {
    "conda-packages": ("PIXI_CACHE_CONDA_PACKAGES_DIR", "pkgs"),
    "repodata": ("PIXI_CACHE_REPODATA_DIR", "repodata"),
    "pypi-wheels": ("PIXI_CACHE_PYPI_WHEELS_DIR", "uv-cache"),
    "pypi-mapping": ("PIXI_CACHE_PYPI_MAPPING_DIR", "conda-pypi-mapping"),
    "exec-environments": ("PIXI_CACHE_EXEC_ENVIRONMENTS_DIR", "cached-envs-v0"),
    "build-tool-environments": ("PIXI_CACHE_BUILD_TOOL_ENVIRONMENTS_DIR", "cached-build-envs-v0"),
    "detached-environments": ("PIXI_CACHE_DETACHED_ENVIRONMENTS_DIR", "detached-environments"),
}
"""pixi's parts: the key in ``[cache]``, the variable that wins over it, and the folder below the
root."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One cache folder of rattler or pixi."""

    path: Path
    part: str
    """``root``, or a key of :data:`KINDS`: the folder is used as it stands, nothing is appended."""
    user: str
    """``rattler`` or ``pixi``."""
    layers: tuple[Layer, ...]


def cache_home(around: Surroundings) -> str:
    """The platform's folder for caches."""
    flavour, home = pathmod(around), str(around.home)
    if around.platform == "win32":
        return around.environ.get("LOCALAPPDATA") or str(flavour.join(home, "AppData", "Local"))
    if around.platform == "darwin":
        return f"{home}/Library/Caches"
    named = around.environ.get("XDG_CACHE_HOME", "")
    return named if named.startswith("/") else f"{home}/.cache"


def rattler_default(around: Surroundings) -> str:
    """Rattler's default root: ``~/.cache/rattler/cache``."""
    return str(pathmod(around).join(cache_home(around), "rattler", "cache"))


def configuration_files(around: Surroundings) -> list[Path]:
    """Pixi's files that may exist, weakest first; none is looked at.

    Source: pixi's reference of its configuration, August 2026: ``XDG_CONFIG_HOME`` and
    ``PIXI_HOME`` add a file each.
    """
    paths, home, environ = pathmod(around), str(around.home), around.environ
    xdg = environ.get("XDG_CONFIG_HOME")
    named = [paths.join(xdg, "pixi")] if xdg else []
    if around.platform == "win32":
        roaming = environ.get("APPDATA") or paths.join(home, "AppData", "Roaming")
        system, users = "C:\\ProgramData\\pixi", [paths.join(roaming, "pixi")]
    elif around.platform == "darwin":
        system, users = "/etc/pixi", [*named, f"{home}/Library/Application Support/pixi"]
    else:
        system, users = "/etc/pixi", [f"{home}/.config/pixi", *named]
    users += [paths.join(home, ".pixi"), environ.get("PIXI_HOME", "")]
    projects = [str(each / ".pixi") for each in reversed([around.cwd, *around.cwd.parents])]
    every = dict.fromkeys(each for each in (system, *users, *projects) if each)
    return [Path(paths.join(folder, "config.toml")) for folder in every]


def problems(around: Surroundings) -> Iterator[str]:
    """Configuration files that pixi cannot read, or whose ``[cache]`` is not what it wants.

    A sentence each.
    """
    for path in configuration_files(around):
        if not is_file(path):
            continue
        import tomllib  # noqa: PLC0415  # only where there is a file

        try:
            data = tomllib.loads(path.read_bytes().decode())
        except (OSError, ValueError) as exc:
            yield f"{path}: pixi cannot read it: {getattr(exc, 'strerror', None) or exc}"
            continue
        found = table(data, "cache")
        yield from (
            f"{line_of(path, key)}: {key} is no text"
            for key in ("root", *KINDS)
            if not isinstance(found.get(key, ""), str)
        )


def folders(around: Surroundings) -> list[Folder]:
    """Every folder in force, pixi's first.

    A folder that both use is said once, with pixi's reasons.
    """
    own = str(pathmod(around).join(cache_home(around), "pixi"))
    default = [Layer("default", "default", rattler_default(around))]
    if_there = [Layer("default", "default, because it exists", own)] if is_dir(own) else []
    rattler = _named(around, "RATTLER_CACHE_DIR")
    pixi = [*_named(around, "PIXI_CACHE_DIR"), *rattler, *_configured(around, "root")]
    found = [_folder(around, "root", "pixi", [*pixi, *if_there, *default])]
    for key, (variable, _) in KINDS.items():
        if layers := [*_named(around, variable), *_configured(around, key)]:
            found.append(_folder(around, key, "pixi", layers))
    found.append(_folder(around, "root", "rattler", [*rattler, *default]))
    once: dict[Path, Folder] = {}
    for each in found:
        once.setdefault(each.path, each)
    return list(once.values())


def _named(around: Surroundings, variable: str) -> list[Layer]:
    value = around.environ.get(variable)
    return [Layer("environment", variable, value)] if value else []


def _configured(around: Surroundings, key: str) -> Iterator[Layer]:
    """What files say for a key of ``[cache]``, strongest first."""
    for path in reversed(configuration_files(around)):
        value = table(read_toml(path), "cache").get(key) if is_file(path) else None
        if isinstance(value, str) and value:
            yield Layer("file", line_of(path, key), value)


def _folder(around: Surroundings, part: str, user: str, layers: list[Layer]) -> Folder:
    text = layers[0].value
    if layers[0].kind == "file":
        text = expand_user(expand_variables(text, around), around)
    path = Path(text) if pathmod(around).isabs(text) else around.cwd / text
    return Folder(path, part, user, (replace(layers[0], wins=True), *layers[1:]))


def part_of(path: Path, around: Surroundings) -> str:
    """What a folder is for: ``root``, or one of pixi's parts."""
    return next((folder.part for folder in folders(around) if folder.path == path), "root")


def package_folders(around: Surroundings, place: Path | None = None) -> list[Path]:
    """Folders with unpacked packages, whether they exist or not.

    Args:
        around: where to look.
        place: only that of this cache: its ``pkgs``, or itself where pixi was told so.
    """
    found = [(each.path, each.part) for each in folders(around)]
    if place is not None:
        found = [(place, part_of(place, around))]
    overridden = [path for path, part in found if part == "conda-packages"]
    return [*overridden, *(path / "pkgs" for path, part in found if part == "root")]
