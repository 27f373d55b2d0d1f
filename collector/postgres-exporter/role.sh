#!/bin/sh
# Run by the image of PostgreSQL when its database is new: makes the role of the exporter, which reads statistics and no
# table. The password comes from a file, and neither it nor a statement with it gets into the log.
set -eu
export PGOPTIONS='-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic -c auto_explain.log_min_duration=-1'
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat "${EXPORTER_PASSWORD_FILE:-/run/secrets/exporter_password}"`
SET pg_stat_statements.track = 'none';
CREATE ROLE exporter_user LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 10
    PASSWORD :'password';
ALTER ROLE exporter_user SET statement_timeout = '10s';
ALTER ROLE exporter_user SET lock_timeout = '1s';
ALTER ROLE exporter_user SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE exporter_user SET default_transaction_read_only = on;
GRANT pg_monitor TO exporter_user;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SQL
