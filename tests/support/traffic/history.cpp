#include "tests/support/traffic/history.hpp"

#include <array>
#include <fstream>
#include <map>
#include <sstream>

namespace pgporter::traffic {

namespace {

constexpr std::array kOutcomes = {"acknowledged", "failed", "unknown", "rolled_back"};
constexpr std::array<const char*, kKinds> kKindNames = {"read_simple",  "read_extended", "read_prepared", "read_view",
                                                        "read_own",     "write_single",  "write_order",   "write_batch",
                                                        "write_lead",   "write_delete",  "roll_back"};

// The position of `text` in `names`, or -1.
template <class Names>
int index_of(const Names& names, const std::string& text) {
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (text == names[i]) return static_cast<int>(i);
    }
    return -1;
}

}  // namespace

const char* to_text(Outcome outcome) { return kOutcomes[static_cast<std::size_t>(outcome)]; }
const char* to_text(Kind kind) { return kKindNames[static_cast<std::size_t>(kind)]; }

Result<void> write_history(const std::string& path, const History& history) {
    std::ofstream file(path, std::ios::trunc);
    for (const Record& record : history.records) {
        file << history.tenants.at(record.tenant) << '\t' << record.client << '\t' << record.seq << '\t' << to_text(record.kind)
             << '\t' << record.start_us << '\t' << record.latency_us << '\t' << to_text(record.outcome) << '\n';
    }
    file.flush();
    if (!file) return fail(ErrorKind::unavailable, "can't write the history", path);
    return {};
}

Result<History> read_history(const std::string& path) {
    std::ifstream file(path);
    if (!file) return fail(ErrorKind::not_found, "can't read the history", path);
    History history;
    std::map<std::string, std::uint32_t> tenants;
    std::string line;
    for (std::size_t number = 1; std::getline(file, line); ++number) {
        std::istringstream fields(line);
        std::string tenant;
        std::string kind;
        std::string outcome;
        Record record;
        fields >> tenant >> record.client >> record.seq >> kind >> record.start_us >> record.latency_us >> outcome;
        const int kind_index = index_of(kKindNames, kind);
        const int outcome_index = index_of(kOutcomes, outcome);
        if (!fields || kind_index < 0 || outcome_index < 0) {
            return fail(ErrorKind::invalid, "bad line in the history", path + ":" + std::to_string(number));
        }
        const auto [entry, is_new] = tenants.try_emplace(tenant, static_cast<std::uint32_t>(history.tenants.size()));
        if (is_new) history.tenants.push_back(tenant);
        record.tenant = entry->second;
        record.kind = static_cast<Kind>(kind_index);
        record.outcome = static_cast<Outcome>(outcome_index);
        history.records.push_back(record);
    }
    return history;
}

}  // namespace pgporter::traffic
