"""``iscl-monai node``: argument parsing only; what it does is the service's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iscl_monai.cli.serve import Config
from iscl_monai.console import IN_PART, exit_codes, say
from iscl_monai.extras import check_extra

node = typer.Typer(help="Back up, restore, look at a node, and try its notifications.", no_args_is_help=True)


@node.command()
def backup(
    destination: Annotated[Path, typer.Argument(metavar="FOLDER", help="Does not exist yet, or is empty.")],
    config: Config,
) -> None:
    """Copy database, keys and settings into a new folder, also while the node runs. Scans are not copied.

    Example:
        iscl-monai node backup /backup/2026-11-30 --config node.toml
    """
    with exit_codes():
        check_extra("serve", "a node's backup")
        from iscl_monai.service.backup import back_up
        from iscl_monai.service.settings_file import read_settings

        made = back_up(read_settings(config).data, config, destination)
        say(f"backed up: {', '.join(made.sha256)} of form {made.revision} into {destination}")


@node.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made by node backup.")],
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar="ISCL_MONAI_NODE",
            help="Settings, which say where the data folder is; taken from the backup if the file does not exist.",
        ),
    ],
) -> None:
    """Bring a backup into an empty data folder, after checking it; the node must not run.

    Example:
        iscl-monai node restore /backup/2026-11-30 --config node.toml
    """
    with exit_codes():
        check_extra("serve", "a node's backup")
        from iscl_monai.service.backup import restore as bring_back

        data = bring_back(source, config)
        say(f"restored: {data}; start the node with {config}")


@node.command()
def status(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Say how a node is: running or not, parts that are not well, jobs, backlog. Exit code 3 if somebody should look.

    Example:
        iscl-monai node status --config node.toml
    """
    with exit_codes():
        check_extra("serve", "a node's status")
        from iscl_monai.service.settings_file import read_settings
        from iscl_monai.service.status import status_of

        found = status_of(read_settings(config))
        for line in [found.as_json()] if as_json else found.lines():
            say(line)
        if not found.well:
            raise typer.Exit(IN_PART)


@node.command("test-message")
def test_message(config: Config) -> None:
    """Send one test notification through every configured channel. Exit code 3 if one did not take it.

    Example:
        iscl-monai node test-message --config node.toml
    """
    with exit_codes():
        check_extra("serve", "a node's notifications")
        from iscl_monai.service.notify.trial import send_test_messages
        from iscl_monai.service.settings_file import read_settings

        reasons = send_test_messages(read_settings(config))
        for channel, reason in reasons.items():
            say(f"{channel}: {reason or 'taken'}")
        if any(reasons.values()):
            raise typer.Exit(IN_PART)
