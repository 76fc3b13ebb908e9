#include "admin/cli/commands.hpp"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

#include "admin/cli/move_watch.hpp"
#include "admin/cli/text_output.hpp"

namespace pgporter {
namespace {

namespace json = boost::json;

// A preflight looks at every table, and tries what it will do.
constexpr std::chrono::seconds preflight_max{600};

std::optional<std::string> read_file(const std::string& path) {
    if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
    std::ifstream in(path, std::ios::binary);
    if (!in) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(in), {});
}

int print_error(const Error& error) {
    std::cerr << error_text(error);
    return error.kind == ErrorKind::unavailable ? exit_unreachable : error.kind == ErrorKind::invalid ? exit_usage : exit_failed;
}

HttpCall post(std::string target, std::string body = {}) {
    HttpCall call;
    call.method = "POST";
    call.target = std::move(target);
    if (!body.empty()) call.content_type = "application/json";
    call.body = std::move(body);
    return call;
}

HttpCall get(std::string target) {
    HttpCall call;
    call.target = std::move(target);
    return call;
}

std::string base_name(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

TableRow tenant_row(const json::value& tenant) {
    const auto* placement = member(tenant, "placement");
    return {member_text(tenant, "name"), member_text(tenant, "state"), placement == nullptr ? "" : member_text(*placement, "kind"),
            placement == nullptr ? "" : placement_text(*placement), member_text(tenant, "epoch")};
}

std::string state_of(const json::value& move) { return member_text(move, "state"); }

bool has_no_way_back(const json::value& move) {
    const auto* rollback = member(move, "rollback");
    return rollback != nullptr && !member_text(*rollback, "refused").empty();
}

bool is_true(const json::value& move, std::string_view name) {
    const auto* value = member(move, name);
    return value != nullptr && value->is_bool() && value->get_bool();
}

bool is_finished(const json::value& move) { return is_true(move, "finished"); }
bool has_request_failed(const json::value& move) { return is_true(move, "request_failed"); }

// Clients work in the target, and could be taken back if that is possible at all.
bool clients_have_moved(const json::value& move) {
    const auto state = state_of(move);
    return state == "reversing" || state == "completed" || (state == "opened" && has_no_way_back(move));
}

}  // namespace

int exit_code_of(unsigned status) { return status == 409 ? exit_conflict : exit_failed; }

std::string percent_encode(const std::string& text) {
    static constexpr const char* hex = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
        if (plain) {
            out.push_back(c);
        } else {
            out += {'%', hex[byte >> 4U], hex[byte & 15U]};
        }
    }
    return out;
}

Commands::Answer Commands::ask(const HttpCall& call) const {
    Answer answer;
    auto reply = client_.call(call);
    if (!reply) {
        answer.exit = print_error(reply.error());
        return answer;
    }
    answer.reply = std::move(*reply);
    if (answer.reply.status >= 300) {
        answer.exit = exit_code_of(answer.reply.status);
        if (json_) std::cout << answer.reply.body;
        std::cerr << problem_text(answer.reply);
        return answer;
    }
    boost::system::error_code ec;
    answer.body = json::parse(answer.reply.body, ec);
    if (ec) answer.exit = print_error(fail(ErrorKind::internal, "the server's answer isn't JSON; is this really pgporter's admin API?"));
    return answer;
}

int Commands::apply(const std::string& file, bool dry_run) const {
    auto text = read_file(file);
    if (!text) return print_error(fail(ErrorKind::invalid, "can't read " + file));
    HttpCall call = post("/v1/apply?name=" + percent_encode(file == "-" ? "stdin" : base_name(file)) + (dry_run ? "&dry_run=true" : ""));
    call.content_type = "application/yaml";
    call.body = std::move(*text);
    const auto answer = ask(call);
    if (answer.exit == exit_ok) std::cout << (json_ ? answer.reply.body : apply_text(answer.body));
    return answer.exit;
}

int Commands::list_tenants() const {
    std::vector<TableRow> rows{{"NAME", "STATE", "KIND", "LIVES IN", "EPOCH"}};
    json::array all;
    std::string after;
    do {
        const auto answer = ask(get("/v1/tenants?limit=1000&after=" + percent_encode(after)));
        if (answer.exit != exit_ok) return answer.exit;
        if (const auto* tenants = member(answer.body, "tenants"); tenants != nullptr && tenants->is_array()) {
            for (const auto& tenant : tenants->get_array()) {
                if (json_) all.push_back(tenant);
                rows.push_back(tenant_row(tenant));
            }
        }
        after = member_text(answer.body, "next_after");
    } while (!after.empty());
    std::cout << (json_ ? json::serialize(json::object{{"tenants", std::move(all)}}) + "\n" : table_text(rows));
    return exit_ok;
}

int Commands::show_tenant(const std::string& name) const {
    const auto answer = ask(get("/v1/tenants/" + percent_encode(name)));
    if (answer.exit != exit_ok) return answer.exit;
    if (json_) {
        std::cout << answer.reply.body;
        return exit_ok;
    }
    std::vector<TableRow> rows;
    for (const auto& entry : answer.body.as_object()) {
        const std::string key(entry.key());
        rows.push_back({key, key == "placement" ? placement_text(entry.value()) + " (" + member_text(entry.value(), "kind") + ")"
                                                : member_text(answer.body, key)});
    }
    std::cout << table_text(rows);
    return exit_ok;
}

int Commands::change_tenant(const std::string& name, const std::string& verb) const {
    const auto answer = ask(post("/v1/tenants/" + percent_encode(name) + ":" + verb));
    if (answer.exit != exit_ok) return answer.exit;
    std::cout << (json_ ? answer.reply.body : "tenant " + member_text(answer.body, "name") + " is " + member_text(answer.body, "state") + "\n");
    return exit_ok;
}

int Commands::forget_tenant(const std::string& name) const {
    HttpCall call = get("/v1/tenants/" + percent_encode(name));
    call.method = "DELETE";
    const auto answer = ask(call);
    if (answer.exit != exit_ok) return answer.exit;
    std::cout << (json_ ? answer.reply.body : "tenant " + member_text(answer.body, "name") + " is forgotten; its data stays where it is\n");
    return exit_ok;
}

int Commands::list_clusters() const {
    const auto answer = ask(get("/v1/clusters"));
    if (answer.exit != exit_ok) return answer.exit;
    std::vector<TableRow> rows{{"NAME", "HOST", "PORT", "TLS", "CONNECTIONS", "TENANTS"}};
    if (const auto* clusters = member(answer.body, "clusters"); clusters != nullptr && clusters->is_array()) {
        for (const auto& c : clusters->get_array()) {
            rows.push_back({member_text(c, "name"), member_text(c, "host"), member_text(c, "port"), member_text(c, "tls"),
                            member_text(c, "server_connections_max"), member_text(c, "tenants")});
        }
    }
    std::cout << (json_ ? answer.reply.body : table_text(rows));
    return exit_ok;
}

int Commands::doctor(const Doctor& options) const {
    const auto slash = options.where.find('/');
    if (slash == std::string::npos || slash == 0 || slash + 1 == options.where.size()) {
        return print_error(fail(ErrorKind::invalid, "name the database as CLUSTER/DATABASE", {}, "list them: pgporter clusters"));
    }
    json::object body{{"self_test", options.self_test}};
    json::array users;
    for (const auto& user : options.users) users.emplace_back(user);
    if (!users.empty()) body["users"] = std::move(users);
    if (!options.user.empty()) body["user"] = options.user;
    // Never an argument: those are everybody's to read.
    if (const char* password = std::getenv("PGPORTER_DOCTOR_PASSWORD"); password != nullptr && *password != '\0') body["password"] = password;
    auto call = post("/v1/clusters/" + percent_encode(options.where.substr(0, slash)) + "/databases/" +
                         percent_encode(options.where.substr(slash + 1)) + ":check",
                     json::serialize(body));
    call.answer_max = preflight_max;
    const auto answer = ask(call);
    if (answer.exit != exit_ok) return answer.exit;
    std::cout << (json_ ? answer.reply.body : doctor_text(answer.body));
    return is_true(answer.body, "ok") ? exit_ok : exit_failed;
}

int Commands::promote(const Promote& options) const {
    const auto slash = options.to.find('/');
    json::object to{{"cluster", options.to.substr(0, slash)}};
    if (slash != std::string::npos) to["database"] = options.to.substr(slash + 1);
    json::object body{{"to", std::move(to)}, {"dry_run", options.dry_run}, {"cutover", options.cutover}};
    auto call = post("/v1/tenants/" + percent_encode(options.tenant) + ":" + options.kind, json::serialize(body));
    call.answer_max = preflight_max;
    const auto answer = ask(call);
    if (answer.exit != exit_ok) return answer.exit;
    if (options.dry_run) {
        std::cout << (json_ ? answer.reply.body : preflight_text(answer.body));
        return is_true(answer.body, "ok") ? exit_ok : exit_failed;
    }
    if (options.wait) {
        const auto until = [&options](const json::value& m) { return clients_have_moved(m) || is_finished(m) || (!options.cutover && state_of(m) == "verify"); };
        return wait_for(member_text(answer.body, "id"), until, [](const json::value& m) { return state_of(m) == "verify" || clients_have_moved(m); });
    }
    std::cout << (json_ ? answer.reply.body : move_text(answer.body));
    return exit_ok;
}

int Commands::wait_for(const std::string& id, const Predicate& until, const Predicate& is_well) const {
    const auto style = json_ ? WatchStyle::silent : ::isatty(STDOUT_FILENO) != 0 ? WatchStyle::terminal : WatchStyle::lines;
    HttpReply refusal;
    auto watched = watch_move(client_, id, style, until, refusal);
    if (!watched) {
        if (refusal.status == 0) return print_error(watched.error());
        std::cerr << problem_text(refusal);
        return exit_code_of(refusal.status);
    }
    std::cout << (json_ ? json::serialize(*watched) + "\n" : move_text(*watched));
    return is_well(*watched) ? exit_ok : exit_failed;
}

int Commands::list_moves() const {
    const auto answer = ask(get("/v1/moves"));
    if (answer.exit != exit_ok) return answer.exit;
    std::vector<TableRow> rows{{"ID", "TENANT", "STATE", "TO", "BEGUN", "FINISHED"}};
    if (const auto* moves = member(answer.body, "moves"); moves != nullptr && moves->is_array()) {
        for (const auto& m : moves->get_array()) {
            const auto* target = member(m, "target");
            rows.push_back({member_text(m, "id"), member_text(m, "tenant"), state_of(m), target == nullptr ? "" : placement_text(*target),
                            member_text(m, "created_at"), member_text(m, "finished_at")});
        }
    }
    std::cout << (json_ ? answer.reply.body : table_text(rows));
    return exit_ok;
}

int Commands::show_move(const std::string& id, bool watch) const {
    if (!watch) {
        const auto answer = ask(get("/v1/moves/" + percent_encode(id)));
        if (answer.exit == exit_ok) std::cout << (json_ ? answer.reply.body : move_text(answer.body));
        return answer.exit;
    }
    const auto style = json_ ? WatchStyle::json_lines : ::isatty(STDOUT_FILENO) != 0 ? WatchStyle::terminal : WatchStyle::lines;
    HttpReply refusal;
    const auto move = watch_move(client_, percent_encode(id), style, is_finished, refusal);
    if (!move) {
        if (refusal.status == 0) return print_error(move.error());
        std::cerr << problem_text(refusal);
        return exit_code_of(refusal.status);
    }
    if (!json_) std::cout << move_text(*move);
    return state_of(*move) == "aborted" ? exit_failed : exit_ok;
}

int Commands::act_on_move(const std::string& id, const Act& act) const {
    const auto answer = ask(post("/v1/moves/" + percent_encode(id) + ":" + act.verb + (act.force ? "?force=true" : "")));
    if (answer.exit != exit_ok) return answer.exit;
    if (!act.wait) {
        std::cout << (json_ ? answer.reply.body : move_text(answer.body));
        return exit_ok;
    }
    const auto until = [&act](const json::value& m) { return is_finished(m) || has_request_failed(m) || (act.verb == "cutover" && clients_have_moved(m)); };
    const auto is_well = [&act](const json::value& m) {
        if (act.verb == "cutover") return clients_have_moved(m);
        return state_of(m) == (act.verb == "rollback" ? "rolled_back" : act.verb == "cancel" ? "aborted" : "completed");
    };
    return wait_for(percent_encode(id), until, is_well);
}

int Commands::status() const {
    const auto reply = client_.call(get("/readyz"));
    if (!reply) return print_error(reply.error());
    boost::system::error_code ec;
    const auto ready = json::parse(reply->body, ec);
    if (ec || !ready.is_object()) return print_error(fail(ErrorKind::internal, "the answer isn't JSON; is this really pgporter's admin API?"));
    const auto tenants = ask(get("/v1/tenants?limit=1"));
    if (tenants.exit != exit_ok) return tenants.exit;
    const auto moves = ask(get("/v1/moves?unfinished=true"));
    if (moves.exit != exit_ok) return moves.exit;
    const auto* list = member(moves.body, "moves");
    const auto unfinished = list != nullptr && list->is_array() ? list->get_array().size() : 0;
    if (json_) {
        std::cout << json::serialize(json::object{{"ready", ready}, {"tenants", member_number(tenants.body, "total")}, {"unfinished_moves", unfinished}})
                  << "\n";
    } else {
        const auto connected = member_text(ready, "catalog_connected") == "true";
        std::cout << "pgporter is " << member_text(ready, "status") << "\n"
                  << "catalog: " << (connected ? "connected" : "not connected, serving the last snapshot") << ", version "
                  << member_text(ready, "catalog_version") << "\n"
                  << "tenants: " << number_text(member_number(tenants.body, "total")) << "\n"
                  << "unfinished moves: " << unfinished << "\n";
    }
    return reply->status == 200 ? exit_ok : exit_failed;
}

}  // namespace pgporter
