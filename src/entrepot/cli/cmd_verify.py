"""Check what is cached: digests, sizes, heads without body and bodies without head.

With --repair what is damaged is removed.
"""

from __future__ import annotations

import argparse

from entrepot.caches.verify import verify_all
from entrepot.cli.context import Context
from entrepot.cli.output import DONE, FAILED, PARTLY, explained
from entrepot.cli.records import finding_record
from entrepot.errors import EntrepotError
from entrepot.ports.tool import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``verify``."""
    parser.add_argument(
        "--repair", action="store_true", help="remove what is damaged, so that it is fetched again"
    )
    parser.add_argument(
        "--full", action="store_true", help="also the checks that read every unpacked file"
    )


def run(context: Context) -> int:
    """Check; exit 1 when something was found, also when it was repaired.

    3 when a cache could not be checked.
    """
    findings: list[Finding] = []
    out, meter, checked, failed = context.out, context.out.meter(), 0, False
    for tool in context.tools:
        try:
            checks = verify_all(
                [tool],
                context.around,
                repair=context.args.repair,
                full=context.args.full,
                progress=meter,
            )
            for place, found in checks:
                checked += 1
                for finding in found:
                    meter.close()
                    findings.append(finding)
                    done = f" ({finding.repaired})" if finding.repaired else ""
                    out.line(f"{finding.problem:<16} {place.tool}: {finding.text}{done}")
        except (EntrepotError, OSError) as exc:
            _, text, fix = explained(exc)
            out.warn("unreadable", f"{tool.name}: {text}", fix)
            failed = True
    meter.close()
    _summary(context, findings, checked)
    out.document(findings=[finding_record(finding) for finding in findings], checked=checked)
    if findings:
        return FAILED
    return PARTLY if failed else DONE


def _summary(context: Context, findings: list[Finding], checked: int) -> None:
    caches = f"{checked} cache{'' if checked == 1 else 's'}"
    if not findings:
        context.out.hint(f"ok: {caches} checked" if checked else "Nothing is cached yet.")
        return
    left = sum(not finding.repaired for finding in findings)
    problems = f"{len(findings)} problem{'' if len(findings) == 1 else 's'} in {caches}"
    context.out.hint(
        f"{problems}, {len(findings) - left} repaired" if context.args.repair else problems
    )
    if left and not context.args.repair:
        context.out.hint("fix: entrepot verify --repair")
