"""The database: who may do what in it."""

from tests.compliance.facts import Facts

TABLES = """
SELECT grantee || ': ' || string_agg(DISTINCT privilege_type, ', ') || ' on ' || table_schema || '.' || table_name
FROM information_schema.role_table_grants
WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND grantee IN ('PUBLIC', 'hub', 'mail', 'api')
GROUP BY grantee, table_schema, table_name
"""

ROUTINES = """
SELECT DISTINCT grantee || ' ' || routine_name FROM information_schema.role_routine_grants
WHERE routine_schema = 'wod' AND grantee IN ('PUBLIC', 'hub', 'mail', 'api') ORDER BY 1
"""

POWERS = """
SELECT rolname || CASE WHEN rolsuper THEN ' is superuser' ELSE ' may create roles or databases' END FROM pg_roles
WHERE rolname <> 'postgres' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
UNION ALL SELECT m.member::regrole || ' is in ' || m.roleid::regrole FROM pg_auth_members m
JOIN pg_roles r ON r.oid = m.member WHERE r.rolname IN ('api', 'hub', 'mail', 'wod')
"""


def test_roles_have_no_powers(facts: Facts) -> None:
    """No role but the database's own has powers over others, and none is a member of another."""
    assert not facts.rows(POWERS), "; ".join(facts.rows(POWERS))


def test_tables_are_the_workers_alone(facts: Facts) -> None:
    """Services other than the worker read and write no table of the seats: they have functions."""
    assert not facts.rows(TABLES), "; ".join(facts.rows(TABLES))


def test_functions_are_for_those_who_need_them(facts: Facts) -> None:
    """Each service may call the functions that it needs, and no other."""
    expected = {
        "api overview",
        "hub order_take_home",
        "hub seat_login",
        "hub seat_notices",
        "mail accept_mail",
    }
    seen = set(facts.rows(ROUTINES))
    assert seen <= expected, "; ".join(sorted(seen - expected))


def test_it_listens_on_its_socket_only(facts: Facts) -> None:
    """PostgreSQL has no port: whoever speaks to it is known by his uid."""
    seen = facts.rows("SHOW listen_addresses")
    assert seen == [], f"it listens on {', '.join(seen)}"
