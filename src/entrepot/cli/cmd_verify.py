"""Check what is cached: digests, sizes, heads without body and bodies without head.

With --repair what is damaged is removed.
"""

from __future__ import annotations

from collections.abc import Iterator

from entrepot.caches.records import finding_record
from entrepot.caches.verify import verify_all
from entrepot.cli.context import Context
from entrepot.cli.main import Parser
from entrepot.cli.output import DONE, FAILED, Meter
from entrepot.errors import EntrepotError
from entrepot.ports.tool import Finding, Place


def add_arguments(parser: Parser) -> None:
    """The options of ``verify``."""
    parser.flag("--repair", help="remove what is damaged, so that it is fetched again")
    parser.flag("--full", help="also the checks that read every unpacked file")


def run(context: Context) -> int:
    """Check; exit 1 when something was found, also when it was repaired.

    3 when a cache could not be checked.
    """
    findings: list[Finding] = []
    args, out, meter, checked = context.args, context.out, context.out.meter(), 0
    around = context.around if args.repair else context.around.for_one_look()
    for tool in context.tools:
        try:
            for place, found in verify_all(
                [tool], around, repair=args.repair, full=args.full, progress=meter
            ):
                checked += _check(context, place, found, findings, meter)
        except (EntrepotError, OSError) as exc:
            context.complain(tool.name, exc)
    meter.close()
    _summary(context, findings, checked)
    out.document(findings=[finding_record(finding) for finding in findings], checked=checked)
    return FAILED if findings else DONE


def _check(
    context: Context, place: Place, found: Iterator[Finding], findings: list[Finding], meter: Meter
) -> bool:
    """Show and collect what is wrong in one cache; whether all of it could be checked."""
    try:
        for finding in found:
            meter.close()
            findings.append(finding)
            done = f" ({finding.repaired})" if finding.repaired else ""
            context.out.line(f"{finding.problem:<16} {place.tool}: {finding.text}{done}")
    except (EntrepotError, OSError) as exc:
        context.complain(place.tool, exc)
        return False
    return True


def _summary(context: Context, findings: list[Finding], checked: int) -> None:
    caches = f"{checked} cache{'' if checked == 1 else 's'}"
    if not findings:
        if context.incomplete:
            context.out.hint(f"{caches} checked")
        else:
            found = f"Nothing found: {context.no_cache()}."
            context.out.hint(f"ok: {caches} checked" if checked else found)
        return
    left = sum(not finding.repaired for finding in findings)
    problems = f"{len(findings)} problem{'' if len(findings) == 1 else 's'} in {caches}"
    context.out.hint(
        f"{problems}, {len(findings) - left} repaired" if context.args.repair else problems
    )
    if left and not context.args.repair:
        full = " --full" if context.args.full else ""  # else the repair does not see what this saw
        context.out.hint(f"fix: entrepot verify{full} --repair")
