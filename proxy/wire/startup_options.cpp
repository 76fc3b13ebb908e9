// The `options` startup parameter: a command line in one string. Its own file because it is its own little language.
#include <algorithm>
#include <optional>

#include "proxy/wire/startup.hpp"

namespace pgporter {
namespace {

using Setting = std::pair<std::string, std::string>;

// What isspace() says in the C locale; the locale of the process must not matter.
bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

std::vector<std::string> split_words(std::string_view options) {
    std::vector<std::string> words;
    std::size_t i = 0;
    for (;;) {
        while (i < options.size() && is_space(options[i])) ++i;
        if (i == options.size()) return words;
        std::string word;
        bool escaped = false;
        for (; i < options.size() && (escaped || !is_space(options[i])); ++i) {
            if (!escaped && options[i] == '\\') {
                escaped = true;
            } else {
                escaped = false;
                word.push_back(options[i]);
            }
        }
        words.push_back(std::move(word));
    }
}

Error syntax_error(std::string message) {
    return fail(ErrorKind::invalid, std::move(message), {}, {}, "42601");
}

// "name=value"; `spelling` is how the switch was written, for the error.
Result<Setting> parse_assignment(std::string_view text, const std::string& spelling) {
    const std::size_t equal = text.find('=');
    if (equal == std::string_view::npos) return syntax_error(spelling + std::string(text) + " requires a value");
    if (equal == 0) return syntax_error(spelling + std::string(text) + " requires a parameter name");
    std::string name(text.substr(0, equal));
    std::replace(name.begin(), name.end(), '-', '_');
    return Setting{std::move(name), std::string(text.substr(equal + 1))};
}

}  // namespace

Result<std::vector<Setting>> parse_options_parameter(std::string_view options) {
    const std::vector<std::string> words = split_words(options);
    std::vector<Setting> settings;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string_view word = words[i];
        std::optional<Result<Setting>> setting;
        if (word.starts_with("--") && word.size() > 2) {
            setting = parse_assignment(word.substr(2), "--");
        } else if (word.starts_with("-c") && word.size() > 2) {
            setting = parse_assignment(word.substr(2), "-c ");
        } else if (word == "-c") {
            if (++i == words.size())
                return syntax_error("-c at the end of the startup parameter \"options\" requires a value");
            setting = parse_assignment(words[i], "-c ");
        } else if (word.starts_with("-") && word.size() > 1 && word != "--") {
            return fail(ErrorKind::invalid,
                        "command-line switch \"" + std::string(word) +
                            "\" in the startup parameter \"options\" is not supported",
                        {}, "use -c name=value", "22023");
        } else {
            return syntax_error("invalid word \"" + std::string(word) + "\" in the startup parameter \"options\"");
        }
        if (!*setting) return setting->error();
        settings.push_back(std::move(**setting));
    }
    return settings;
}

}  // namespace pgporter
