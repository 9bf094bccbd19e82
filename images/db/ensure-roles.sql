-- Roles and databases of the stack. Run at every start: each statement may be repeated.

-- Large objects are the one thing that every role could store in a database that is not its own. First where fresh
-- databases are copied from.
\set closing 'SELECT format(''REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC'', oid::regprocedure) FROM pg_proc WHERE pronamespace = ''pg_catalog''::regnamespace AND proname ~ ''^(lo_|loread$|lowrite$)'' AND has_function_privilege(''public'', oid, ''EXECUTE'')'
\connect template1
:closing \gexec
\connect postgres

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['wod', 'hub', 'mail', 'api']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- Together what max_connections leaves beside those reserved for postgres: no service can take another's share.
ALTER ROLE wod CONNECTION LIMIT 27;
ALTER ROLE hub CONNECTION LIMIT 40;
ALTER ROLE mail CONNECTION LIMIT 10;
ALTER ROLE api CONNECTION LIMIT 20;

SELECT format('CREATE DATABASE %I OWNER %I', name, name)
FROM unnest(ARRAY['wod', 'hub', 'api']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

REVOKE ALL ON DATABASE postgres, template1, wod, hub, api FROM PUBLIC;
GRANT CONNECT ON DATABASE wod TO hub, mail, api;

-- A database of an earlier version was copied before its template was closed.
\connect wod
:closing \gexec
