#!/bin/sh
# Runs once, when PostgreSQL's container makes its data folder: a user and a database for each of the two programs.
# Passwords are read by psql itself, so that they stand in no command line.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"
for name in maskloop labelstudio; do
    test -s "$SECRETS/${name}_password"
    psql --set=ON_ERROR_STOP=1 --set=name="$name" --username="${POSTGRES_USER:-postgres}" --dbname=postgres --no-psqlrc <<'SQL'
\set file :name '_password'
\setenv SECRET_FILE :file
\set password `cat "$SECRETS/$SECRET_FILE"`
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
