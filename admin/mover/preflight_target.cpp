// What the target lacks: a role, an extension, a right, an empty database.
#include <algorithm>

#include "admin/mover/preflight.hpp"

namespace pgporter {
namespace {

void block(PreflightReport& report, std::string code, std::string object, std::string message, std::string remedy) {
    report.blockers.push_back({std::move(code), std::move(object), std::move(message), std::move(remedy)});
}

Result<void> check_roles(ServerSession& source, ServerSession& server, const MoveServers& servers,
                         PreflightReport& report) {
    auto needed = read_needed_roles(source, servers.schemas());
    if (!needed) return needed.error();
    auto missing = server.exec("SELECT r FROM unnest($1::text[]) AS r WHERE r NOT IN (SELECT rolname FROM pg_roles)",
                               {to_array_literal(*needed)});
    if (!missing) return missing.error();
    for (int row = 0; row < missing->count(); ++row) {
        block(report, "role_missing", missing->string(row, 0),
              "the role owns or may use objects of the schema, and the target server doesn't have it",
              "CREATE ROLE " + quote_ident(missing->text(row, 0)) + " on the target server");
    }
    return {};
}

// With a database that we make, extensions need only be available; in one that exists they must be there: what isn't
// ours to drop after an abort isn't ours to make.
Result<void> check_extensions(ServerSession& source, ServerSession& target, const MoveServers& servers,
                              bool database_exists, PreflightReport& report) {
    auto needed = read_needed_extensions(source, servers.schemas());
    if (!needed) return needed.error();
    for (const auto& extension : *needed) {
        auto rows = target.exec(
            "SELECT EXISTS (SELECT FROM pg_available_extension_versions WHERE name = $1 AND version = $2), "
            "EXISTS (SELECT FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = $1 AND e.extversion = $2 AND n.nspname = $3)",
            {extension.name, extension.version, extension.schema});
        if (!rows) return rows.error();
        const auto what = extension.name + " " + extension.version;
        if (database_exists && !rows->flag(0, 1)) {
            block(report, "extension_missing", what,
                  "the target database doesn't have this extension in this version, in schema " + extension.schema,
                  "CREATE EXTENSION " + quote_ident(extension.name) + " SCHEMA " + quote_ident(extension.schema) +
                      " VERSION " + quote_literal(extension.version) + " in the target database");
        } else if (!database_exists && !rows->flag(0, 0)) {
            block(report, "extension_missing", what,
                  "this extension isn't available on the target server in this version",
                  "install its package on the target server, or update the extension in the source database");
        }
    }
    return {};
}

Result<void> try_replica_role(ServerSession& target, const MoveServers& servers, PreflightReport& report) {
    auto tried = target.exec("BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK");
    if (tried) return {};
    const auto rolled_back = target.exec("ROLLBACK");
    if (tried.error().kind != ErrorKind::forbidden) return tried.error();
    block(report, "no_replica_role_right", servers.config().mover.user,
          "the mover's role may not set session_replication_role on the target server",
          target.server_version() >= 150000
              ? "GRANT SET ON PARAMETER session_replication_role TO " + quote_ident(servers.config().mover.user)
              : "make it a superuser there");
    return rolled_back ? Result<void>{} : Result<void>{rolled_back.error()};
}

// A demote: neighbours live there, only the name must be free.
Result<void> check_schema_name(ServerSession& database, const MoveServers& servers, PreflightReport& report) {
    auto taken = database.exec("SELECT 1 FROM pg_namespace WHERE nspname = $1", {servers.schema()});
    if (!taken) return taken.error();
    if (!taken->empty()) {
        block(report, "schema_taken", servers.schema(), "the target database has a schema of this name already",
              "rename or drop it there, or name another database");
    }
    auto allowed = database.exec("SELECT has_database_privilege(current_database(), 'CREATE')");
    if (!allowed) return allowed.error();
    if (!allowed->flag(0, 0)) {
        block(report, "no_create_right", servers.config().mover.user,
              "the mover's role may not make schemas in the target database",
              "GRANT CREATE ON DATABASE " + quote_ident(servers.target_placement().database) + " TO " +
                  quote_ident(servers.config().mover.user));
    }
    return {};
}

Result<void> check_emptiness(ServerSession& database, PreflightReport& report) {
    auto content = database.exec(
        "SELECT pg_describe_object(d.classid, d.objid, 0) FROM (SELECT 'pg_class'::regclass AS classid, oid AS objid, "
        "relnamespace AS ns FROM pg_class "
        "UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc UNION ALL SELECT 'pg_type'::regclass, "
        "oid, typnamespace FROM pg_type "
        "WHERE typrelid = 0 AND typelem = 0 "
        "UNION ALL SELECT 'pg_namespace'::regclass, oid, oid FROM pg_namespace WHERE nspname <> 'public') AS d "
        "WHERE d.objid >= 16384 AND d.ns NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_%') "
        "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = "
        "'e') "
        "AND NOT EXISTS (SELECT FROM pg_extension x WHERE d.classid = 'pg_namespace'::regclass AND x.extnamespace = "
        "d.objid) LIMIT 3");
    if (!content) return content.error();
    for (int row = 0; row < content->count(); ++row) {
        block(report, "target_not_empty", content->string(row, 0), "the target database isn't empty",
              "name a database that doesn't exist yet, or empty it");
    }
    return {};
}

Result<void> check_existing_database(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    auto target = servers.target();
    if (!target) return target.error();
    auto& database = **target;
    PP_TRY(servers.target_placement().kind == PlacementKind::schema ? check_schema_name(database, servers, report)
                                                                    : check_emptiness(database, report));
    const auto* traits =
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = "
        "current_database()";
    auto here = source.exec(traits);
    if (!here) return here.error();
    auto there = database.exec(traits);
    if (!there) return there.error();
    const char* const names[] = {"encoding", "collation", "character type"};
    for (int trait = 0; trait < 3; ++trait) {
        if (here->text(0, trait) == there->text(0, trait)) continue;
        block(report, "target_differs", names[trait],
              std::string("the target database's ") + names[trait] + " is " + there->string(0, trait) +
                  ", the source's is " + here->string(0, trait),
              "name a database that doesn't exist yet: it is made like the source");
    }
    PP_TRY(try_replica_role(database, servers, report));
    return check_extensions(source, database, servers, true, report);
}

// Shared schemas can't be told from what was there before: the move makes the database, and nobody else has anything in it.
Result<void> check_target_for_rows(ServerSession& source, ServerSession& server, const MoveServers& servers, bool exists,
                                   PreflightReport& report) {
    if (exists) {
        block(report, "target_exists", servers.target_placement().database, "the target database exists already",
              "name a database that doesn't exist yet: the move of a tenant that is rows makes it");
    }
    if (const auto& role = servers.rows()->role; !role.empty()) {
        auto found = server.exec("SELECT 1 FROM pg_roles WHERE rolname = $1", {role});
        if (!found) return found.error();
        if (found->empty()) {
            block(report, "role_missing", role, "the tenant has this role in the catalog, and the target server doesn't have it",
                  "CREATE ROLE " + quote_ident(role) + " on the target server, with what the source's is a member of");
        }
    }
    auto bypass = server.exec("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user");
    if (!bypass) return bypass.error();
    if (!bypass->empty() && bypass->flag(0, 0)) return {};
    auto forced = source.exec(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE "
        "n.nspname = ANY ($1::text[]) AND c.relforcerowsecurity ORDER BY 1 LIMIT 1",
        {servers.schemas().as_array()});
    if (!forced) return forced.error();
    if (!forced->empty()) {
        block(report, "no_bypass_right", servers.config().mover.user,
              "row security is forced on " + forced->string(0, 0) + " and others, also on the target, and the mover's role is bound by it there",
              "ALTER ROLE " + quote_ident(servers.config().mover.user) + " BYPASSRLS on the target server");
    }
    return {};
}

}  // namespace

Result<void> check_target(ServerSession& source, const MoveServers& servers, PreflightReport& report) {
    auto opened = servers.target_server();
    if (!opened) return opened.error();
    auto& server = **opened;
    if (server.server_version() / 10000 < source.server_version() / 10000) {
        block(report, "target_older", servers.target_placement().cluster,
              "the target server's major version is older than the source's",
              "upgrade the target server, or choose another one");
    }
    const auto* identity = "SELECT system_identifier::text FROM pg_control_system()";
    auto here = source.exec(identity);
    auto there = server.exec(identity);
    if (here && there && here->text(0, 0) == there->text(0, 0) &&
        servers.source_placement().database == servers.target_placement().database) {
        block(report, "target_is_source", servers.target_placement().database,
              "source and target are the same database of the same server", "name another target database");
        return {};
    }
    auto facts = server.exec(
        "SELECT pg_is_in_recovery(), (SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user), "
        "EXISTS (SELECT FROM pg_database WHERE datname = $1)",
        {servers.target_placement().database});
    if (!facts) return facts.error();
    if (facts->flag(0, 0)) {
        block(report, "target_is_standby", servers.target_placement().cluster, "the target server is a standby",
              "give the primary's address in the catalog's cluster");
        return {};
    }
    PP_TRY(check_roles(source, server, servers, report));
    if (servers.shared_target() && facts->flag(0, 2)) return check_shared_target(source, servers, report);
    if (servers.rows() != nullptr && !servers.shared_target()) PP_TRY(check_target_for_rows(source, server, servers, facts->flag(0, 2), report));
    if (facts->flag(0, 2)) return servers.rows() != nullptr ? Result<void>{} : check_existing_database(source, servers, report);
    if (servers.target_placement().kind != PlacementKind::database) {
        block(report, "target_missing", servers.target_placement().database, "there is no such database to share",
              "name the shared database that the tenant shall live in");
        return {};
    }
    if (!facts->flag(0, 1)) {
        block(report, "no_createdb_right", servers.config().mover.user,
              "the mover's role may not create the target database",
              "ALTER ROLE " + quote_ident(servers.config().mover.user) + " CREATEDB on the target server");
    }
    PP_TRY(try_replica_role(server, servers, report));
    return check_extensions(source, server, servers, false, report);
}

}  // namespace pgporter
