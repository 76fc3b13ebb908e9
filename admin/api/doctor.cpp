// POST /v1/clusters/{cluster}/databases/{database}:check: the doctor of a shared database.
#include "admin/doctor/doctor.hpp"

#include "admin/api/json_views.hpp"
#include "admin/api/problem.hpp"
#include "admin/api/resources.hpp"

namespace pgporter {
namespace {

namespace json = boost::json;

Error wrong(std::string message) {
    return fail(ErrorKind::invalid, std::move(message), {}, R"(send {"users": ["app"], "self_test": true, "user": "app", "password": "..."})");
}

Result<std::string> text_of(const json::value& value, std::string_view name) {
    const auto* text = value.if_string();
    if (text == nullptr || text->empty()) return wrong("'" + std::string(name) + "' must be a string that isn't empty");
    return std::string(text->data(), text->size());
}

Result<std::vector<std::string>> texts_of(const json::value& value, std::string_view name) {
    const auto* list = value.if_array();
    if (list == nullptr) return wrong("'" + std::string(name) + "' must be a list of strings");
    std::vector<std::string> texts;
    for (const auto& item : *list) {
        auto text = text_of(item, name);
        if (!text) return text.error();
        texts.push_back(*std::move(text));
    }
    return texts;
}

Result<DoctorRequest> parse_request(const ApiRequest& request) {
    const auto body = parse_body(request);
    if (!body) return body.error();
    DoctorRequest out;
    out.cluster = request.params.at("cluster");
    out.database = request.params.at("database");
    for (const auto& member : *body) {
        const std::string_view name(member.key().data(), member.key().size());
        if (name == "users") {
            auto users = texts_of(member.value(), name);
            if (!users) return users.error();
            out.users = *std::move(users);
        } else if (name == "self_test") {
            if (!member.value().is_bool()) return wrong("'self_test' must be true or false");
            out.self_test = member.value().get_bool();
        } else if (name == "user" || name == "password") {
            auto text = text_of(member.value(), name);
            if (!text) return text.error();
            if (name == "user") out.self_test_user = *std::move(text);
            else out.self_test_password = Secret(*std::move(text));
        } else {
            return wrong("unknown field '" + std::string(name) + "'");
        }
    }
    return out;
}

json::object view_of(const Finding& finding) {
    return {{"severity", finding.severity == Severity::blocker ? "blocker" : "warning"},
            {"code", finding.code},
            {"object", finding.object},
            {"reason", finding.reason},
            {"remedy", finding.remedy}};
}

json::object view_of(const LeakTrial& trial) {
    json::array failures;
    for (const auto& failure : trial.failures) failures.emplace_back(failure);
    return {{"way", trial.way},
            {"ran", trial.ran},
            {"ok", trial.failures.empty()},
            {"note", trial.note.empty() ? json::value(nullptr) : json::value(trial.note)},
            {"rounds", trial.rounds},
            {"tables_read", trial.tables_read},
            {"shared_backends", trial.shared_backends},
            {"failures", std::move(failures)}};
}

json::object view_of(const DoctorReport& report) {
    json::array findings;
    for (const auto& finding : report.findings) findings.push_back(view_of(finding));
    json::array trials;
    for (const auto& trial : report.trials) trials.push_back(view_of(trial));
    const auto isolation = to_text(report.isolation);
    return {{"cluster", report.cluster},
            {"database", report.database},
            {"isolation", json::string(isolation.data(), isolation.size())},
            {"ok", report.ok()},
            {"tenants", report.tenants},
            {"tables", report.tables},
            {"findings", std::move(findings)},
            {"self_test", std::move(trials)}};
}

}  // namespace

ApiResponse check_database(const ApiPorts& ports, const ApiRequest& request) {
    const auto wanted = parse_request(request);
    if (!wanted) return problem_response(wanted.error(), request.path);
    const auto snapshot = ports.publisher.current();
    if (!snapshot) return problem_response(fail(ErrorKind::unavailable, "the catalog hasn't been read yet"), request.path);
    const auto report = examine_database(ports.config, *snapshot, *wanted);
    if (!report) return problem_response(report.error(), request.path);
    return json_response(200, view_of(*report));
}

}  // namespace pgporter
