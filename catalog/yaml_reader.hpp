// Strict reading of YAML: known keys only, checked types and ranges, every problem with its line and key. Used by the
// two loaders (config_loader.cpp, document.cpp); includes yaml-cpp, so nobody else should. One thread.
//
//   YamlProblems problems("pgporter.yaml");
//   auto root = load_yaml(text, bounds, problems);
//   YamlMapping top(problems, *root, "");
//   top.number("threads", config.threads, 1, 256);      // absent: the default stays
//   top.finish();                                       // every key that nobody asked for is a problem
//   if (problems.any()) return problems.error();
#pragma once

#include <yaml-cpp/yaml.h>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace pgporter {

// Problems in the order of their lines; the first becomes the error's message, the others its detail.
class YamlProblems {
  public:
    explicit YamlProblems(std::string name) : name_(std::move(name)) {}
    void add(const YAML::Mark& mark, const std::string& key, const std::string& text);
    [[nodiscard]] bool any() const { return !problems_.empty(); }
    [[nodiscard]] Error error() const;

  private:
    struct Problem {
        int line;  // 1 is the first; 0: of the whole file
        std::string text;
    };
    std::string name_;
    std::vector<Problem> problems_;
};

struct YamlBounds {
    std::size_t bytes_max = 1U << 20;
    std::size_t nodes_max = 100'000;  // with every alias counted as what it stands for: a short file can't blow up
    int depth_max = 12;
};
// Nullopt: not YAML, more than one document, or out of bounds; a problem says which. An empty document gives a null
// node.
[[nodiscard]] std::optional<YAML::Node> load_yaml(const std::string& text, const YamlBounds& bounds,
                                                  YamlProblems& problems);

struct YamlItem {
    YAML::Node node;
    std::string path;  // "tenants[3]"
};

// One mapping. Each reader leaves its target alone when the key is absent or wrong, and notes what is wrong.
class YamlMapping {
  public:
    YamlMapping(YamlProblems& problems, const YAML::Node& node, std::string path);

    [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
    void require(std::initializer_list<std::string_view> keys);  // each must be there

    void text(std::string_view key, std::string& out);  // not empty
    void boolean(std::string_view key, bool& out);
    void real(std::string_view key, double& out, double min, double max);
    void milliseconds(std::string_view key, std::chrono::milliseconds& out, std::int64_t min, std::int64_t max);
    void texts(std::string_view key, std::vector<std::string>& out);  // a list of texts, none empty, none twice
    template <class Number>
    void number(std::string_view key, Number& out, std::uint64_t min,
                std::uint64_t max = std::numeric_limits<Number>::max()) {
        if (const auto value = whole_number(key, min, max)) out = static_cast<Number>(*value);
    }
    // One of to_text(values).
    template <class E>
    void choice(std::string_view key, E& out, std::initializer_list<std::pair<std::string_view, E>> values) {
        std::vector<std::string_view> names;
        for (const auto& [name, value] : values) names.push_back(name);
        if (const auto index = one_of(key, names)) out = (values.begin() + *index)->second;
    }
    [[nodiscard]] std::optional<YamlMapping> mapping(std::string_view key);
    [[nodiscard]] std::vector<YamlItem> list(std::string_view key);
    [[nodiscard]] YamlMapping inner(const YamlItem& item) const { return YamlMapping(*problems_, item.node, item.path); }
    // Any scalar, for a key whose form depends; null: absent.
    [[nodiscard]] std::optional<YAML::Node> node(std::string_view key);
    // A mapping of free names to texts, in the order of the names.
    void free_texts(std::string_view key, std::vector<std::pair<std::string, std::string>>& out);

    void problem(std::string_view key,
                 const std::string& text);  // at the key's line; without the key: at the mapping's
    [[nodiscard]] std::string path_of(std::string_view key) const;
    [[nodiscard]] int line() const { return mark_.is_null() ? 0 : mark_.line + 1; }  // of its beginning; 1 is the first
    void finish();

  private:
    struct Entry {
        std::string key;
        YAML::Mark mark;
        YAML::Node value;
        bool asked = false;
    };
    [[nodiscard]] const Entry* find(std::string_view key) const;
    [[nodiscard]] Entry* ask(std::string_view key);  // also remembers the key as a known one
    [[nodiscard]] std::optional<std::string> scalar(std::string_view key);
    [[nodiscard]] std::optional<std::uint64_t> whole_number(std::string_view key, std::uint64_t min, std::uint64_t max);
    [[nodiscard]] std::optional<std::ptrdiff_t> one_of(std::string_view key,
                                                       const std::vector<std::string_view>& names);

    YamlProblems* problems_;
    std::string path_;
    YAML::Mark mark_;
    std::vector<Entry> entries_;
    std::vector<std::string> known_;
};

// The candidate that `word` most likely stands for; empty: none is near.
[[nodiscard]] std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace pgporter
