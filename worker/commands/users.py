"""`users`: who may log in at the pages, and which machines may ask the API.

Input: logins, names, roles; passwords are asked for on the terminal or read from standard input, never taken from the
command line, which other users of the machine can see. Output: rows, an audit message for each change, and what is
shown once: one-time passwords and tokens. What cannot be done ends with exit code 1 and the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.auditing import audit_user_change
from worker.commands.console import ConfigOption, JsonOption, fail, ledger, note, out, print_json, read_settings, table
from worker.roles import Role

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.people.administration import Change
    from worker.settings import Settings

app = typer.Typer(help="Who may log in at the pages, and tokens for machines.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens: what a machine shows to the API instead of a log-in.", no_args_is_help=True)
app.add_typer(token_app, name="token")

LoginArgument = Annotated[str, typer.Argument(metavar="LOGIN", help="name that is typed at log-in")]
RoleOption = Annotated[Role, typer.Option(help="viewer sees, reviewer also decides, administrator also administers")]
NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="who it is, as Family^Given; it is in reports")]
OrganizationOption = Annotated[str, typer.Option(help="organisation [default: setting review.organization]")]
OneTimeOption = Annotated[
    bool, typer.Option("--one-time", help="make a password, show it, and have it changed at the first log-in")
]


@app.command()
def add(
    login: LoginArgument,
    role: RoleOption = Role.VIEWER,
    name: NameOption = "",
    organization: OrganizationOption = "",
    one_time: OneTimeOption = False,
    config: ConfigOption = None,
) -> None:
    """Add a user; the password is asked for, or read from standard input."""
    from worker.people import administration

    settings = read_settings(config)
    password = "" if one_time else _typed(settings, (login, name, organization))
    _change(settings, lambda session: administration.add(session, login, role, name, organization, password))


@app.command("list")
def list_users(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List all users."""
    from worker.people import accounts

    with ledger(read_settings(config)) as database, database.reading() as session:
        users = [
            {
                "login": user.login,
                "name": user.person_name,
                "organization": user.organization,
                "role": user.role.value,
                "disabled": user.disabled,
                "password": bool(user.password_hash),
                "issuer": user.issuer,
                "last_login_at": user.last_login_at,
            }
            for user in accounts.everybody(session)
        ]
    if as_json:
        print_json(users)
        return
    rows = [
        [
            str(user["login"]),
            str(user["name"]),
            str(user["organization"]),
            "disabled" if user["disabled"] else str(user["role"]),
            _moment(user["last_login_at"]),
        ]
        for user in users
    ]
    out().print(table("login", "name", "organisation", "role", "last log-in (UTC)", rows=rows))


@app.command("set-password")
def set_password(login: LoginArgument, one_time: OneTimeOption = False, config: ConfigOption = None) -> None:
    """Set a user's password, log them out everywhere, and revoke the tokens in their name."""
    from worker.people import accounts, administration

    settings = read_settings(config)
    password = "" if one_time else _typed(settings, _names(settings, login))
    _change(settings, lambda session: administration.reset_password(session, accounts.get(session, login), password))


@app.command("set-role")
def set_role(
    login: LoginArgument, role: Annotated[Role, typer.Argument(help="the new role")], config: ConfigOption = None
) -> None:
    """Give a user another role, and log them out everywhere."""
    from worker.people import accounts, administration

    _change(read_settings(config), lambda session: administration.set_role(session, accounts.get(session, login), role))


@app.command("set-name")
def set_name(
    login: LoginArgument,
    name: NameOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
) -> None:
    """Set the name and organisation with which a user signs."""
    from worker.people import accounts, administration

    _change(
        read_settings(config),
        lambda session: administration.set_name(accounts.get(session, login), name, organization),
    )


@app.command()
def disable(login: LoginArgument, config: ConfigOption = None) -> None:
    """Let a user in no more: log them out everywhere, and revoke the tokens in their name."""
    from worker.people import accounts, administration

    _change(read_settings(config), lambda session: administration.disable(session, accounts.get(session, login)))


@app.command()
def enable(login: LoginArgument, config: ConfigOption = None) -> None:
    """Let a disabled user in again."""
    from worker.people import accounts, administration

    _change(read_settings(config), lambda session: administration.enable(accounts.get(session, login)))


@token_app.command("add")
def add_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what it is for, such as prometheus")],
    role: RoleOption = Role.VIEWER,
    days: Annotated[float, typer.Option(min=0.01, max=3660, help="days until it ends")] = 365,
    user: Annotated[str, typer.Option(metavar="LOGIN", help="in whose name it acts [default: its own]")] = "",
    config: ConfigOption = None,
) -> None:
    """Make a token and show it, once: send it as `Authorization: Bearer TOKEN`."""
    from worker.people import accounts, administration

    def added(session: Session) -> Change:
        owner = accounts.get(session, user) if user else None
        return administration.add_token(session, None, name, role, days, owner)

    _change(read_settings(config), added)


@token_app.command("list")
def list_tokens(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List all tokens, without what they hold."""
    from worker.people import tokens

    with ledger(read_settings(config)) as database, database.reading() as session:
        found = [
            {
                "name": token.name,
                "role": token.role.value,
                "user": token.account.login if token.account else None,
                "expires_at": token.expires_at,
                "last_used_at": token.last_used_at,
            }
            for token in tokens.listed(session)
        ]
    if as_json:
        print_json(found)
        return
    rows = [
        [str(one["name"]), str(one["role"]), str(one["user"] or ""), _moment(one["expires_at"]),
         _moment(one["last_used_at"])]
        for one in found
    ]  # fmt: skip
    out().print(table("token", "role", "in the name of", "ends (UTC)", "last used (UTC)", rows=rows))


@token_app.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="as `users token list` shows it")],
    config: ConfigOption = None,
) -> None:
    """End a token."""
    from worker.people import administration

    _change(read_settings(config), lambda session: administration.revoke_token(session, name))


def _change(settings: Settings, change: Callable[[Session], Change]) -> None:
    """Change something in one transaction, and say what was done; what cannot be done ends with exit code 1."""
    from worker.audit.owed import telling
    from worker.people.accounts import PeopleError

    with ledger(settings) as database:
        try:
            with telling(database) as session:
                made = change(session)
                audit_user_change(settings, session, made)
        except PeopleError as error:
            fail(str(error))
    if made.secret:
        note(f"{made.done} {made.secret_is}")
        typer.echo(made.secret)
    else:
        out().print(made.done, markup=False)


def _names(settings: Settings, login: str) -> tuple[str, str, str]:
    """Return what a user's password must not be made up of."""
    from worker.people import accounts

    with ledger(settings) as database, database.reading() as session:
        try:
            account = accounts.get(session, login)
        except accounts.PeopleError as error:
            fail(str(error))
        return account.login, account.person_name, account.organization


def _typed(settings: Settings, about: tuple[str, str, str]) -> str:
    """Return a new password, typed twice on the terminal or the first line of standard input.

    No transaction may be open meanwhile: nobody else could write until it is typed.
    """
    from worker.people.passwords import PasswordError, check_new

    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        check_new(password, settings.web.password_length, about)
    except PasswordError as error:
        fail(str(error))
    return password


def _moment(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else "never"
