#include "catalog/yaml_reader.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <set>

namespace pgporter {
namespace {

constexpr std::size_t problems_shown_max = 20;

// Nodes below this one, aliases followed. Negative: a bound was hit.
std::int64_t count_nodes(const YAML::Node& node, const YamlBounds& bounds, std::int64_t counted, int depth) {
    if (depth > bounds.depth_max || counted < 0) return -1;
    ++counted;
    if (static_cast<std::size_t>(counted) > bounds.nodes_max) return -1;
    if (node.IsSequence() || node.IsMap()) {
        for (const auto& child : node) {
            if (node.IsMap()) {
                counted = count_nodes(child.first, bounds, counted, depth + 1);
                counted = count_nodes(child.second, bounds, counted, depth + 1);
            } else {
                counted = count_nodes(child, bounds, counted, depth + 1);
            }
            if (counted < 0) return -1;
        }
    }
    return counted;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, changed}));
        }
    }
    return row.back();
}

// A key is a plain word; anything else could be a secret in the wrong place or a screenful.
std::string shown(const std::string& word) {
    constexpr std::size_t length_max = 64;
    std::string text = word.substr(0, length_max);
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
    return text;
}

}  // namespace

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
    constexpr std::size_t word_length_max = 64;
    if (word.size() > word_length_max) return {};
    std::string best;
    std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const auto& candidate : candidates) {
        const std::size_t distance = edit_distance(word, candidate);
        if (distance < best_distance && distance < word.size()) {
            best = candidate;
            best_distance = distance;
        }
    }
    return best;
}

void YamlProblems::add(const YAML::Mark& mark, const std::string& key, const std::string& text) {
    problems_.push_back({mark.is_null() ? 0 : mark.line + 1, key.empty() ? text : key + ": " + text});
}

Error YamlProblems::error() const {
    std::vector<Problem> sorted = problems_;
    std::stable_sort(sorted.begin(), sorted.end(), [](const Problem& a, const Problem& b) { return a.line < b.line; });
    std::string message;
    std::string detail;
    for (std::size_t i = 0; i < sorted.size() && i < problems_shown_max; ++i) {
        std::string text = name_;
        if (sorted[i].line > 0) text += ":" + std::to_string(sorted[i].line);
        text += ": " + sorted[i].text;
        if (i == 0) {
            message = text;
        } else {
            detail += (detail.empty() ? "" : "\n") + text;
        }
    }
    if (sorted.size() > problems_shown_max)
        detail += "\n" + std::to_string(sorted.size() - problems_shown_max) + " more";
    return fail(ErrorKind::invalid, message, detail);
}

std::optional<YAML::Node> load_yaml(const std::string& text, const YamlBounds& bounds, YamlProblems& problems) {
    if (text.size() > bounds.bytes_max) {
        problems.add(YAML::Mark::null_mark(), "", "is larger than " + std::to_string(bounds.bytes_max) + " bytes");
        return std::nullopt;
    }
    try {
        const auto documents = YAML::LoadAll(text);
        if (documents.size() > 1) {
            problems.add(documents[1].Mark(), "", "a second document begins here; only one is read");
            return std::nullopt;
        }
        YAML::Node root = documents.empty() ? YAML::Node() : documents.front();
        if (count_nodes(root, bounds, 0, 0) < 0) {
            problems.add(YAML::Mark::null_mark(), "",
                         "has more than " + std::to_string(bounds.nodes_max) + " values or is nested deeper than " +
                             std::to_string(bounds.depth_max) + " levels");
            return std::nullopt;
        }
        return root;
    } catch (const YAML::Exception& e) {
        problems.add(e.mark, "", e.msg);
        return std::nullopt;
    }
}

YamlMapping::YamlMapping(YamlProblems& problems, const YAML::Node& node, std::string path)
    : problems_(&problems), path_(std::move(path)), mark_(node.Mark()) {
    if (!node.IsMap()) {
        if (!node.IsNull() || !path_.empty()) problems_->add(mark_, path_, "must be a mapping (key: value)");
        return;
    }
    for (const auto& item : node) {
        if (!item.first.IsScalar()) {
            problems_->add(item.first.Mark(), path_, "a key must be a plain word");
            continue;
        }
        std::string key = item.first.Scalar();
        if (find(key) != nullptr) {
            problems_->add(item.first.Mark(), path_of(key), "is given twice");
            continue;
        }
        entries_.push_back({std::move(key), item.first.Mark(), item.second});
    }
}

const YamlMapping::Entry* YamlMapping::find(std::string_view key) const {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
    return found == entries_.end() ? nullptr : &*found;
}

YamlMapping::Entry* YamlMapping::ask(std::string_view key) {
    known_.emplace_back(key);
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
    if (found == entries_.end()) return nullptr;
    found->asked = true;
    return &*found;
}

std::string YamlMapping::path_of(std::string_view key) const {
    return path_.empty() ? shown(std::string(key)) : path_ + "." + shown(std::string(key));
}

void YamlMapping::problem(std::string_view key, const std::string& text) {
    const Entry* entry = find(key);
    problems_->add(entry != nullptr ? entry->mark : mark_, path_of(key), text);
}

void YamlMapping::require(std::initializer_list<std::string_view> keys) {
    for (const auto key : keys) {
        if (!has(key)) problem(key, "is missing");
    }
}

std::optional<std::string> YamlMapping::scalar(std::string_view key) {
    const Entry* entry = ask(key);
    if (entry == nullptr) return std::nullopt;
    if (entry->value.IsNull()) {
        problem(key, "has no value");
        return std::nullopt;
    }
    if (!entry->value.IsScalar()) {
        problem(key, "must be a single value");
        return std::nullopt;
    }
    return entry->value.Scalar();
}

void YamlMapping::text(std::string_view key, std::string& out) {
    auto value = scalar(key);
    if (!value) return;
    if (value->empty()) return problem(key, "must not be empty");
    if (value->find('\0') != std::string::npos) return problem(key, "must not contain a zero byte");
    out = *std::move(value);
}

void YamlMapping::boolean(std::string_view key, bool& out) {
    const auto value = scalar(key);
    if (!value) return;
    if (*value != "true" && *value != "false") return problem(key, "must be true or false");
    out = *value == "true";
}

std::optional<std::uint64_t> YamlMapping::whole_number(std::string_view key, std::uint64_t min, std::uint64_t max) {
    const auto value = scalar(key);
    if (!value) return std::nullopt;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number);
    const bool whole = error == std::errc{} && end == value->data() + value->size();
    const bool digits_only = !value->empty() && value->find_first_not_of("0123456789") == std::string::npos;
    if (!whole && !digits_only) {
        problem(key, "must be a whole number");
        return std::nullopt;
    }
    if (!whole || number < min || number > max) {
        problem(key, "must be between " + std::to_string(min) + " and " + std::to_string(max));
        return std::nullopt;
    }
    return number;
}

void YamlMapping::real(std::string_view key, double& out, double min, double max) {
    const auto value = scalar(key);
    if (!value) return;
    double number = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number, std::chars_format::fixed);
    if (error != std::errc{} || end != value->data() + value->size()) return problem(key, "must be a number");
    if (!(number >= min && number <= max)) {
        return problem(key, "must be between " + std::to_string(static_cast<std::int64_t>(min)) + " and " +
                                std::to_string(static_cast<std::int64_t>(max)));
    }
    out = number;
}

void YamlMapping::milliseconds(std::string_view key, std::chrono::milliseconds& out, std::int64_t min,
                               std::int64_t max) {
    const auto value = whole_number(key, static_cast<std::uint64_t>(min), static_cast<std::uint64_t>(max));
    if (value) out = std::chrono::milliseconds(*value);
}

std::optional<std::ptrdiff_t> YamlMapping::one_of(std::string_view key, const std::vector<std::string_view>& names) {
    const auto value = scalar(key);
    if (!value) return std::nullopt;
    const auto found = std::find(names.begin(), names.end(), *value);
    if (found != names.end()) return found - names.begin();
    std::string all;
    for (const auto name : names) all += (all.empty() ? "" : ", ") + std::string(name);
    problem(key, "must be one of: " + all);
    return std::nullopt;
}

void YamlMapping::texts(std::string_view key, std::vector<std::string>& out) {
    const Entry* entry = ask(key);
    if (entry == nullptr) return;
    if (!entry->value.IsSequence()) return problem(key, "must be a list");
    std::vector<std::string> values;
    std::set<std::string> seen;
    for (const auto& item : entry->value) {
        if (!item.IsScalar() || item.Scalar().empty() || item.Scalar().find('\0') != std::string::npos) {
            problems_->add(item.Mark(), path_of(key), "must be a list of texts that aren't empty");
            return;
        }
        if (!seen.insert(item.Scalar()).second) {
            problems_->add(item.Mark(), path_of(key), "has " + shown(item.Scalar()) + " twice");
            return;
        }
        values.push_back(item.Scalar());
    }
    out = std::move(values);
}

std::optional<YamlMapping> YamlMapping::mapping(std::string_view key) {
    const Entry* entry = ask(key);
    if (entry == nullptr) return std::nullopt;
    return YamlMapping(*problems_, entry->value, path_of(key));
}

std::vector<YamlItem> YamlMapping::list(std::string_view key) {
    std::vector<YamlItem> items;
    const Entry* entry = ask(key);
    if (entry == nullptr) return items;
    if (!entry->value.IsSequence()) {
        problem(key, "must be a list");
        return items;
    }
    for (const auto& item : entry->value) {
        items.push_back({item, path_of(key) + "[" + std::to_string(items.size()) + "]"});
    }
    return items;
}

std::optional<YAML::Node> YamlMapping::node(std::string_view key) {
    const Entry* entry = ask(key);
    return entry == nullptr ? std::nullopt : std::optional(entry->value);
}

void YamlMapping::free_texts(std::string_view key, std::vector<std::pair<std::string, std::string>>& out) {
    const Entry* entry = ask(key);
    if (entry == nullptr) return;
    if (!entry->value.IsMap()) return problem(key, "must be a mapping (key: value)");
    const YamlMapping inner(*problems_, entry->value, path_of(key));  // finds keys that are given twice
    out.clear();
    for (const auto& item : inner.entries_) {
        if (!item.value.IsScalar() || item.value.Scalar().find('\0') != std::string::npos) {
            problems_->add(item.mark, inner.path_of(item.key), "must be a single value");
            continue;
        }
        out.emplace_back(item.key, item.value.Scalar());
    }
    std::sort(out.begin(), out.end());
}

void YamlMapping::finish() {
    for (const auto& entry : entries_) {
        if (entry.asked) continue;
        const std::string nearest = nearest_word(entry.key, known_);
        problems_->add(entry.mark, path_of(entry.key),
                       nearest.empty() ? "unknown key" : "unknown key; did you mean " + nearest + "?");
    }
}

}  // namespace pgporter
