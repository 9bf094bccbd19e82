-- Roles and databases of the stack. Run at every start: each statement may be repeated.
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['wod', 'hub', 'mail']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

SELECT format('CREATE DATABASE %I OWNER %I', name, name)
FROM unnest(ARRAY['wod', 'hub']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

REVOKE ALL ON DATABASE postgres, template1, wod, hub FROM PUBLIC;
GRANT CONNECT ON DATABASE wod TO hub, mail;
