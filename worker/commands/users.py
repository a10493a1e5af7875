"""`users`: who may log in at the pages, and which machines may ask the API.

Input: logins, names, roles; passwords are asked for on the terminal or read from standard input, never taken from the
command line, which other users of the machine can see. Output: rows, an audit message for each change, and what is
shown once: one-time passwords and tokens. What cannot be done ends with exit code 1 and the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.auditing import audit_user_change
from worker.commands.console import ConfigOption, JsonOption, fail, ledger, note, out, print_json, read_settings, table
from worker.roles import Role

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

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
    from worker.people import accounts

    with _changing(config, login, f"added as {role}", roles=True) as (session, settings):
        password = _password(settings, one_time, (login, name, organization))
        accounts.add(
            session, login, role, person_name=name, organization=organization, password=password, is_one_time=one_time
        )
    _done(f"user {login.lower()} is added", password if one_time else "")


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
    from worker.people import accounts

    with _changing(config, login, "password set, tokens revoked") as (session, settings):
        account = accounts.get(session, login)
        password = _password(settings, one_time, (account.login, account.person_name, account.organization))
        revoked = accounts.reset_password(session, account, password, is_one_time=one_time)
    _done(f"user {login.lower()} has a new password{accounts.tokens_revoked(revoked)}", password if one_time else "")


@app.command("set-role")
def set_role(
    login: LoginArgument, role: Annotated[Role, typer.Argument(help="the new role")], config: ConfigOption = None
) -> None:
    """Give a user another role, and log them out everywhere."""
    from worker.people import accounts

    with _changing(config, login, f"role {role}", roles=True) as (session, _):
        accounts.set_role(session, accounts.get(session, login), role)
    _done(f"user {login.lower()} is {role} now")


@app.command("set-name")
def set_name(
    login: LoginArgument,
    name: NameOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
) -> None:
    """Set the name and organisation with which a user signs."""
    from worker.people import accounts

    with _changing(config, login, f"signs as {name}") as (session, _):
        accounts.name(accounts.get(session, login), name, organization)
    _done(f"user {login.lower()} signs as {name or 'nobody'}")


@app.command()
def disable(login: LoginArgument, config: ConfigOption = None) -> None:
    """Let a user in no more: log them out everywhere, and revoke the tokens in their name."""
    from worker.people import accounts

    with _changing(config, login, "disabled, tokens revoked") as (session, _):
        revoked = accounts.disable(session, accounts.get(session, login))
    _done(f"user {login.lower()} is disabled{accounts.tokens_revoked(revoked)}")


@app.command()
def enable(login: LoginArgument, config: ConfigOption = None) -> None:
    """Let a disabled user in again."""
    from worker.people import accounts

    with _changing(config, login, "enabled") as (session, _):
        accounts.enable(accounts.get(session, login))
    _done(f"user {login.lower()} is enabled")


@token_app.command("add")
def add_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what it is for, such as prometheus")],
    role: RoleOption = Role.VIEWER,
    days: Annotated[float, typer.Option(min=0.01, max=3660, help="days until it ends")] = 365,
    user: Annotated[str, typer.Option(metavar="LOGIN", help="in whose name it acts [default: its own]")] = "",
    config: ConfigOption = None,
) -> None:
    """Make a token and show it, once: send it as `Authorization: Bearer TOKEN`."""
    from worker.people import accounts, tokens

    with _changing(config, f"token:{name}", f"token made, {role}", roles=True) as (session, _):
        token = tokens.add(session, name, role, days, accounts.get(session, user) if user else None)
    note(f"token {name} is a {role} for {days:g} days; it is shown this once:")
    typer.echo(token)


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
    from worker.people import tokens

    with _changing(config, f"token:{name}", "token revoked") as (session, _):
        tokens.revoke(session, name)
    _done(f"token {name} is revoked")


@contextmanager
def _changing(config: Path | None, login: str, what: str, *, roles: bool = False) -> Iterator[tuple[Session, Settings]]:
    """Yield a transaction; what the people's rules refuse ends with exit code 1 and changes nothing."""
    from worker.audit.owed import telling
    from worker.people.accounts import PeopleError
    from worker.people.passwords import PasswordError

    settings = read_settings(config)
    with ledger(settings) as database:
        try:
            with telling(database) as session:
                yield session, settings
                audit_user_change(settings, session, login, what, roles=roles)
        except (PeopleError, PasswordError) as error:
            fail(str(error))


def _password(settings: Settings, one_time: bool, about: tuple[str, ...]) -> str:
    """Return a new password: made, typed twice on the terminal, or the first line of standard input."""
    from worker.people.passwords import check_new, one_time_password

    if one_time:
        return one_time_password()
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    check_new(password, settings.web.password_length, about)
    return password


def _done(message: str, password: str = "") -> None:
    if password:
        note(f"{message}; the password is shown this once and has to be changed at the first log-in:")
        typer.echo(password)
    else:
        out().print(message, markup=False)


def _moment(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else "never"
