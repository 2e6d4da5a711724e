"""Run a command with its downloads going through the cache.

Nothing about the command or its tools is changed.

URLs, lock files and records stay what they were: the command is pointed at a proxy on loopback by
its environment alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.cli.main import Parser
from entrepot.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from entrepot.cli.context import Context
    from entrepot.cli.wiring import RunStore
    from entrepot.ports.catalogue import Catalogue
    from entrepot.ports.client_setup import Command, ProxyAddress
    from entrepot.run.child import Running
    from entrepot.run.plan import Plan
    from entrepot.server.listener import Listener
    from entrepot.serving.known_files import KnownFiles
    from entrepot.serving.lookup import Entries
    from entrepot.serving.response import Handler
    from entrepot.serving.run_stats import RunStats


def add_arguments(parser: Parser) -> None:
    """The options of ``run``."""
    parser.flag("--offline", help="serve what was seen before; ask no upstream")
    parser.flag("--no-store", help="pass everything through: look nothing up, keep nothing")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="cache this host's traffic too (repeatable)",
    )
    parser.flag("--refresh", help="ask upstream about every page and unproven file, fresh or not")
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help="write what was fetched and saved to FILE, as JSON",
    )


def run(context: Context) -> int:
    """Carry it out; the child's exit status."""
    args = context.args
    argv = args.child[1:] if args.child[:1] == ["--"] else args.child
    if not argv:
        raise UsageError("run needs a command", hint="entrepot run -- pip install NAME")
    if args.report is not None and not args.report.absolute().parent.is_dir():
        raise UsageError(
            f"--report {args.report}: there is no directory {args.report.absolute().parent}"
        )
    if args.report is not None and args.report.is_dir():
        raise UsageError(
            f"--report {args.report}: that is a directory",
            hint=f"--report {args.report / 'report.json'}",
        )
    if _inside_another(context):
        return _exec(argv, context)
    options = RunOptions(args.offline, args.no_store, args.refresh, tuple(args.host), args.report)
    return Session(context, argv, options).run()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user wants of a session, beyond the settings."""

    offline: bool = False
    no_store: bool = False
    refresh: bool = False
    hosts: tuple[str, ...] = ()
    report: Path | None = None


class Session:
    """One run's parts, picked and put together.

    A proxy, a store behind it, and a child that is pointed at it.

    Args:
        context: settings and surroundings.
        argv: the command.
        options: the flags of the command line.
    """

    def __init__(self, context: Context, argv: Sequence[str], options: RunOptions) -> None:
        from entrepot.ports.client_setup import Command
        from entrepot.serving.run_stats import RunStats

        self._context = context
        self._options = options
        self._settings = context.settings
        self._offline = options.offline or self._settings.offline
        self._command = Command(tuple(argv), context.around)
        self._hosts = (*self._settings.hosts, *options.hosts)
        self._plan = self._planned(self._command, None)
        self.stats: RunStats = RunStats()

    def run(self) -> int:
        """Carry it out; the child's exit status."""
        from entrepot.cli.wiring import open_run_store, read_resolve, trusted
        from entrepot.config.settings import runtime_dirs
        from entrepot.run.child import CannotStart
        from entrepot.run.runtime_dir import runtime_directory
        from entrepot.server.listener import Listener

        environ = self._context.around.environ
        read_resolve(environ)  # what is wrong with it is said before anything is started
        roots = trusted(environ, self._plan.bundles)
        for text in roots.warnings:
            self.stats.warn(text)
        kept = open_run_store(self._settings)
        if kept.trouble is not None:
            cure = f" ({kept.trouble.hint})" if kept.trouble.hint else ""
            self.stats.warn(f"nothing is kept: {kept.trouble.message}{cure}")
        with (
            runtime_directory(runtime_dirs(self._context.around)) as runtime,
            self._log(),
            Listener(runtime / "trusted.pem", roots.pem, offline=self._offline) as listener,
        ):
            try:
                child = self.start(listener.address)
            except CannotStart as exc:
                self._context.out.say(f"entrepot: {exc.message}")
                return exc.status
            # What follows is loaded while the child starts up: its first connection waits in the
            # backlog.
            try:
                from entrepot.server.listener import run_loop

                status = run_loop(self._serve(listener, child, kept))
            except BaseException:
                child.stop()
                raise
        self.finish(status)
        return status

    @contextmanager
    def _log(self) -> Iterator[None]:
        """Append a line of each request to the file that the setting ``log`` names."""
        if self._settings.log is None:
            yield
            return
        from entrepot.caches.records import rfc3339

        try:
            file = self._settings.log.open("a", encoding="utf-8", buffering=1)
        except OSError as exc:
            raise ConfigError(
                f"the log {self._settings.log} cannot be written: {exc.strerror}", name="log"
            ) from exc
        with file:
            self.stats.log = lambda text: print(
                f"{rfc3339(time.time())} run[{os.getpid()}] {text}", file=file
            )
            yield

    async def _serve(self, listener: Listener, child: Running, kept: RunStore) -> int:
        from entrepot.cli import wiring
        from entrepot.ports.clock import SystemClock
        from entrepot.server.listener import serve_child
        from entrepot.server.proxy import ConnectPolicy
        from entrepot.serving.lookup import Entries, SizeLimit
        from entrepot.serving.policy import Rules
        from entrepot.serving.prefetch import PageHistory
        from entrepot.serving.service import Service

        upstream, dial = wiring.upstream(
            self._settings, self._context.around.environ, self._plan.bundles
        )
        clock = SystemClock()
        limit = SizeLimit(kept.make_room, kept.sweep)
        entries = Entries(kept.store, kept.catalogue, clock, limit.landed)
        facts = self.facts(kept.catalogue)
        policy = ConnectPolicy(self._plan, facts, dial, self.stats, offline=self._offline)
        rules = Rules(
            offline=self._offline,
            refresh=self._options.refresh,
            no_store=self._options.no_store or (kept.trouble is not None and not self._offline),
            shared=kept.store.shared,
            caches=policy.caches,
        )
        service = Service(
            entries=entries,
            upstream=upstream,
            known_files=facts,
            clock=clock,
            rules=rules,
            stats=self.stats,
            reusable=partial(wiring.donors, self._context.around),
            grown=limit.grown,
            history=PageHistory(kept.catalogue) if self._settings.ahead else None,
        )
        self.behind(service.handle)
        ended = False
        try:
            status = await serve_child(listener, child, service, policy)
            ended = True
            return status
        finally:
            await upstream.aclose()
            if entries.trouble is not None:
                text = entries.trouble.message
                self.stats.warn(
                    text if text.startswith("the store failed") else f"the store failed: {text}"
                )
            if kept.changed:
                count = len(kept.changed)
                what = "a stored file was" if count == 1 else f"{count} stored files were"
                self.stats.warn(f"{what} changed on the disk by something else, and not served")
            if kept.has_no_locks():
                self.stats.warn(
                    "file locking is unreliable on the store's file system: "
                    "use the store from one run at a time"
                )
            self._count(kept.catalogue)
            await limit.aclose()
            if ended:
                await self.landed(entries)
            kept.close()

    def start(self, proxy: ProxyAddress) -> Running:
        """Start the child.

        Raises:
            CannotStart: it cannot be.
        """
        from entrepot.run.child import Child

        return Child(*self.pointed_at(proxy))

    def behind(self, handle: Handler) -> None:
        """Told what answers behind the proxy, before the child is waited for.

        A session may have questions of its own.
        """

    async def landed(self, entries: Entries) -> None:
        """Told what is stored when the child has ended and the store is below its cap."""

    def pointed_at(
        self, proxy: ProxyAddress, argv: Sequence[str] | None = None
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        """Words and environment that send a command through the proxy.

        Without ``argv`` the session's own.
        """
        from entrepot.cli.wiring import common_environment
        from entrepot.run.plan import child_environment

        command = self._command if argv is None else replace(self._command, argv=tuple(argv))
        plan = self._planned(command, proxy)
        for text in plan.warnings:
            self.stats.warn(text)
        environ = self._context.around.environ
        common = common_environment(environ, proxy, loopback_open=plan.loopback, hosts=plan.hosts)
        return plan.argv, child_environment(environ, common, plan.environment)

    def _planned(self, command: Command, proxy: ProxyAddress | None) -> Plan:
        from entrepot.cli.wiring import client_setups
        from entrepot.run.plan import make_plan

        setups = client_setups(command, proxy).values()
        return make_plan(setups, command.argv, hosts=self._hosts)

    def facts(self, catalogue: Catalogue) -> KnownFiles:
        """What is known of files beforehand: of lock files and the command line."""
        from entrepot.cli.wiring import known_files
        from entrepot.run.plan import read_beforehand

        facts = known_files(catalogue)
        facts.learn_beforehand(read_beforehand(self._plan.locks, self._command.argv))
        return facts

    def _count(self, catalogue: Catalogue) -> None:
        """Add this run to the savings that ``status`` shows."""
        counts = self.stats.counts()
        catalogue.count(
            runs=1,
            requests=sum(counts.values()),
            hits=counts["hit"] + counts["revalidated"] + counts["stale"],
            bytes_from_cache=self.stats.bytes_from_cache,
            bytes_downloaded=self.stats.bytes_downloaded,
        )

    def finish(self, status: int) -> None:
        """Say what came of it."""
        if self._options.report is not None:
            report = self.stats.report(self._command.argv, status)
            try:
                self._options.report.write_text(
                    json.dumps(report, indent=1) + "\n", encoding="utf-8"
                )
            except OSError as exc:
                self.stats.warn(f"the report could not be written: {exc.strerror}")
        if not self._context.args.quiet or self.stats.unseen:
            self._context.out.say(f"entrepot: {self.stats.last_line(offline=self._offline)}")


def _inside_another(context: Context) -> bool:
    """Whether an outer run serves this command, and nothing is asked that it does not do."""
    args = context.args
    asks = args.offline or args.no_store or args.refresh or args.report or args.host
    if asks or args.store is not None:
        return False
    from entrepot.cli.wiring import outer_run

    address = outer_run(context.around.environ)
    if address is None:
        return False
    import socket

    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except (OSError, ValueError):
        return False
    return True


def _exec(argv: Sequence[str], context: Context) -> int:
    """Become the command: the outer run does the rest."""
    try:
        os.execvpe(argv[0], list(argv), dict(context.around.environ))  # noqa: S606
    except FileNotFoundError:
        context.out.say(f"entrepot: {argv[0]}: command not found")
        return 127
    except OSError as exc:
        context.out.say(f"entrepot: {argv[0]}: {exc.strerror}")
        return 126
