"""The REST API under /api: paths, fields and status codes are those that existing portals and backends know.

Closed where it used to be open: users are made, and locations changed, by admins only; whoever has only the role
`user` sees his own registration and no other; no answer holds a password.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy
from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from sqlalchemy.orm import Session

from wod_api import console, outbox, registration, store
from wod_api import tables as t
from wod_api.callers import Admin, Caller, Database, Means, Moderator, Shared, Told, address, has
from wod_api.fields import (
    CustomerChange,
    Feedback,
    LocationData,
    Login,
    MailingList,
    NewCustomer,
    NewUser,
    NewWorkshop,
    StudentData,
    UserChange,
    WorkshopData,
    row,
)
from wod_api.frontdoor import FrontDoor
from wod_api.seals import seal
from wod_api.settings import Settings, secret
from wod_api.tokens import Failures, Rate, hashed, is_right, token

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
_NOUNS = {
    "workshops": "Workshop",
    "students": "Student",
    "customers": "Customer",
    "users": "User",
    "location": "Location",
}
_TOKEN = {
    401: {"description": "The token is not, or no longer, good."},
    403: {"description": "No token, or not the role."},
}
_BAD = {400: {"description": "Not understood, or no such row."}}

api = APIRouter(prefix="/api", responses=_BAD)  # type: ignore[arg-type]


def create_app(settings: Settings, connections: int) -> FastAPI:
    """The application, on a pool of so many connections to the database."""
    app = FastAPI(
        title=f"{settings.BRANDINGWOD} Workshops-On-Demand API",
        version="1.0.0",
        description="Workshops, seats and registrations of a Workshops-on-Demand site.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url="/swagger.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.means = Means(
        settings=settings,
        sessions=store.sessions(store.engine(connections)),
        key=secret("token-key"),
        registrations=Rate(settings.WODAPIDBRATE),
        failures=Failures(),
    )
    app.include_router(api)
    app.include_router(console.pages)
    app.get("/", include_in_schema=False)(lambda: {"hello": "hi!"})
    app.get("/test", include_in_schema=False)(lambda: {"hello": "test"})
    app.get("/health", include_in_schema=False)(health)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["content-type", "x-access-token"],
        expose_headers=["x-wod-reason"],
    )
    app.add_middleware(FrontDoor)
    app.add_exception_handler(Told, _told)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(sqlalchemy.exc.IntegrityError, _refused)
    app.add_exception_handler(sqlalchemy.exc.DataError, _refused)
    app.add_exception_handler(sqlalchemy.exc.OperationalError, _away)
    app.add_exception_handler(sqlalchemy.exc.TimeoutError, _away)
    # What is not understood is 400 here, as the clients are used to. Last: a route makes the description anew.
    for methods in app.openapi()["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
    return app


async def _told(_request: Request, told: Exception) -> Response:
    assert isinstance(told, Told)
    if isinstance(told.body, str):
        return PlainTextResponse(told.body, told.status)
    return JSONResponse(told.body, told.status)


async def _not_understood(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    errors = [
        {"field": ".".join(map(str, one["loc"][1:])), "problem": one["msg"]} for one in problem.errors()
    ]
    if request.method == "GET" and any(one["loc"][0] == "path" for one in problem.errors()):
        return PlainTextResponse(f"{_NOUNS.get(request.url.path.split('/')[2], '')} Not Found", 400)
    return JSONResponse({"error": errors}, 400)


async def _refused(_request: Request, _problem: Exception) -> Response:
    return JSONResponse({"error": "The database refuses these values."}, 400)


async def _away(_request: Request, problem: Exception) -> Response:
    print(f"the database does not answer: {str(problem).splitlines()[0]}", flush=True)
    return JSONResponse({"error": "The database does not answer; try again later."}, 503)


def health(database: Database) -> dict[str, str]:
    """Whether we reach the database."""
    database.execute(sqlalchemy.text("SELECT 1"))
    return {"state": "well"}


def _get(database: Session, table: Any, number: int, noun: str = "", *, lock: bool = False) -> Any:
    found = database.get(table, number, with_for_update=lock)
    if found is None:
        raise Told(400, f"{noun} Not Found" if noun else {"error": {}})
    return found


def _all(database: Session, table: Any) -> list[dict[str, Any]]:
    return [row(one) for one in database.scalars(sqlalchemy.select(table).order_by(table.id))]


def _change(entry: Any, said: Any, *unless: str) -> None:
    """Take over what was said, but not what is left open, and nothing for a column that cannot be empty."""
    table = entry.__table__.columns
    for name, value in said.model_dump(exclude_unset=True, exclude={*unless}).items():
        if value is not None or table[name].nullable:
            setattr(entry, name, value)


def _saved(database: Session, entry: t.Base) -> dict[str, Any]:
    database.add(entry)
    database.flush()
    database.refresh(entry)
    database.commit()
    return row(entry)


def _removed(database: Session, entry: t.Base) -> dict[str, Any]:
    database.delete(entry)
    database.commit()
    return {}


# --- Users ---


@api.post("/login", tags=["users"], responses={401: {}, 404: {}, 429: {}})
def login(request: Request, said: Login, shared: Shared, database: Database) -> Any:
    """A token for the header x-access-token; it lasts three minutes."""
    where = address(request)
    if pause := shared.failures.pause(where):
        return JSONResponse({"message": "Too many attempts."}, 429, {"retry-after": str(int(pause) + 1)})
    user = database.scalar(
        sqlalchemy.select(t.User).where(t.User.username == said.username.replace("\0", ""))
    )
    database.rollback()
    right = is_right(user.password if user else None, said.password)
    shared.failures.note(where, right=right)
    if not right:
        print(f"login refused from {where}", flush=True)
    if user is None:
        return JSONResponse({"message": "User Not found."}, 404)
    if not right:
        return JSONResponse({"accessToken": None, "message": "Invalid Password!"}, 401)
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "roles": [f"ROLE_{role.name.upper()}" for role in user.roles],
        "accessToken": token(user.id, shared.key),
    }


@api.get("/users", tags=["users"], responses=_TOKEN)
def users(_: Admin, database: Database) -> Any:
    """All users."""
    return _all(database, t.User)


@api.get("/users/{number}", tags=["users"], responses=_TOKEN)
def user(number: Id, _: Admin, database: Database) -> Any:
    """One user."""
    return row(_get(database, t.User, number, "User"))


@api.post("/user", tags=["users"], responses=_TOKEN)
def new_user(said: NewUser, _: Admin, database: Database) -> Any:
    """Make a user; without roles he is a `user`."""
    taken = sqlalchemy.select(t.User)
    if database.scalar(taken.where(t.User.username == said.username)):
        raise Told(400, {"message": "Failed! Username is already in use!"})
    if said.email and database.scalar(taken.where(sqlalchemy.func.lower(t.User.email) == said.email.lower())):
        raise Told(400, {"message": "Failed! Email is already in use!"})
    made = t.User(username=said.username, email=said.email, password=hashed(said.password))
    made.roles = _roles(database, said.roles or ["user"])
    _saved(database, made)
    return {"message": "User was registered successfully!"}


@api.put("/user/{number}", tags=["users"], responses=_TOKEN)
def change_user(number: Id, said: UserChange, _: Admin, database: Database) -> Any:
    """Change a user."""
    found = _get(database, t.User, number, lock=True)
    _change(found, said, "password", "roles")
    if said.password is not None:
        found.password = hashed(said.password)
    if said.roles is not None:
        found.roles = _roles(database, said.roles)
    return _saved(database, found)


@api.delete("/user/{number}", tags=["users"], responses=_TOKEN)
def remove_user(number: Id, _: Admin, database: Database) -> Any:
    """Remove a user."""
    return _removed(database, _get(database, t.User, number))


def _roles(database: Session, names: list[str]) -> list[t.Role]:
    found = {role.name: role for role in database.scalars(sqlalchemy.select(t.Role))}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise Told(400, {"message": f"Failed! Role does not exist = {unknown[0]}"})
    return [found[name] for name in dict.fromkeys(names)]


# --- Workshops ---


def _listed(database: Session, *conditions: Any) -> list[dict[str, Any]]:
    top = registration.popular(database)
    return [row(one) | {"popular": one.name in top} for one in registration.workshops(database, *conditions)]


@api.get("/workshops", tags=["workshops"])
def workshops(database: Database, active: bool | None = None) -> Any:
    """All workshops in the order of their priority, or only those that are (not) offered."""
    return JSONResponse(_listed(database, *([] if active is None else [t.Workshop.active == active])))


@api.get("/workshopsBeta", tags=["workshops"], responses=_TOKEN)
def workshops_beta(_: Caller, database: Database) -> Any:
    """All workshops that are not beta."""
    return JSONResponse(_listed(database, t.Workshop.beta.is_(False)))


@api.get("/workshops/{number}", tags=["workshops"])
def workshop(number: Id, database: Database) -> Any:
    """One workshop."""
    return row(_get(database, t.Workshop, number, "Workshop"))


@api.post("/workshop", tags=["workshops"], responses=_TOKEN)
def new_workshop(said: NewWorkshop, _: Admin, database: Database) -> Any:
    """Make a workshop."""
    made = t.Workshop()
    _change(made, said)
    return _saved(database, made)


@api.put("/workshop/{number}", tags=["workshops"], responses=_TOKEN)
def change_workshop(number: Id, said: WorkshopData, _: Moderator, database: Database) -> Any:
    """Change a workshop; backends set its capacity."""
    found = _get(database, t.Workshop, number, lock=True)
    _change(found, said)
    return _saved(database, found)


@api.delete("/workshop/{number}", tags=["workshops"], responses=_TOKEN)
def remove_workshop(number: Id, _: Admin, database: Database) -> Any:
    """Remove a workshop; who is in it stays to the end."""
    return _removed(database, _get(database, t.Workshop, number))


# --- Students: the seats ---


@api.get("/students", tags=["students"], responses=_TOKEN)
def students(_: Moderator, database: Database) -> Any:
    """All seats. Their passwords are never told."""
    return JSONResponse(_all(database, t.Student))


@api.get("/students/{number}", tags=["students"], responses=_TOKEN)
def student(number: Id, _: Moderator, database: Database) -> Any:
    """One seat."""
    return row(_get(database, t.Student, number, "Student"))


@api.post("/student", tags=["students"], responses=_TOKEN)
def new_student(said: StudentData, _: Admin, database: Database) -> Any:
    """Make a seat."""
    made = t.Student()
    _change(made, said, "password")
    return _saved(database, made)


@api.put("/student/{number}", tags=["students"], responses=_TOKEN)
def change_student(number: Id, said: StudentData, user: Moderator, database: Database) -> Any:
    """What a backend tells of a seat: whether it is somebody's, and its password.

    The password is kept, encrypted, only where a participant waits for the mail with it.
    """
    found = _get(database, t.Student, number, lock=True)
    _change(found, said, "password", *([] if has(user, "admin") else ["url", "username", "location"]))
    if said.assigned is False:
        found.holder = found.sealed = None
    if said.password is not None and found.holder is not None:
        state = sqlalchemy.select(sqlalchemy.func.coalesce(t.Customer.lastEmailSent, "welcome"))
        if database.scalar(state.where(t.Customer.id == found.holder)) == "welcome":
            found.sealed = seal(said.password)
    return _saved(database, found)


@api.delete("/student/{number}", tags=["students"], responses=_TOKEN)
def remove_student(number: Id, _: Admin, database: Database) -> Any:
    """Remove a seat that nobody has or had."""
    return _removed(database, _get(database, t.Student, number))


# --- Customers: registrations ---


def _own(user: t.User, customer: t.Customer) -> bool:
    """Whether the user may see this registration: all of them as a moderator, else his own."""
    if has(user, "moderator", "admin"):
        return True
    return bool(user.email) and registration.comparable(str(user.email)) == customer.address


@api.get("/customers", tags=["customers"], responses=_TOKEN)
def customers(user: Caller, database: Database) -> Any:
    """All registrations; a mere user's own ones."""
    every = database.scalars(sqlalchemy.select(t.Customer).order_by(t.Customer.id))
    return JSONResponse([row(one) for one in every if _own(user, one)])


@api.get("/customers/{number}", tags=["customers"], responses=_TOKEN)
def customer(number: Id, user: Caller, database: Database) -> Any:
    """One registration."""
    found = _get(database, t.Customer, number, "Customer")
    if not _own(user, found):
        raise Told(400, "Customer Not Found")
    return row(found)


@api.post("/customer", tags=["customers"], responses={202: {}, 429: {}})
def new_customer(request: Request, said: NewCustomer, shared: Shared, database: Database) -> Any:
    """Register for a workshop.

    200 with the registration; 200 and nothing for an address that is not wanted; 202 with {id, title, endDate} for
    who has a workshop already, 202 with a text where there is no seat. The header x-wod-reason tells them apart.
    """
    if not shared.registrations.allows(address(request)):
        return JSONResponse(
            {"error": "Too many registrations from this address."}, 429, {"retry-after": "60"}
        )
    answer = registration.register(database, said, shared.settings)
    headers = {"x-wod-reason": answer.reason}
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    if isinstance(answer.body, str):
        return PlainTextResponse(answer.body, answer.status, headers)
    return JSONResponse(answer.body, answer.status, headers)


@api.put("/customer/unregister/{number}", tags=["customers"], responses=_TOKEN)
def unregister(number: Id, user: Caller, database: Database) -> Any:
    """End a registration at once; a mere user his own."""
    found = _get(database, t.Customer, number, lock=True)
    if not _own(user, found):
        raise Told(400, {"error": {}})
    registration.unregister(database, found)
    return _saved(database, found)


@api.put("/customer/{number}", tags=["customers"], responses=_TOKEN)
def change_customer(number: Id, said: CustomerChange, user: Moderator, database: Database) -> Any:
    """What a backend tells of a participant: that his seat is ready, how far he came, that it is cleaned."""
    found = _get(database, t.Customer, number, lock=True)
    _change(found, said, *([] if has(user, "admin") else ["name", "company", "endDate"]))
    if (found.lastEmailSent or t.OPEN[0]) in t.OPEN:
        found.due = datetime.now(UTC)
        store.wake(database)
    return _saved(database, found)


@api.delete("/customer/{number}", tags=["customers"], responses=_TOKEN)
def remove_customer(number: Id, _: Admin, database: Database, shared: Shared) -> Any:
    """Remove a registration; its seat is taken back."""
    found = _get(database, t.Customer, number, lock=True)
    registration.delete(database, found, shared.settings)
    database.commit()
    return {}


# --- Locations: backends ---


@api.get("/locations", tags=["locations"])
def locations(database: Database) -> Any:
    """All backends."""
    return _all(database, t.Location)


@api.get("/location/{number}", tags=["locations"])
def location(number: Id, database: Database) -> Any:
    """One backend."""
    return row(_get(database, t.Location, number, "Location"))


@api.put("/location/{number}", tags=["locations"], responses=_TOKEN)
def change_location(number: Id, said: LocationData, _: Admin, database: Database) -> Any:
    """Change a backend."""
    found = _get(database, t.Location, number, lock=True)
    _change(found, said, "port")
    if said.port is not None:
        found.port = str(said.port)
    return _saved(database, found)


@api.delete("/location/{number}", tags=["locations"], responses=_TOKEN)
def remove_location(number: Id, _: Admin, database: Database) -> Any:
    """Remove a backend."""
    return _removed(database, _get(database, t.Location, number))


# --- Badges and mails ---


@api.get("/special-badges", tags=["badges"])
def special_badges(database: Database) -> Any:
    """The badges for several workshops."""
    return _all(database, t.SpecialBadge)


@api.post("/emails", tags=["emails"])
def emails(_said: MailingList) -> Any:
    """Mailing lists are kept nowhere here: always 400."""
    raise Told(400, "No mailing list is configured.")


@api.get("/email/random/{list_id}", tags=["emails"])
def random_email(list_id: Annotated[str, Path(max_length=100)]) -> Any:
    """Mailing lists are kept nowhere here: always 400."""
    raise Told(400, "No mailing list is configured.")


@api.post("/email/send-feedback", tags=["emails"], responses={429: {}})
def send_feedback(request: Request, said: Feedback, shared: Shared, database: Database) -> Any:
    """Send a message to the site's operators."""
    if not shared.registrations.allows(address(request)):
        raise Told(429, "Too many messages from this address.")
    facts = {"email": said.email, "message": said.message}
    event = f"feedback-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    outbox.letter(database, shared.settings, event, None, shared.settings.WODSENDER, "feedback", facts)
    store.wake(database)
    database.commit()
    return PlainTextResponse("email sent successfully")


@api.get("/docs", include_in_schema=False)
def docs(request: Request, shared: Shared) -> HTMLResponse:
    """The API for people to read."""
    return console.page("docs.html", shared, api=request.app.openapi())
