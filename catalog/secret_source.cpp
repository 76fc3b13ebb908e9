#include "catalog/secret_source.hpp"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr std::size_t secret_length_max = 4096;

Secret read_secret_file(YamlMapping& mapping, std::string_view key, const std::string& path) {
    std::ifstream file(path);
    struct stat status {};
    if (!file || ::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
        mapping.problem(key, "the file " + path + " can't be read");
        return {};
    }
    if ((status.st_mode & (S_IRGRP | S_IROTH)) != 0) {
        log::warning("secret_file_readable_by_others", {{"key", mapping.path_of(key)}, {"file", path}});
    }
    std::string line;
    std::getline(file, line);
    while (!line.empty() && line.back() == '\r') line.pop_back();
    Secret secret(std::move(line));
    if (secret.empty()) mapping.problem(key, "the first line of " + path + " is empty");
    if (secret.reveal().size() > secret_length_max) mapping.problem(key, "the first line of " + path + " is too long");
    return secret;
}

Secret read_secret_env(YamlMapping& mapping, std::string_view key, const std::string& variable) {
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr || *value == '\0') {
        mapping.problem(key, "the environment variable " + variable + " is not set");
        return {};
    }
    return Secret(value);
}

}  // namespace

Secret read_secret(YamlMapping& mapping, std::string_view prefix, const SecretRule& rule,
                   const std::string& directory) {
    const std::string inline_key(prefix);
    const std::string file_key = inline_key + "_file";
    const std::string env_key = inline_key + "_env";
    std::string file;
    std::string variable;
    std::string value;
    if (rule.inline_allowed) mapping.text(inline_key, value);
    mapping.text(file_key, file);
    mapping.text(env_key, variable);

    std::vector<std::string> given;
    if (rule.inline_allowed && mapping.has(inline_key)) given.push_back(inline_key);
    if (mapping.has(file_key)) given.push_back(file_key);
    if (mapping.has(env_key)) given.push_back(env_key);
    const std::string choices = (rule.inline_allowed ? inline_key + ", " : "") + file_key + " or " + env_key;
    if (given.size() > 1) {
        mapping.problem(given[1], "contradicts " + given[0] + ": give exactly one of " + choices);
        return {};
    }
    if (given.empty() && rule.required) mapping.problem(file_key, "is missing: give one of " + choices);
    if (!file.empty()) return read_secret_file(mapping, file_key, resolve_path(file, directory));
    if (!variable.empty()) return read_secret_env(mapping, env_key, variable);
    return Secret(std::move(value));
}

std::string resolve_path(const std::string& path, const std::string& directory) {
    if (path.empty() || path.front() == '/' || directory.empty()) return path;
    return (std::filesystem::path(directory) / path).lexically_normal().string();
}

}  // namespace pgporter
