"""``iscl-monai serve`` and ``iscl-monai user``: argument parsing only; the node is the service's."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iscl_monai.console import IN_PART, exit_codes, say
from iscl_monai.errors import ConfigRefusal
from iscl_monai.extras import check_extra

if TYPE_CHECKING:
    from iscl_monai.service.settings import Settings


class Role(str, Enum):
    """What somebody may do on the node's pages."""

    viewer = "viewer"
    operator = "operator"
    admin = "admin"


Config = Annotated[
    Path, typer.Option("--config", metavar="FILE", envvar="ISCL_MONAI_NODE", help="Settings; see deploy/node.toml.")
]


def serve(
    config: Config,
    check: Annotated[bool, typer.Option("--check", help="Check the settings, say what they mean, and end.")] = False,
    ask_peers: Annotated[
        bool, typer.Option("--connect", help="With --check: also ask each peer whether it answers; exit code 3 if not.")
    ] = False,
) -> None:
    """Run a DICOM node beside a PACS: CT series come in, are denoised, and go back as derived series.

    Objects come by C-STORE, STOW-RS, or are asked for; success is answered only when they are on the disk and in the
    database. Rules decide what is denoised, how strongly, and where it goes; each derived object is repeated until the
    receiver has confirmed it. Pages show every series and what became of it. Ends on SIGTERM, losing nothing.

    Examples:
        iscl-monai serve --config node.toml --check --connect

        iscl-monai user add anna --role admin --config node.toml

        iscl-monai serve --config node.toml
    """
    with exit_codes(left="what was acknowledged is kept"):
        check_extra("serve", "a node")
        from iscl_monai.service.settings_description import describe
        from iscl_monai.service.settings_file import read_settings
        from iscl_monai.service.signals import RELOAD, hold_back

        if not check:
            hold_back(RELOAD)  # before the settings are read, so that they are read again
        settings = read_settings(config)
        if check:
            for line in describe(settings):
                say(line)
            if ask_peers:
                _ask_peers(settings)
            return
        if ask_peers:
            raise ConfigRefusal(
                "--connect without --check", allowed="both together", cure="add --check, which starts no node"
            )
        from iscl_monai.service.node import serve as run

        run(settings, config)


def _ask_peers(settings: Settings) -> None:
    from iscl_monai.service.connect import connect

    well = True
    for answers, line in connect(settings):
        well = well and answers
        say(line)
    if not well:
        raise typer.Exit(IN_PART)


user = typer.Typer(help="Who may log in to the node's pages.", no_args_is_help=True)


@user.command()
def add(
    name: Annotated[str, typer.Argument(help="What they log in with.")],
    config: Config,
    role: Annotated[
        Role, typer.Option(help="viewer looks; operator retries, cancels, reveals names; admin manages users.")
    ] = Role.viewer,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Add somebody, asking for a password of 12 characters or more.

    Example:
        iscl-monai user add anna --role operator --config node.toml
    """
    with exit_codes():
        check_extra("serve", "a node's users")
        from iscl_monai.service.database.migrate import migrate
        from iscl_monai.service.database.store import Store
        from iscl_monai.service.settings_file import read_settings
        from iscl_monai.service.web.accounts import add_user

        settings = read_settings(config)
        if password_stdin:
            password = sys.stdin.readline().rstrip("\n")
        else:
            password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        os.umask(0o077)
        settings.data.mkdir(parents=True, exist_ok=True)
        migrate(settings.data)
        store = Store(settings.data)
        add_user(store, name, password, role.value)
        store.close()
        say(f"added: {name}, {role.value}")
