#include "admin/cli/completion.hpp"

namespace pgporter {
namespace {

std::string joined(const std::vector<std::string>& words) {
    std::string out;
    for (const auto& word : words) out += (out.empty() ? "" : " ") + word;
    return out;
}

// Within single quotes of a shell.
std::string quoted(const std::string& text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

std::string bash_script(const std::vector<CompletionEntry>& entries) {
    std::string commands;
    std::string cases;
    for (const auto& entry : entries) {
        commands += (commands.empty() ? "" : " ") + entry.command;
        cases += "        " + entry.command + ") words='" + joined(entry.options) + "' ;;\n";
    }
    return "_pgporter() {\n    local word=${COMP_WORDS[COMP_CWORD]} words='" + commands +
           "' i\n    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n" + cases +
           "        esac\n    done\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "    [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- \"$word\"))\n}\ncomplete -F _pgporter pgporter\n";
}

std::string zsh_script(const std::vector<CompletionEntry>& entries) {
    std::string list;
    std::string cases;
    for (const auto& entry : entries) {
        list += "        " + quoted(entry.command + ":" + entry.description) + "\n";
        cases += "        " + entry.command + ") compadd -- " + joined(entry.options) + "; _files ;;\n";
    }
    return "#compdef pgporter\n_pgporter() {\n    local -a commands=(\n" + list +
           "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n    case $words[2] in\n" + cases +
           "    esac\n}\ncompdef _pgporter pgporter\n";
}

std::string fish_script(const std::vector<CompletionEntry>& entries) {
    std::string out;
    for (const auto& entry : entries) {
        out += "complete -c pgporter -n __fish_use_subcommand -f -a " + entry.command + " -d " + quoted(entry.description) + "\n";
        for (const auto& option : entry.options) {
            const bool is_long = option.starts_with("--");
            out += "complete -c pgporter -n '__fish_seen_subcommand_from " + entry.command + "' " +
                   (is_long ? "-l " + option.substr(2) : "-s " + option.substr(1)) + "\n";
        }
    }
    return out;
}

}  // namespace

std::string completion_script(std::string_view shell, const std::vector<CompletionEntry>& entries) {
    if (shell == "bash") return bash_script(entries);
    if (shell == "zsh") return zsh_script(entries);
    if (shell == "fish") return fish_script(entries);
    return {};
}

}  // namespace pgporter
