#include "catalog/document.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

const char* const verifier =
    "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

}  // namespace

TEST_CASE("a document is read") {
    const auto document = parse_catalog_document(std::string(R"yaml(
clusters:
  - {name: main, host: 127.0.0.1, port: 5433, tls: verify_full, tls_ca_file: /etc/ca.pem, server_connections_max: 20}
databases:
  - {cluster: main, name: app, server_connections_max: 9}
users:
  - {name: app, tenants: "*", scram_verifier: ")yaml") +
                                                     verifier + R"yaml("}
  - {name: narrow, tenants: [globex, acme]}
tenants:
  - name: acme
    placement: {kind: schema, cluster: main, database: app, schema: acme}
  - name: globex
    placement: {kind: database, cluster: main, database: globex}
    state: suspended
    pool_mode: session
    role: globex_role
    shared_schemas: []
    server_connections_max: 3
    sessions_max: 4
    transactions_per_second_max: 5
    idle_in_transaction_ms_max: 6
    settings: {work_mem: 8MB, Statement_Timeout: 5000, app.flag: ""}
)yaml",
                                                 "tenants.yaml");
    if (!document) FAIL(document.error().message);
    CHECK(document->clusters ==
          std::vector<Cluster>{{"main", "127.0.0.1", 5433, ServerTls::verify_full, "/etc/ca.pem", 20}});
    CHECK(document->databases == std::vector<Database>{{"main", "app", 9}});
    REQUIRE(document->users.size() == 2);
    CHECK(document->users[0].all_tenants);
    CHECK(document->users[0].scram_verifier == verifier);
    CHECK(document->users[1].tenants == std::vector<std::string>{"acme", "globex"});
    REQUIRE(document->tenants.size() == 2);
    CHECK(document->tenants[0].placement == Placement{PlacementKind::schema, "main", "app", "acme"});
    CHECK(document->tenants[0].shared_schemas == std::vector<std::string>{"public"});
    const auto& globex = document->tenants[1];
    CHECK(globex.state == TenantState::suspended);
    CHECK(globex.pool_mode == PoolMode::session);
    CHECK(globex.role == "globex_role");
    CHECK(globex.shared_schemas.empty());
    CHECK(globex.server_connections_max == 3);
    CHECK(globex.sessions_max == 4);
    CHECK(globex.limits == TenantLimits{0, 5, 0, 0, 0, 6});
    CHECK(document->tenants[0].limits == TenantLimits{});
    CHECK(globex.settings == std::vector<std::pair<std::string, std::string>>{
                                 {"Statement_Timeout", "5000"}, {"app.flag", ""}, {"work_mem", "8MB"}});
}

TEST_CASE("tenants that are rows, keys, domains, addresses and isolation are read") {
    const auto document = parse_catalog_document(R"yaml(
databases:
  - {cluster: main, name: crm, isolation: role, tenant_setting: app.tenant_id, tenant_column: tenant_id}
tenants:
  - name: acme
    placement: {kind: rows, cluster: main, database: crm}
    key: 5B1F-ä
    role: acme_role
    domains: [DB.Acme.example, acme.example]
    allowed_addresses: [10.0.0.0/8, "2001:db8::/32", 192.0.2.7]
  - {name: globex, placement: {kind: rows, cluster: main, database: crm}}
)yaml",
                                                 "tenants.yaml");
    if (!document) FAIL(document.error().message);
    CHECK(document->databases == std::vector<Database>{{"main", "crm", 0, Isolation::role, "app.tenant_id", "tenant_id"}});
    const auto& acme = document->tenants[0];
    CHECK(acme.placement == Placement{PlacementKind::rows, "main", "crm", ""});
    CHECK(tenant_key(acme) == "5B1F-ä");
    CHECK(acme.domains == std::vector<std::string>{"db.acme.example", "acme.example"});
    CHECK(acme.allowed_addresses.size() == 3);
    CHECK(tenant_key(document->tenants[1]) == "globex");
    CHECK(document->origin.tenant(1, "role") == "tenants.yaml:11: tenants[1].role: ");
    CHECK(document->origin.database(0, "name") == "tenants.yaml:3: databases[0].name: ");
    CHECK(document->origin.tenant(2, "role").empty());
}

TEST_CASE("an empty document is one") {
    CHECK(parse_catalog_document("", "t").has_value());
    CHECK(parse_catalog_document("# nothing\n", "t").has_value());
    CHECK_FALSE(parse_catalog_document("- a\n", "t").has_value());
}

TEST_CASE("errors name document, line and key, and never a verifier") {
    const std::string place = "placement: {kind: schema, cluster: c, database: d, schema: s}";
    const std::pair<std::string, std::string> rows[] = {
        {"tenant: []", "t:1: tenant: unknown key; did you mean tenants?"},
        {"clusters:\n- {host: h}", "t:2: clusters[0].name: is missing"},
        {"clusters:\n- {name: a, host: h, tls: full}",
         "t:2: clusters[0].tls: must be one of: disable, require, verify_ca, verify_full"},
        {"clusters:\n- {name: a, host: h, tls: verify_ca}", "t:2: clusters[0].tls: needs tls_ca_file"},
        {"clusters:\n- {name: a, host: h}\n- {name: a, host: h}", "t:3: clusters[1].name: there is another cluster a"},
        {"databases:\n- {cluster: c, name: a}\n- {cluster: c, name: a}",
         "t:3: databases[1].name: there is another database a on cluster c"},
        {"users:\n- {name: a}", "t:2: users[0].tenants: is missing"},
        {"users:\n- {name: a, tenants: all}", "t:2: users[0].tenants: must be \"*\" or a list of tenants' names"},
        {"users:\n- {name: a, tenants: [x, x]}", "t:2: users[0].tenants: has x twice"},
        {"users:\n- {name: a, tenants: [X.Y]}", "t:2: users[0].tenants: has a name that no tenant can have"},
        {"users:\n- {name: a, tenants: [], scram_verifier: md5hunter22}",
         "t:2: users[0].scram_verifier: must be a SCRAM verifier as in pg_authid.rolpassword (SCRAM-SHA-256$...)"},
        {"tenants:\n- name: a", "t:2: tenants[0].placement: is missing"},
        {"tenants:\n- name: Acme\n  " + place,
         "t:2: tenants[0].name: must be 1 to 63 of a-z, 0-9, _ and -, and begin with a letter or digit"},
        {"tenants:\n- name: a\n  placement: {kind: schema, cluster: c, database: d}",
         "t:3: tenants[0].placement.schema: is missing"},
        {"tenants:\n- name: a\n  placement: {kind: row, cluster: c, database: d}",
         "t:3: tenants[0].placement.kind: must be one of: rows, schema, database"},
        {"tenants:\n- name: a\n  placement: {kind: rows, cluster: c, database: d, schema: s}",
         "t:3: tenants[0].placement.schema: doesn't go with kind rows: the tables are shared (shared_schemas says where they are)"},
        {"tenants:\n- name: a\n  " + place + "\n  key: b\n- name: b\n  " + place,
         "t:5: tenants[1].key: there is another tenant with the key b (a tenant without a key has its name)"},
        {"tenants:\n- name: a\n  " + place + "\n  key: \"a\\nb\"", "t:4: tenants[0].key: has a control character"},
        {"tenants:\n- name: a\n  " + place + "\n  key: " + std::string(256, 'k'), "t:4: tenants[0].key: is longer than 255 bytes"},
        {"tenants:\n- name: a\n  " + place + "\n  domains: [a.example, A.Example]",
         "t:4: tenants[0].domains: a.example names another tenant already, or is there twice"},
        {"tenants:\n- name: a\n  " + place + "\n  domains: [10.0.0.1]",
         "t:4: tenants[0].domains: has a text that is no host name (db.acme.example)"},
        {"tenants:\n- name: a\n  " + place + "\n  allowed_addresses: [10.0.0.1/8]",
         "t:4: tenants[0].allowed_addresses: must be CIDR blocks without bits behind the prefix (10.0.0.0/8, 2001:db8::/32)"},
        {"databases:\n- {cluster: c, name: a, isolation: rls}", "t:2: databases[0].isolation: must be one of: app, role, login"},
        {"databases:\n- {cluster: c, name: a, tenant_setting: tenant}",
         "t:2: databases[0].tenant_setting: must be a run-time parameter of your own, with a dot (app.tenant)"},
        {"databases:\n- {cluster: c, name: a, tenant_setting: Pgporter.tenant}",
         "t:2: databases[0].tenant_setting: must not be pgporter.tenant: it is the proxy's to set"},
        {"tenants:\n- name: a\n  " + place + "\n- name: a\n  " + place,
         "t:4: tenants[1].name: there is another tenant a"},
        {"tenants:\n- name: a\n  " + place + "\n  settings: {Search_Path: x}",
         "t:4: tenants[0].settings: must not set search_path: it is the proxy's to set"},
        {"tenants:\n- name: a\n  " + place + "\n  settings: {role: x}",
         "t:4: tenants[0].settings: must not set role: it is the proxy's to set"},
        {"tenants:\n- name: a\n  " + place + "\n  settings: {session_authorization: x}",
         "t:4: tenants[0].settings: must not set session_authorization: it is the proxy's to set"},
        {"tenants:\n- name: a\n  " + place + "\n  settings: {pgporter.tenant: x}",
         "t:4: tenants[0].settings: must not set pgporter.tenant: it is the proxy's to set"},
        {"tenants:\n- name: a\n  " + place + "\n  settings: {\"a; b\": x}",
         "t:4: tenants[0].settings: has a name that no run-time parameter can have"},
        {"tenants:\n- name: a\n  " + place + "\n  settings: {work_mem: 1, WORK_MEM: 2}",
         "t:4: tenants[0].settings: sets work_mem twice"},
        {"tenants:\n- name: a\n  " + place + "\n  settings: {x: [1]}",
         "t:4: tenants[0].settings.x: must be a single value"},
        {"tenants:\n- name: a\n  " + place + "\n  sessions_max: 2000000",
         "t:4: tenants[0].sessions_max: must be between 0 and 1000000"},
        {"tenants:\n- name: a\n  placement: {kind: schema, cluster: c, database: d, schema: " + std::string(64, 'x') +
             "}",
         "t:3: tenants[0].placement.schema: is longer than 63 bytes"},
    };
    for (const auto& [yaml, message] : rows) {
        CAPTURE(yaml);
        const auto document = parse_catalog_document(yaml, "t");
        REQUIRE_FALSE(document.has_value());
        CHECK(document.error().message == message);
        CHECK((document.error().message + document.error().detail).find("hunter22") == std::string::npos);
    }
}
