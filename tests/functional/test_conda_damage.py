"""Every kind of damage at once in one cache of conda's layout, repaired.

Then the real rattler installs every package out of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import clients
from conda_damage import DAMAGE, Victim
from conda_lab import Lab, unpack
from entrepot.testing.channel import Channel

SCRIPT = Path(__file__).parents[1] / "rattling.py"


@pytest.fixture
def lab(tmp_path, origin) -> Lab:
    """A cache with a package for each kind of damage, ``.conda`` and ``.tar.bz2`` in turn, and a channel that has them too."""
    made = Lab(tmp_path / "home")
    made.channel = Channel(origin)
    made.package("other")
    for number in range(len(DAMAGE)):
        made.package(
            f"demo{number}",
            extension=".tar.bz2" if number % 2 else ".conda",
            depends=("other",),
            size=20_000,
        )
    made.channel.publish()
    return made


def victims(lab: Lab) -> list[Victim]:
    return [
        Victim(lab.cache, lab.cache / p.filename, lab.home / "aside" / p.filename)
        for p in lab.channel.packages[1:]
    ]


def right(victim: Victim, lab: Lab) -> bytes:
    """The bytes that an installed package must have."""
    package = next(p for p in lab.channel.packages if p.filename == victim.archive.name)
    fresh = lab.home / "fresh" / package.record["name"]
    if not fresh.exists():
        fresh.parent.mkdir(exist_ok=True)
        whole = fresh.with_name(package.filename)
        whole.write_bytes(package.content.whole())
        unpack(whole, fresh)
    return next(fresh.rglob("*.bin")).read_bytes()


@pytest.mark.parametrize("kept", [True, False], ids=["from the archives", "without archives"])
def test_after_the_repair_rattler_installs_every_package_with_its_right_bytes(
    lab, origin, environment, kept
):
    # Without its archive no archive can be damaged, and without urls.txt conda's record of an
    # archive cannot be made again.
    left_out = "urls.txt" if kept else "archive"
    expected = []
    for victim, (name, (word, damage)) in zip(victims(lab), DAMAGE.items(), strict=True):
        if not kept:
            victim.archive.unlink()
        if left_out not in name:
            damage(victim)
            expected.append(word)
    if not kept:
        # A folder without info and without an archive of its name is nobody's that we know: it is
        # left alone. rattler fetches it.
        expected.remove("half-unpacked")
    place = lab.place()
    found = list(lab.tool().verify(place, lab.around, full=True, repair=True))
    assert sorted(finding.problem for finding in found) == sorted(expected)
    assert [finding.text for finding in found if not finding.repaired] == []
    assert list(lab.tool().verify(place, lab.around, full=True)) == []

    base = lab.home / "install"
    base.mkdir()
    (base / "pkgs").symlink_to(lab.cache)
    names = [package.record["name"] for package in lab.channel.packages]
    done = clients.run(
        [*clients.rattler(), SCRIPT, lab.channel.url, base, lab.home / "env", *names], environment
    )
    assert done.returncode == 0, done.stderr
    if kept:
        assert [seen.path for seen in origin.seen(r"\.(conda|bz2)$")] == [], [
            (f.text, f.repaired) for f in found
        ]
    for victim in victims(lab):
        name = victim.folder.name.partition("-")[0]
        assert (lab.home / f"env/share/{name}/data.bin").read_bytes() == right(victim, lab), (
            victim.folder.name
        )
    edited = [path.read_bytes() for path in (lab.home / "aside").rglob("*.bin")]
    assert len(edited) == 1  # the environment keeps what was edited there
    assert edited[0] not in {right(victim, lab) for victim in victims(lab)}
