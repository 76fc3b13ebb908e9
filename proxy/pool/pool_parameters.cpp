// What a pool knows of the parameters that a fresh server connection reports: a client is told them at its login.
#include <algorithm>

#include "proxy/pool/pool.hpp"

namespace pgporter {

std::shared_ptr<const Settings> Pool::fresh_parameters() const {
    if (!doubtful_.empty()) return nullptr;
    return fresh_parameters_ ? fresh_parameters_ : peers_->fresh_parameters();
}

void Pool::doubt_fresh(std::string_view name, std::string_view value) {
    const std::string* known = fresh_parameters_ ? find_setting(*fresh_parameters_, name) : nullptr;
    if (known == nullptr || *known == value) return;
    if (std::find(doubtful_.begin(), doubtful_.end(), name) == doubtful_.end()) doubtful_.emplace_back(name);
    peers_->set_fresh_parameters(nullptr);
}

void Pool::settle_fresh(const std::shared_ptr<const Settings>& reported, const Context& established) {
    if (!fresh_parameters_ || (doubtful_.empty() && reported == settled_by_)) return;
    settled_by_ = reported;
    const bool was_doubtful = !doubtful_.empty();
    Settings fresh = *fresh_parameters_;
    for (const auto& [name, value] : *reported) {
        // What the context has made of these isn't the server's default.
        const bool follows_role = name == "is_superuser" || name == "session_authorization" || name == "search_path";
        if (follows_role || find_setting(established.settings, name) != nullptr) continue;
        put_setting(fresh, name, value);
        std::erase(doubtful_, name);
    }
    if (fresh != *fresh_parameters_) {
        fresh_parameters_ = std::make_shared<const Settings>(std::move(fresh));
    } else if (!was_doubtful) {
        return;
    }
    if (doubtful_.empty()) peers_->set_fresh_parameters(fresh_parameters_);
}

}  // namespace pgporter
