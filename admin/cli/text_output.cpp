#include "admin/cli/text_output.hpp"

#include <algorithm>
#include <cstdio>

namespace pgporter {
namespace {

namespace json = boost::json;

const json::array* member_array(const json::value& object, std::string_view name) {
    const auto* value = member(object, name);
    return value == nullptr ? nullptr : value->if_array();
}

std::string fixed(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string duration_text(double seconds) {
    const auto whole = static_cast<std::uint64_t>(seconds < 0 ? 0 : seconds + 0.5);
    if (whole < 120) return std::to_string(whole) + " s";
    if (whole < 7'200) return std::to_string((whole + 30) / 60) + " min";
    return fixed(seconds / 3'600, 1) + " h";
}

std::string blockers_text(const json::value& report, std::string_view list, const std::string& label) {
    std::string out;
    const auto* items = member_array(report, list);
    if (items == nullptr) return out;
    for (const auto& item : *items) {
        out += label + " " + member_text(item, "code") + " " + member_text(item, "object") + ": " + member_text(item, "message") + "\n";
        if (const auto remedy = member_text(item, "remedy"); !remedy.empty()) out += "    remedy: " + remedy + "\n";
    }
    return out;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = c == '\n' || c == '\t' ? ' ' : '?';
    }
    return out;
}

const json::value* member(const json::value& object, std::string_view name) {
    const auto* members = object.if_object();
    return members == nullptr ? nullptr : members->if_contains(json::string_view(name.data(), name.size()));
}

std::string member_text(const json::value& object, std::string_view name) {
    const auto* value = member(object, name);
    if (value == nullptr || value->is_null()) return {};
    if (const auto* string = value->if_string()) return printable({string->data(), string->size()});
    return json::serialize(*value);
}

double member_real(const json::value& object, std::string_view name) {
    const auto* value = member(object, name);
    boost::system::error_code ec;
    const auto number = value == nullptr || !value->is_number() ? 0.0 : value->to_number<double>(ec);
    return ec ? 0.0 : number;
}

std::string time_left_text(const json::value& progress) {
    const auto* left = member(progress, "seconds_left");
    if (left == nullptr || !left->is_number()) return {};
    return "about " + duration_text(member_real(progress, "seconds_left"));
}

std::string throttled_text(const json::value& progress) {
    const auto by = member_text(progress, "throttled_by");
    return by.empty() ? std::string() : "by " + by + ": " + fixed(member_real(progress, "throttled") * 100, 0) + " %";
}

std::uint64_t member_number(const json::value& object, std::string_view name) {
    const auto* value = member(object, name);
    if (value == nullptr || !value->is_number()) return 0;
    boost::system::error_code ec;
    const auto number = value->to_number<std::uint64_t>(ec);
    return ec ? 0 : number;
}

std::string table_text(const std::vector<TableRow>& rows) {
    std::vector<std::size_t> widths;
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string out;
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += row[i];
            if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
        }
        out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return out;
}

std::string bytes_text(std::uint64_t bytes) {
    static constexpr const char* units[] = {"B", "kB", "MB", "GB", "TB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 999.95 && unit + 1 < std::size(units)) {
        value /= 1000;
        ++unit;
    }
    return fixed(value, unit == 0 ? 0 : 1) + " " + units[unit];
}

std::string number_text(std::uint64_t value) {
    auto out = std::to_string(value);
    for (auto at = static_cast<std::ptrdiff_t>(out.size()) - 3; at > 0; at -= 3) out.insert(static_cast<std::size_t>(at), 1, ',');
    return out;
}

std::string placement_text(const json::value& placement) {
    auto out = member_text(placement, "cluster") + "/" + member_text(placement, "database");
    if (const auto schema = member_text(placement, "schema"); !schema.empty()) out += " schema " + schema;
    return out;
}

std::string error_text(const Error& error) {
    auto out = "pgporter: " + printable(error.message);
    if (!error.detail.empty()) out += ": " + printable(error.detail);
    out += "\n";
    if (!error.hint.empty()) out += "hint: " + printable(error.hint) + "\n";
    return out;
}

std::string problem_text(const HttpReply& reply) {
    boost::system::error_code ec;
    const auto body = json::parse(reply.body, ec);
    if (ec || !body.is_object()) return "pgporter: the server answered " + std::to_string(reply.status) + " without a reason\n";
    auto out = "pgporter: " + member_text(body, "title") + " (" + std::to_string(reply.status) + ")\n";
    if (const auto detail = member_text(body, "detail"); !detail.empty()) out += "detail: " + detail + "\n";
    if (const auto hint = member_text(body, "hint"); !hint.empty()) out += "hint: " + hint + "\n";
    if (const auto* steps = member_array(body, "next_steps")) {
        for (const auto& step : *steps) out += "next: " + std::string(step.is_string() ? step.get_string().c_str() : "") + "\n";
    }
    return out;
}

std::string next_steps_text(const json::value& resource) {
    const auto* steps = member_array(resource, "next_steps");
    if (steps == nullptr || steps->empty()) return {};
    std::string out = "next steps:\n";
    for (const auto& step : *steps) out += "  " + member_text(step, "command") + "    # " + member_text(step, "why") + "\n";
    return out;
}

std::string move_text(const json::value& move) {
    std::string out = "move " + member_text(move, "id") + " of tenant " + member_text(move, "tenant") + ": " + member_text(move, "state") + "\n";
    if (const auto place = member_number(move, "place_in_line"); place > 0) out += "  in line   place " + std::to_string(place) + "\n";
    if (const auto* source = member(move, "source")) out += "  from      " + placement_text(*source) + "\n";
    if (const auto* target = member(move, "target")) out += "  to        " + placement_text(*target) + "\n";
    if (const auto* p = member(move, "progress")) {
        out += "  copied    " + number_text(member_number(*p, "rows_copied")) + " of about " +
               number_text(member_number(*p, "rows_total_estimate")) + " rows, " + bytes_text(member_number(*p, "bytes_copied")) + "\n";
        out += "  applied   " + number_text(member_number(*p, "changes_applied")) + " changes, " +
               bytes_text(member_number(*p, "lag_bytes")) + " behind\n";
        out += "  verified  " + number_text(member_number(*p, "rows_verified")) + " rows\n";
        if (const auto throttled = throttled_text(*p); !throttled.empty()) out += "  throttled " + throttled + "\n";
        if (const auto left = time_left_text(*p); !left.empty()) out += "  left      " + left + "\n";
        if (const auto pause = member_real(*p, "pause_ms"); pause > 0) out += "  pause     " + fixed(pause, 1) + " ms\n";
        if (const auto attempts = member_number(*p, "cutover_attempts"); attempts > 0) {
            out += "  cutover   " + std::to_string(attempts) + " attempts\n";
        }
        if (const auto note = member_text(*p, "note"); !note.empty()) out += "  note      " + note + "\n";
    }
    if (const auto error = member_text(move, "error"); !error.empty()) out += "  error     " + error + "\n";
    out += "  begun     " + member_text(move, "created_at") + "\n";
    if (const auto end = member_text(move, "finished_at"); !end.empty()) out += "  finished  " + end + "\n";
    return out + next_steps_text(move);
}

std::string preflight_text(const json::value& report) {
    std::string out = "dry run: tenant " + member_text(report, "tenant");
    const auto* source = member(report, "source");
    const auto* target = member(report, "target");
    if (source != nullptr && target != nullptr) out += " from " + placement_text(*source) + " to " + placement_text(*target);
    out += "\n  " + number_text(member_number(report, "tables")) + " tables, about " + number_text(member_number(report, "rows_estimate")) +
           " rows, " + bytes_text(member_number(report, "bytes")) + ", about " + fixed(member_real(report, "seconds_estimate"), 0) + " s\n";
    out += blockers_text(report, "blockers", "BLOCKED");
    out += blockers_text(report, "warnings", "warning");
    const auto* ok = member(report, "ok");
    out += ok != nullptr && ok->is_bool() && ok->get_bool() ? "nothing is in the way\n" : "the move can't start yet\n";
    return out + next_steps_text(report);
}

namespace {

std::string trial_text(const json::value& trial) {
    const bool ran = member_text(trial, "ran") == "true";
    const std::string way = member_text(trial, "way");
    std::string out = way == "none" ? "self-test, no tenant named, at the server: " : "self-test, tenants named by " + way + ": ";
    out += member_text(trial, "ok") != "true" ? "FAILED" : ran ? "passed" : "not run";
    if (ran) {
        out += ", " + member_text(trial, "rounds") + " rounds, " + member_text(trial, "tables_read") +
               " tables read";
        if (way != "none") out += ", server connections shared by both tenants: " + member_text(trial, "shared_backends");
    }
    if (const auto note = member_text(trial, "note"); !note.empty()) out += " (" + note + ")";
    out += "\n";
    if (const auto* failures = member_array(trial, "failures")) {
        for (const auto& failure : *failures) {
            if (const auto* text = failure.if_string()) out += "  " + printable({text->data(), text->size()}) + "\n";
        }
    }
    return out;
}

}  // namespace

std::string doctor_text(const json::value& report) {
    std::string out = member_text(report, "cluster") + "/" + member_text(report, "database") + ": isolation " + member_text(report, "isolation");
    out += ", " + number_text(member_number(report, "tenants")) + " tenants, " + number_text(member_number(report, "tables")) +
           " tables with the tenant column\n";
    if (const auto* findings = member_array(report, "findings")) {
        for (const auto& f : *findings) {
            out += member_text(f, "severity") + " " + member_text(f, "code") + ": " + member_text(f, "object");
            out += ": " + member_text(f, "reason") + "\n  remedy: " + member_text(f, "remedy") + "\n";
        }
        if (findings->empty()) out += "nothing found\n";
    }
    if (const auto* trials = member_array(report, "self_test")) {
        for (const auto& trial : *trials) out += trial_text(trial);
    }
    return out;
}

std::string apply_text(const json::value& report) {
    std::string out;
    if (const auto* changes = member_array(report, "changes")) {
        for (const auto& change : *changes) {
            out += member_text(change, "action") + " " + member_text(change, "kind") + " " + member_text(change, "name");
            if (const auto what = member_text(change, "what"); !what.empty()) out += ": " + what;
            out += "\n";
        }
    }
    const auto* dry_run = member(report, "dry_run");
    if (dry_run != nullptr && dry_run->is_bool() && dry_run->get_bool()) out += "dry run: nothing was changed; would be ";
    out += member_text(report, "created") + " created, " + member_text(report, "changed") + " changed, " + member_text(report, "unchanged") +
           " unchanged\n";
    const auto* routed = member(report, "routed");
    if (routed != nullptr && routed->is_bool() && !routed->get_bool()) {
        out += "warning: the change is in the catalog, but this instance doesn't route by it yet\n";
    }
    return out;
}

}  // namespace pgporter
