// Message bodies: what is understood builds the same message again.
#include "proxy/wire/messages.hpp"

#include <string>

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    using namespace pgporter;
    const auto is_same = [&](const std::string& message) { return std::string_view(message).substr(5) == input; };
    if (const auto row = parse_data_row(input)) {
        std::vector<std::optional<std::string>> values;
        for (const auto& value : *row) values.push_back(value ? std::optional<std::string>(*value) : std::nullopt);
        PP_ASSERT(is_same(message::data_row(values)));
    }
    if (const auto parameter = parse_parameter_status(input)) {
        PP_ASSERT(is_same(message::parameter_status(parameter->first, parameter->second)));
    }
    if (const auto data = parse_backend_key_data(input))
        PP_ASSERT(is_same(message::backend_key_data(data->pid, data->key)));
    if (const auto tag = parse_command_tag(input)) PP_ASSERT(is_same(message::command_complete(*tag)));
    if (const auto response = parse_sasl_initial_response(input); response && response->data) {
        PP_ASSERT(is_same(message::sasl_initial_response(response->mechanism, *response->data)));
    }
}
