#include "proxy/session/prologue_ahead.hpp"

#include <algorithm>
#include <string_view>

#include "proxy/session/prepared_statements.hpp"
#include "proxy/session/set_statement.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/writer.hpp"

namespace pgporter {
namespace {

// What DISCARD ALL does, but for prepared statements and plans: those are worth keeping. With BEGIN in front, COMMIT comes behind.
constexpr std::string_view wiping_parts[] = {"BEGIN",
                                             "RESET SESSION AUTHORIZATION",
                                             "RESET ROLE",
                                             "RESET ALL",
                                             "CLOSE ALL",
                                             "UNLISTEN *",
                                             "DISCARD TEMP",
                                             "DISCARD SEQUENCES",
                                             "SELECT pg_catalog.pg_advisory_unlock_all()"};

std::string name_of_part(std::size_t i) {
    return std::string(server_statement_prefix) + "wipe" + std::to_string(i);
}

void append_bind_and_execute(std::string& out, std::string_view statement) {
    const std::size_t bind = begin_message(out, 'B');
    put_cstring(out, {});
    put_cstring(out, statement);
    out.append(6, '\0');  // no formats, no parameters, no result formats
    end_message(out, bind);
    const std::size_t execute = begin_message(out, 'E');
    put_cstring(out, {});
    put_u32(out, 0);
    end_message(out, execute);
}

void append_parse(std::string& out, std::string_view name, std::string_view sql) {
    const std::size_t parse = begin_message(out, 'P');
    put_cstring(out, name);
    put_cstring(out, sql);
    put_u16(out, 0);
    end_message(out, parse);
}

void append_statement(std::string& out, std::string_view sql) {
    append_parse(out, {}, sql);
    append_bind_and_execute(out, {});
}

std::string discarding() {
    std::string out;
    append_statement(out, "DISCARD ALL");  // a transaction by itself: it is over before the next one begins
    append_statement(out, "BEGIN");
    return out;
}

std::string preparing_parts() {
    std::string out;
    for (std::size_t i = 0; i < std::size(wiping_parts); ++i) append_parse(out, name_of_part(i), wiping_parts[i]);
    return out;
}

std::string running_parts() {
    std::string out;
    for (std::size_t i = 0; i < std::size(wiping_parts); ++i) append_bind_and_execute(out, name_of_part(i));
    return out;
}

// Those that drivers set at login: for each of them SET with one literal does what set_config does.
bool takes_one_literal(std::string_view name) {
    constexpr std::string_view known[] = {"application_name", "client_encoding", "client_min_messages", "DateStyle",    "default_transaction_isolation",
                                          "default_transaction_read_only", "extra_float_digits", "IntervalStyle", "lock_timeout",
                                          "statement_timeout", "TimeZone"};
    return std::any_of(std::begin(known), std::end(known), [name](std::string_view one) { return same_name(one, name); });
}

void append_setting(std::string& out, std::string_view name, std::string_view value) {
    std::string sql = set_statement_sql(name, value);
    if (sql.empty() && takes_one_literal(name)) {
        sql.append("SET SESSION ").append(name).append(" TO ").append(ascii_sql_literal(value));
    } else if (sql.empty()) {
        sql.append("SELECT pg_catalog.set_config(").append(ascii_sql_literal(name)).append(", ").append(ascii_sql_literal(value)).append(", false)");
    }
    append_statement(out, sql);
}

std::string setting_messages(const Context& context) {
    std::string out;
    if (!context.role.empty()) append_statement(out, "SET SESSION ROLE " + sql_identifier(context.role));
    if (!context.search_path.empty() || context.has_empty_path) append_setting(out, "search_path", context.search_path);
    for (const auto& [name, value] : context.settings) append_setting(out, name, value);
    append_statement(out, "COMMIT");
    out += message::close('S', "");  // what the last session had as its unnamed statement is nobody's
    return out;
}

}  // namespace

void append_prologue_ahead(const SettingMessages& context, ServerConnection::Wipe wipe, std::string& out) {
    static const std::string discard = discarding();
    static const std::string prepare = preparing_parts();
    static const std::string run = running_parts();
    if (wipe == ServerConnection::Wipe::parts) out += prepare;
    out += wipe == ServerConnection::Wipe::discard_all ? discard : run;
    if (context.text.empty()) context.text = setting_messages(context);
    out += context.text;
}

}  // namespace pgporter
