#include "admin/api/json_views.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "admin/api/next_steps.hpp"

namespace pgporter {
namespace {

namespace json = boost::json;

json::string text(std::string_view value) { return json::string(value.data(), value.size()); }

json::value text_or_null(const std::string& value) { return value.empty() ? json::value(nullptr) : json::value(text(value)); }

json::array texts(const std::vector<std::string>& items) {
    json::array out;
    for (const auto& item : items) out.emplace_back(item);
    return out;
}

json::array view_of_steps(const std::vector<NextStep>& steps) {
    json::array out;
    for (const auto& step : steps) out.push_back(json::object{{"why", step.why}, {"command", step.command}, {"request", step.request}});
    return out;
}

json::array view_of_blockers(const std::vector<MoveBlocker>& blockers) {
    json::array out;
    for (const auto& b : blockers) {
        out.push_back(json::object{{"code", b.code}, {"object", b.object}, {"message", b.message}, {"remedy", b.remedy}});
    }
    return out;
}

json::object view_of_progress(const MoveProgress& p) {
    return {{"rows_total_estimate", p.rows_total_estimate},
            {"rows_copied", p.rows_copied},
            {"bytes_copied", p.bytes_copied},
            {"bytes_total_estimate", p.bytes_total_estimate},
            {"bytes_per_second", p.bytes_per_second},
            {"seconds_left", p.seconds_left ? json::value(*p.seconds_left) : json::value(nullptr)},
            {"throttled", p.throttled},
            {"throttled_by", text_or_null(p.throttled_by)},
            {"source_wal_bytes", p.source_wal_bytes},
            {"changes_applied", p.changes_applied},
            {"transactions_applied", p.transactions_applied},
            {"rows_verified", p.rows_verified},
            {"lag_bytes", p.lag_bytes},
            {"cutover_attempts", p.cutover_attempts},
            {"pause_ms", p.pause_ms},
            {"note", p.note}};
}

Error wrong(std::string message) { return fail(ErrorKind::invalid, std::move(message)); }

// 1-based line and column of an offset, for the text of an error.
std::string position_of(std::string_view body, std::size_t offset) {
    const auto before = body.substr(0, std::min(offset, body.size()));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const auto newline = before.rfind('\n');
    const auto column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
    return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

Result<std::string> string_field(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains(json::string_view(name.data(), name.size()));
    if (value == nullptr) return std::string{};
    const auto* string = value->if_string();
    if (string == nullptr) return wrong("'" + std::string(name) + "' must be a string");
    return std::string(string->data(), string->size());
}

Result<bool> bool_field(const json::object& object, std::string_view name, bool otherwise) {
    const auto* value = object.if_contains(json::string_view(name.data(), name.size()));
    if (value == nullptr) return otherwise;
    if (!value->is_bool()) return wrong("'" + std::string(name) + "' must be true or false");
    return value->get_bool();
}

Result<void> only_fields(const json::object& object, const std::set<std::string_view>& known) {
    for (const auto& member : object) {
        const std::string_view key(member.key().data(), member.key().size());
        if (!known.contains(key)) return wrong("unknown field '" + std::string(key) + "'");
    }
    return {};
}

// PostgreSQL cuts longer names silently, which would make two names one.
Result<void> check_identifier(std::string_view what, const std::string& name) {
    if (name.empty()) return wrong(std::string(what) + " is empty");
    if (name.size() > 63) return wrong(std::string(what) + " is longer than 63 bytes");
    const bool control = std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (control) return wrong(std::string(what) + " has a control character");
    return {};
}

Result<std::uint32_t> copy_jobs_field(const json::object& body) {
    const auto* value = body.if_contains("copy_jobs");
    if (value == nullptr) return std::uint32_t{0};
    if (!value->is_int64() || value->get_int64() < 1 || value->get_int64() > 64) return wrong("'copy_jobs' must be a number from 1 to 64");
    return static_cast<std::uint32_t>(value->get_int64());
}

}  // namespace

json::object view_of(const Placement& placement) {
    return {{"kind", text(to_text(placement.kind))},
            {"cluster", placement.cluster},
            {"database", placement.database},
            {"schema", text_or_null(placement.schema)}};
}

json::object view_of(const Tenant& tenant) {
    json::object settings;
    for (const auto& [name, value] : tenant.settings) settings[name] = value;
    json::object view{{"name", tenant.name},
                      {"key", tenant_key(tenant)},
                      {"state", text(to_text(tenant.state))},
                      {"placement", view_of(tenant.placement)},
                      {"epoch", tenant.epoch.value},
                      {"pool_mode", text(to_text(tenant.pool_mode))},
                      {"role", text_or_null(tenant.role)},
                      {"shared_schemas", texts(tenant.shared_schemas)},
                      {"domains", texts(tenant.domains)},
                      {"allowed_addresses", texts(tenant.allowed_addresses)},
                      {"server_connections_max", tenant.server_connections_max},
                      {"sessions_max", tenant.sessions_max},
                      {"settings", std::move(settings)}};
    for (const auto& field : tenant_limit_fields) view[field.name] = tenant.limits.*field.value;
    return view;
}

json::object view_of(const Cluster& cluster) {
    return {{"name", cluster.name},
            {"host", cluster.host},
            {"port", cluster.port},
            {"tls", text(to_text(cluster.tls))},
            {"server_connections_max", cluster.server_connections_max}};
}

json::object view_of(const Database& database) {
    return {{"name", database.name},
            {"server_connections_max", database.server_connections_max},
            {"server_connections_min", database.server_connections_min},
            {"isolation", text(to_text(database.isolation))},
            {"tenant_setting", text_or_null(database.tenant_setting)},
            {"tenant_column", text_or_null(database.tenant_column)}};
}

json::object view_of(const MoveRecord& move) {
    return {{"id", move.id.value},
            {"tenant", move.request.tenant},
            {"state", text(to_text(move.state))},
            {"place_in_line", move.state == MoveState::planned ? json::value(move.place_in_line) : json::value(nullptr)},
            {"finished", is_finished(move.state)},
            {"before_flip", is_before_flip(move.state)},
            {"source", view_of(move.source)},
            {"target", view_of(move.target)},
            {"cutover", move.request.cutover},
            {"kind", text(to_text(move.request.kind))},
            {"epoch", move.epoch.value},
            {"progress", view_of_progress(move.progress)},
            {"error", text_or_null(move.error)},
            {"rollback", json::object{{"possible", move.state == MoveState::reversing},
                                      {"refused", text_or_null(move.rollback_refused)}}},
            {"request_failed", has_request_failed(move)},
            {"created_at", move.created_at},
            {"updated_at", move.updated_at},
            {"finished_at", text_or_null(move.finished_at)},
            {"next_steps", view_of_steps(next_steps_of(move))}};
}

json::object view_of(const PreflightReport& report, const MoveRequest& request) {
    return {{"tenant", request.tenant},
            {"dry_run", true},
            {"ok", report.blockers.empty()},
            {"blockers", view_of_blockers(report.blockers)},
            {"warnings", view_of_blockers(report.warnings)},
            {"tables", report.tables},
            {"rows_estimate", report.rows_estimate},
            {"bytes", report.bytes},
            {"seconds_estimate", report.seconds_estimate},
            {"source", view_of(report.source)},
            {"target", view_of(report.target)},
            {"next_steps", view_of_steps(next_steps_of(report, request))}};
}

json::object view_of(const ApplyReport& report, bool dry_run) {
    json::array changes;
    for (const auto& change : report.changes) {
        json::object item{{"action", change.action}, {"kind", change.kind}, {"name", change.name}};
        if (!change.what.empty()) item["what"] = change.what;
        changes.push_back(std::move(item));
    }
    return {{"dry_run", dry_run},
            {"created", report.created},
            {"changed", report.changed},
            {"unchanged", report.unchanged},
            {"changes", std::move(changes)}};
}

ApiResponse json_response(unsigned status, const json::value& body) {
    ApiResponse response;
    response.status = status;
    response.body = json::serialize(body) + "\n";
    return response;
}

Result<json::object> parse_body(const ApiRequest& request) {
    if (request.body.find_first_not_of(" \t\r\n") == std::string::npos) return json::object{};
    json::parser parser;
    boost::system::error_code ec;
    const auto consumed = parser.write_some(request.body.data(), request.body.size(), ec);
    const auto rest = request.body.find_first_not_of(" \t\r\n", consumed);
    if (ec) return wrong("the body isn't JSON: " + ec.message() + " at " + position_of(request.body, consumed));
    if (rest != std::string::npos) return wrong("the body isn't JSON: extra text at " + position_of(request.body, rest));
    auto value = parser.release();
    if (!value.is_object()) return wrong("the body must be a JSON object");
    return std::move(value.get_object());
}

Result<PromoteBody> parse_promote(MoveKind kind, std::string_view tenant, const json::object& body) {
    PP_TRY(only_fields(body, {"to", "cluster", "database", "dry_run", "copy_jobs", "cutover"}));
    const json::object* target = &body;
    if (const auto* to = body.if_contains("to")) {
        if (!to->is_object()) return wrong("'to' must be an object with 'cluster' and 'database'");
        if (body.contains("cluster") || body.contains("database")) return wrong("the target is given twice: in 'to' and beside it");
        target = &to->get_object();
        PP_TRY(only_fields(*target, {"cluster", "database"}));
    }
    auto cluster = string_field(*target, "cluster");
    if (!cluster) return cluster.error();
    auto database = string_field(*target, "database");
    if (!database) return database.error();
    if (cluster->empty()) {
        return fail(ErrorKind::invalid, "no target cluster", {}, R"(send {"to": {"cluster": "...", "database": "..."}})");
    }
    PP_TRY(check_identifier("the cluster's name", *cluster));
    if (kind == MoveKind::demote && !target->contains("database")) {
        return fail(ErrorKind::invalid, "no shared database", {}, R"(send {"to": {"cluster": "...", "database": "..."}})");
    }
    PromoteBody out;
    out.move.kind = kind;
    out.move.tenant = std::string(tenant);
    out.move.cluster = *cluster;
    out.move.database = target->contains("database") ? *database : out.move.tenant;
    PP_TRY(check_identifier("the database's name", out.move.database));
    const auto jobs = copy_jobs_field(body);
    if (!jobs) return jobs.error();
    out.move.copy_jobs = *jobs;
    const auto cutover = bool_field(body, "cutover", true);
    if (!cutover) return cutover.error();
    out.move.cutover = *cutover;
    const auto dry_run = bool_field(body, "dry_run", false);
    if (!dry_run) return dry_run.error();
    out.dry_run = *dry_run;
    return out;
}

}  // namespace pgporter
