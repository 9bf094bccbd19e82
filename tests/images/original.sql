-- A registration database of the original: its one migration and user_roles, and rows as years of use leave them.
CREATE TABLE workshops (
    id serial PRIMARY KEY, name varchar(255), notebook varchar(255), description text, active boolean NOT NULL DEFAULT false,
    capacity integer, priority integer, range integer[], reset boolean NOT NULL DEFAULT false,
    ldap boolean NOT NULL DEFAULT false, "sessionId" integer, "sessionType" varchar(255), location varchar(255),
    avatar varchar(255), role varchar(255), presenter varchar(255), "preRequisite" text, "replayLink" text,
    compile varchar(1234), varpass boolean NOT NULL DEFAULT false, "replayId" integer, "workshopImg" varchar(255),
    "badgeImg" varchar(255), monoappliance boolean DEFAULT false, multiappliance boolean DEFAULT false,
    beta boolean DEFAULT false, category text[], "alternateLocation" text[], duration integer DEFAULT 4,
    "createdAt" timestamptz, "updatedAt" timestamptz NOT NULL
);
CREATE TABLE students (
    id serial PRIMARY KEY, url varchar(255), username varchar(255), password varchar(255),
    assigned boolean NOT NULL DEFAULT false, location varchar(255), "createdAt" timestamptz, "updatedAt" timestamptz NOT NULL
);
CREATE TABLE locations (
    id serial PRIMARY KEY, name varchar(255), basestdid integer, proto varchar(255), port varchar(255),
    "createdAt" timestamptz, "updatedAt" timestamptz NOT NULL
);
CREATE TABLE customers (
    id serial PRIMARY KEY, name varchar(255), email varchar(255), company varchar(255), "sessionName" varchar(255),
    "sessionType" varchar(255), location varchar(255), notebook varchar(255), active boolean NOT NULL DEFAULT false,
    cleaned boolean NOT NULL DEFAULT false, "lastEmailSent" varchar(255), hours integer,
    "startDate" timestamptz NOT NULL, "endDate" timestamptz NOT NULL, "studentId" integer REFERENCES students (id),
    proxy varchar(255), "specialBadgeId" integer, "completionPercentage" integer DEFAULT 0,
    "createdAt" timestamptz, "updatedAt" timestamptz
);
CREATE TABLE special_badges (
    id serial PRIMARY KEY, name varchar(255), title varchar(255), description varchar(255), "badgeImg" varchar(255),
    "createdAt" text, "updatedAt" text
);
CREATE TABLE users (
    id serial PRIMARY KEY, username varchar(255), email varchar(255), password varchar(255),
    "roleId" integer REFERENCES users (id), "createdAt" timestamptz, "updatedAt" timestamptz
);
CREATE TABLE roles (
    id serial PRIMARY KEY, name varchar(255), "userId" integer REFERENCES roles (id), "createdAt" timestamptz, "updatedAt" timestamptz
);
CREATE TABLE user_roles ("roleId" integer, "userId" integer, "createdAt" timestamptz, "updatedAt" timestamptz);

INSERT INTO locations (name, basestdid, proto, port, "createdAt", "updatedAt") VALUES
    ('one.example.net', 0, 'https', '8000', '2024-03-01 08:00:00.123456+00', now()),
    ('two.example.net', 100, 'https', '443', '2024-03-01 08:00:00.123456+00', now()),
    ('one.example.net', 50, 'http', '1', '2024-03-01 08:00:00.123456+00', now());
INSERT INTO students (url, username, password, assigned, location, "createdAt", "updatedAt")
    SELECT 'https://' || place || ':8000/user/student' || n || '/lab?', 'student' || n, 'MyNewPassword' || n, false, place,
        '2024-03-01 08:00:00.123456+00', now()
    FROM (VALUES ('one.example.net', 1), ('two.example.net', 2)) AS backend (place, nr), generate_series(1, 100) AS n
    ORDER BY nr, n;
INSERT INTO workshops (name, notebook, description, active, capacity, priority, range, reset, "sessionType", location,
        compile, "replayId", "badgeImg", monoappliance, category, "alternateLocation", duration, "createdAt", "updatedAt") VALUES
    ('Python 101', 'WKSHP-Python101', E'It''s "all"\nof\tPython \\ 101', true, 3, 1, '{52,57}', false, 'Workshops-on-Demand',
        'one.example.net', 'false', 31, 'WOD-Badge-Python101', NULL, '{"Open Source","a, b","c\"d"}',
        '{two.example.net}', 2, '2024-03-01 08:00:00.123456+00', now()),
    ('Docker 101', 'WKSHP-Docker101', NULL, true, -2, NULL, '{1,6}', true, 'Workshops-on-Demand', 'one.example.net',
        'x.sh,y.sh', 0, NULL, true, NULL, NULL, 0, '2024-03-01 08:00:00.123456+00', now()),
    ('Tensorflow 101', 'WKSHP-Tensorflow101', '', true, NULL, 2, '{-4}', true, 'Workshops-on-Demand', 'gone.example.net',
        'false', NULL, 'tbd', NULL, '{}', '{""}', NULL, NULL, now()),
    ('Python 101', 'WKSHP-Python101', 'A second one', false, 20, 3, '{52,57}', false, NULL, 'one.example.net', NULL, NULL,
        NULL, NULL, NULL, NULL, 4, '2024-04-01 08:00:00+00', now());
INSERT INTO customers (id, name, email, company, "sessionName", "sessionType", location, notebook, active, cleaned,
        "lastEmailSent", hours, "startDate", "endDate", "studentId", proxy, "specialBadgeId", "completionPercentage",
        "createdAt", "updatedAt") VALUES
    -- Over, with a percentage that cannot be.
    (1, E'O''Hara\t<b>', 'ohara@example.net', NULL, 'Python 101', 'Workshops-on-Demand', 'one.example.net',
        'WKSHP-Python101', false, true, 'expired', 4, '2025-01-31 10:00+00', '2025-01-31 14:00+00', 52, 'wod', 0, 133,
        '2025-01-31 09:59:59.987654+00', now()),
    -- Three at work; the third got the seat of the second, as two who ask at once do.
    (2, 'Ada', 'Ada+wod@Example.net', 'Engines', 'Python 101', 'Workshops-on-Demand', 'one.example.net',
        'WKSHP-Python101', true, false, 'credentials', 4, now(), now() + interval '3 hours', 53, 'wod', 0, 0, now(), now()),
    (3, 'Bob', 'bob@example.net', NULL, 'Python 101', 'Workshops-on-Demand', 'one.example.net',
        'WKSHP-Python101', true, false, 'credentials', 4, now(), now() + interval '3 hours', 54, 'wod', 0, NULL, now(), now()),
    (4, 'Cleo', 'cleo@example.net', NULL, 'Python 101', 'Workshops-on-Demand', 'one.example.net',
        'WKSHP-Python101', true, false, 'expiring', 4, now(), now() + interval '1 hour', 54, 'wod', 0, 0, now(), now()),
    -- The same person as 2, later.
    (5, 'Ada', 'ada@example.net', NULL, 'Docker 101', 'Workshops-on-Demand', 'one.example.net',
        'WKSHP-Docker101', true, false, 'credentials', 4, now(), now() + interval '4 hours', 1, 'wod', 0, 0, now(), now()),
    -- Open, but nowhere.
    (6, 'Eve', NULL, NULL, 'Gone 101', NULL, 'gone.example.net', 'WKSHP-Gone', false, false, 'welcome', 4, now(), now(),
        NULL, NULL, NULL, 0, now(), now()),
    -- Taken off, not ended yet; just registered; a state that nobody knows.
    (7, 'Fay', 'fay@example.net', NULL, 'Docker 101', NULL, 'one.example.net', 'WKSHP-Docker101', false, false,
        'unregister', 4, now(), now(), 2, 'wod', NULL, 0, now(), now()),
    (8, 'Gus', 'gus@example.net', NULL, 'Docker 101', NULL, 'two.example.net', 'WKSHP-Docker101', false, false, NULL, 4,
        now(), now() + interval '4 hours', 101, 'wod', NULL, 0, now(), now()),
    (9, 'Hal', 'hal@example.net', NULL, 'Docker 101', NULL, 'one.example.net', 'WKSHP-Docker101', false, false, 'paused', 4,
        now(), now(), 3, 'wod', NULL, 0, NULL, now());
SELECT setval('customers_id_seq', 9);
-- Two seats were lost with their RESETs.
UPDATE students SET assigned = true WHERE id IN (1, 2, 53, 54, 60, 61, 101);
INSERT INTO special_badges (name, title, description, "badgeImg", "createdAt", "updatedAt") VALUES
    ('Apprentice', 'Apprentice', 'Three', 'https://portal.example.net/own.jpg', '2024-03-01 08:00:00.123+00', 'now');
INSERT INTO users (username, email, password, "createdAt", "updatedAt") VALUES
    ('moderator', 'dummy', '$2b$10$abcdefghijklmnopqrstuv', now(), now());
INSERT INTO user_roles SELECT 2, 1, now(), now();
