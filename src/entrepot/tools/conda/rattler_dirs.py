"""Where rattler's tools keep things: pixi, rattler-build and programs that use py-rattler.

Source: rattler and pixi of August 2026, read; py-rattler 0.28, run. condarc's ``pkgs_dirs`` is read
by none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    flavour, home, environ = pathmod(around), str(around.home), around.environ
    named = (
        [flavour.join(environ["XDG_CONFIG_HOME"], "pixi")] if environ.get("XDG_CONFIG_HOME") else []
    )
    if around.platform == "win32":
        system = "C:\\ProgramData\\pixi"
        users = [
            flavour.join(environ.get("APPDATA") or flavour.join(home, "AppData", "Roaming"), "pixi")
        ]
    elif around.platform == "darwin":
        system, users = "/etc/pixi", [*named, f"{home}/Library/Application Support/pixi"]
    else:
        system, users = "/etc/pixi", [f"{home}/.config/pixi", *named]
    users.append(flavour.join(home, ".pixi"))
    folders = [system, *users, *([environ["PIXI_HOME"]] if environ.get("PIXI_HOME") else [])]
    projects = [str(each / ".pixi") for each in reversed([around.cwd, *around.cwd.parents])]
    return [
        Path(flavour.join(folder, "config.toml")) for folder in dict.fromkeys([*folders, *projects])
    ]


def configured(around: Surroundings, key: str) -> Iterator[Layer]:
    """What files say for a key of ``[cache]``, strongest first."""
    for path in reversed(configuration_files(around)):
        value = table(read_toml(path), "cache").get(key) if is_file(path) else None
        if isinstance(value, str) and value:
            yield Layer("file", line_of(path, key), value)


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
    found = [_pixi_root(around), *_parts(around), _rattler_root(around)]
    once: dict[Path, Folder] = {}
    for each in found:
        once.setdefault(each.path, each)
    return list(once.values())


def _rattler_root(around: Surroundings) -> Folder:
    layers = (
        [_variable(around, "RATTLER_CACHE_DIR")] if around.environ.get("RATTLER_CACHE_DIR") else []
    )
    return _folder(
        around, "root", "rattler", [*layers, Layer("default", "default", rattler_default(around))]
    )


def _pixi_root(around: Surroundings) -> Folder:
    """Pixi's cache directory and the setting that names it, the strongest setting first."""
    layers = [
        _variable(around, name)
        for name in ("PIXI_CACHE_DIR", "RATTLER_CACHE_DIR")
        if around.environ.get(name)
    ]
    layers += configured(around, "root")
    own = str(pathmod(around).join(cache_home(around), "pixi"))
    if is_dir(own):
        layers.append(Layer("default", "default, because it exists", own))
    return _folder(
        around, "root", "pixi", [*layers, Layer("default", "default", rattler_default(around))]
    )


def _parts(around: Surroundings) -> Iterator[Folder]:
    for key, (variable, _) in KINDS.items():
        layers = [_variable(around, variable)] if around.environ.get(variable) else []
        layers += configured(around, key)
        if layers:
            yield _folder(around, key, "pixi", layers)


def _variable(around: Surroundings, name: str) -> Layer:
    return Layer("environment", name, around.environ[name])


def _folder(around: Surroundings, part: str, user: str, layers: list[Layer]) -> Folder:
    first = layers[0]
    text = (
        expand_user(expand_variables(first.value, around), around)
        if first.kind == "file"
        else first.value
    )
    path = Path(text) if pathmod(around).isabs(text) else around.cwd / text
    marked = [
        Layer(layer.kind, layer.source, layer.value, wins=number == 0)
        for number, layer in enumerate(layers)
    ]
    return Folder(path, part, user, tuple(marked))


def package_folders(around: Surroundings) -> list[Path]:
    """Folders with unpacked packages, whether they exist or not."""
    overridden = [each.path for each in folders(around) if each.part == "conda-packages"]
    return [*overridden, *(each.path / "pkgs" for each in folders(around) if each.part == "root")]
