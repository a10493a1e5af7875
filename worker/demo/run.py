"""The demo: the daemon with its own PACS, and studies that are sent to it.

Input: nothing but free ports and a folder. Output: a table on standard output; then the daemon stays up until Ctrl-C.
On failure (a study did not get to its end in time) the exit code is 1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from worker.children import Child, children_of
from worker.demo.environment import forget_environment
from worker.settings import load_settings


def run_demo(config: Path | None, console: Console, *, exit_afterwards: bool) -> int:
    """Run the demo until Ctrl-C, or until the table is printed.

    Returns:
        0; 1 if a study did not get to its end; 2 if the settings cannot work.

    Raises:
        SettingsError: The site's own settings are wrong.
    """
    started_at = time.monotonic()
    data_dir = load_settings(config).data_dir
    here = Path.cwd()
    demos = (data_dir.relative_to(here) if data_dir.is_relative_to(here) else data_dir) / "demo"
    forget_environment()
    with children_of([]) as children:
        return _play(config, console, demos, children, exit_afterwards=exit_afterwards, started_at=started_at)


def _play(
    config: Path | None,
    console: Console,
    demos: Path,
    children: Sequence[Child],
    *,
    exit_afterwards: bool,
    started_at: float,
) -> int:
    # Imported while the children import what they run.
    from worker import supervisor
    from worker.demo.folder import fresh_folder
    from worker.demo.playing import Demo
    from worker.demo.profile import demo_settings
    from worker.demo.receiver import receiving

    with fresh_folder(demos) as folder, receiving(folder / "pacs") as receiver:
        settings, notes = demo_settings(config, folder, receiver.port)
        for remark in notes:
            console.print(remark, markup=False)
        console.print(f"demo: node {settings.dicom.ae_title} on port {settings.dicom.port}, everything in {folder}")
        demo = Demo(settings, folder, receiver, console, exit_afterwards, started_at)
        code = supervisor.run(settings, children, alongside=demo.play, show_password=demo.keep_login)
        demo.end()
    return code or int(demo.failed)
