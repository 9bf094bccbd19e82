"""The operators' pages: who is registered, seats, orders and mails, completion; live, for admins only.

Rendered here, without a script that is needed: the one there is fetches the same table again every other second.
"""

from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from email.message import EmailMessage
from pathlib import Path as File
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import jinja2
import psycopg
import sqlalchemy
from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from wod_api import registration
from wod_api import tables as t
from wod_api.callers import Database, Means, Shared, Told, address, has
from wod_api.seals import unseal
from wod_api.settings import BACKEND, Settings
from wod_api.tokens import is_right, token, user_of
from wodctl.model import brand

COOKIE = "wod-console"
HOURS = 8
"""How long a login lasts."""

SHOWN = 200
"""Rows of each table, at most."""

_HERE = File(__file__).parent
_STATIC = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "wod.css": "text/css",
}
_templates = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE / "pages"), autoescape=True)
pages = APIRouter(prefix="/console", include_in_schema=False)


def _ago(moment: datetime | None) -> str:
    """A time as far away as it is, for people: 5 min, in 2 h."""
    if moment is None:
        return ""
    seconds = (moment - datetime.now(UTC)).total_seconds()
    amount = abs(seconds)
    unit, size = next(
        (pair for pair in (("d", 86400), ("h", 3600), ("min", 60)) if amount >= pair[1]), ("s", 1)
    )
    return f"in {amount // size:.0f} {unit}" if seconds > 0 else f"{amount // size:.0f} {unit} ago"


_templates.filters["ago"] = _ago


def page(template: str, shared: Means, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page of ours, in the look of the hub's: the site's colour, and its logo if it has one."""
    site = shared.settings
    logo = urlsplit(site.logo)
    logo_origin = f"{logo.scheme}://{logo.netloc}" if logo.netloc else ""
    style = brand.style(site.BRANDINGCOLOR)
    look = {"style": style, "logo": site.logo, "icon": site.logo or brand.icon(site.BRANDINGCOLOR)}
    return HTMLResponse(
        _templates.get_template(template).render(site=site, look=look, **values),
        status,
        {
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
            f"style-src 'self' {brand.source(style)}; img-src 'self' data: {logo_origin}; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-store",
        },
    )


async def _form(request: Request) -> dict[str, str]:
    """A form of ours: a page of another site may not send it."""
    origin = urlsplit(request.headers.get("origin") or "")
    if origin.netloc and origin.netloc != request.headers.get("host"):
        raise Told(403, "This form was not sent from our own page.")
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), max_num_fields=20))


def _admin(request: Request, shared: Shared, database: Database) -> t.User | None:
    """Who is logged in, if he is an admin still."""
    number = user_of(request.cookies.get(COOKIE, ""), shared.key, purpose="console")
    user = database.get(t.User, number) if number is not None else None
    return user if user and has(user, "admin") else None


Form = Annotated[dict[str, str], Depends(_form)]
Visitor = Annotated[t.User | None, Depends(_admin)]
Id = Annotated[int, Path(ge=1, le=2**31 - 1)]


@pages.get("/static/{name}")
def static(name: str) -> Response:
    """Style sheets, the script, the mark."""
    if name not in _STATIC:
        raise Told(404, "Not found.")
    return FileResponse(
        _HERE / "static" / name, media_type=_STATIC[name], headers={"X-Content-Type-Options": "nosniff"}
    )


@pages.get("/login")
def login_page(shared: Shared) -> Response:
    """The login."""
    return page("login.html", shared, problem="", name="")


@pages.post("/login")
def login(request: Request, form: Form, shared: Shared, database: Database) -> Response:
    """Log in as an admin."""
    where, name = address(request), form.get("username", "")[:300].replace("\0", "")
    if shared.failures.pause(where):
        return page("login.html", shared, 429, problem="Too many attempts. Wait half a minute.", name=name)
    user = database.scalar(sqlalchemy.select(t.User).where(t.User.username == name))
    allowed = is_right(user.password if user else None, form.get("password", "")[:300])
    shared.failures.note(where, right=allowed)
    if not (allowed and user and has(user, "admin")):
        return page(
            "login.html", shared, 401, problem="This name and password are not those of an admin.", name=name
        )
    answer = RedirectResponse("/console", 303)
    answer.set_cookie(
        COOKIE, token(user.id, shared.key, purpose="console", lifetime=HOURS * 3600), max_age=HOURS * 3600,
        path="/console", httponly=True, samesite="strict", secure=shared.settings.WODAPIDBEXTPROTO == "https",
    )  # fmt: skip
    return answer


@pages.post("/logout")
def logout(_: Form) -> Response:
    """Forget the login."""
    answer = RedirectResponse("/console/login", 303)
    answer.delete_cookie(COOKIE, path="/console")
    return answer


@pages.get("")
def overview(user: Visitor, shared: Shared, database: Database) -> Response:
    """Everything at a glance."""
    if user is None:
        return RedirectResponse("/console/login", 303)
    return page("console.html", shared, user=user, backend=_backend(shared.settings), **_state(database))


@pages.get("/live")
def live(user: Visitor, shared: Shared, database: Database) -> Response:
    """The part of the page that changes."""
    if user is None:
        return Response(status_code=401)
    return page("live.html", shared, backend=_backend(shared.settings), **_state(database))


@pages.post("/cancel/{number}")
def cancel(number: Id, _form: Form, user: Visitor, database: Database) -> Response:
    """End a registration."""
    if user is None:
        return RedirectResponse("/console/login", 303)
    found = database.get(t.Customer, number, with_for_update=True)
    if found:
        registration.unregister(database, found)
        database.commit()
    return RedirectResponse("/console", 303)


@pages.get("/mails/{number}")
def mail(number: Id, user: Visitor, shared: Shared, database: Database) -> Response:
    """One mail, with its text where we keep it."""
    if user is None:
        return RedirectResponse("/console/login", 303)
    found = database.get(t.Mail, number)
    if found is None:
        raise Told(404, "There is no such mail.")
    kept = database.get(t.Kept, number)
    return page("mail.html", shared, user=user, mail=found, text=_text(kept))


def _text(kept: t.Kept | None) -> str | None:
    whole = unseal(kept.sealed) if kept else None
    if whole is None:
        return None
    message = message_from_string(whole, policy=policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain",))
    return str(body.get_content()) if body else whole


def _backend(settings: Settings) -> dict[str, Any] | None:
    """Seats and actions of the backend on this host; None without one, or while it does not tell."""
    if settings.WODTYPE != "all":
        return None
    try:
        with psycopg.connect(BACKEND, autocommit=True, options="-c statement_timeout=2s") as connection:
            row = connection.execute("SELECT wod.overview()").fetchone()
    except psycopg.Error:
        return None
    found: dict[str, Any] = row[0] if row else {}
    for one in (*found["seats"], *found["actions"]):
        for name in ("lease_until", "created", "finished"):
            one[name] = datetime.fromisoformat(one[name]) if one.get(name) else None
    return found


def _state(database: Session) -> dict[str, Any]:
    select, count = sqlalchemy.select, sqlalchemy.func.count
    is_open = sqlalchemy.func.coalesce(t.Customer.lastEmailSent, "welcome").in_((*t.OPEN, "unregister"))
    people = select(t.Customer, t.Student.username).outerjoin(t.Student, t.Student.id == t.Customer.studentId)
    assigned = count().filter(t.Student.assigned)
    return {
        "open": database.execute(people.where(is_open).order_by(t.Customer.id.desc()).limit(SHOWN)).all(),
        "ended": database.execute(people.where(~is_open).order_by(t.Customer.id.desc()).limit(20)).all(),
        "seats": database.execute(
            select(t.Student.location, count().label("all"), assigned.label("assigned"))
            .where(t.Student.location.is_not(None)).group_by(t.Student.location).order_by(t.Student.location)
        ).all(),
        "taken": database.scalars(
            select(t.Student).where(t.Student.assigned).order_by(t.Student.id).limit(SHOWN)
        ).all(),
        "workshops": database.execute(
            select(
                t.Workshop,
                count(t.Customer.id).filter(is_open).label("now"),
                count(t.Customer.id).filter(t.Customer.lastEmailSent == "expired").label("finished"),
                sqlalchemy.func.avg(t.Customer.completionPercentage)
                .filter(t.Customer.lastEmailSent == "expired", t.Customer.began.is_not(None)).label("completion"),
                count(t.Customer.id).filter(t.Customer.lastEmailSent == "error").label("failed"),
            )
            .outerjoin(t.Customer, t.Customer.workshop == t.Workshop.id)
            .group_by(t.Workshop.id).order_by(t.Workshop.active.desc(), t.Workshop.priority, t.Workshop.name)
        ).all(),
        "mails": database.scalars(select(t.Mail).order_by(t.Mail.id.desc()).limit(40)).all(),
        "waiting": database.scalar(select(count()).select_from(t.Mail).where(t.Mail.state == "waiting")),
        "failed": database.scalar(
            select(count()).select_from(t.Mail)
            .where(t.Mail.state == "failed", t.Mail.created > datetime.now(UTC) - timedelta(days=1))
        ),
        "now": datetime.now(UTC),
    }  # fmt: skip
