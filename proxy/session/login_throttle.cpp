#include "proxy/session/login_throttle.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace pgporter {
namespace {

// PostgreSQL cuts names at 63 bytes, so a longer one is no other user; and a stranger's text must not fill our memory.
constexpr std::size_t user_bytes_max = 63;

}  // namespace

LoginThrottle::Key LoginThrottle::key_of(const std::optional<IpAddress>& client) {
    if (!client) return {};
    const IpAddress network = client->is_v4() ? *client : masked(*client, v6_prefix_bits);
    return {reinterpret_cast<const char*>(network.bytes.data()), network.bytes.size()};
}

bool LoginThrottle::begin_login(const std::optional<IpAddress>& client) {
    if (limits_.logins_per_address_max == 0) return true;
    const std::lock_guard lock(mutex_);
    std::uint32_t& count = logins_[key_of(client)];
    if (count >= limits_.logins_per_address_max) return false;
    ++count;
    return true;
}

void LoginThrottle::end_login(const std::optional<IpAddress>& client) {
    if (limits_.logins_per_address_max == 0) return;
    const std::lock_guard lock(mutex_);
    const auto at = logins_.find(key_of(client));
    PP_ASSERT(at != logins_.end() && at->second > 0);
    if (--at->second == 0) logins_.erase(at);
}

bool LoginThrottle::may_try(const std::optional<IpAddress>& client, std::string_view user, Time now) {
    if (limits_.failures_max == 0) return true;
    const std::lock_guard lock(mutex_);
    const auto at = addresses_.find(key_of(client));
    if (at == addresses_.end()) return true;
    const std::string_view name = user.substr(0, user_bytes_max);
    const auto& users = at->second.users;
    const auto found = std::find_if(users.begin(), users.end(), [&](const UserFailures& entry) { return entry.user == name; });
    return found == users.end() || is_over(*found, now) || found->count < limits_.failures_max;
}

LoginThrottle::Address& LoginThrottle::remember(const Key& key) {
    const auto at = addresses_.find(key);
    if (at != addresses_.end()) {
        by_age_.splice(by_age_.end(), by_age_, at->second.age);
        return at->second;
    }
    if (addresses_.size() >= limits_.addresses_max) {
        addresses_.erase(by_age_.front());
        by_age_.pop_front();
    }
    Address& address = addresses_[key];
    address.age = by_age_.insert(by_age_.end(), key);
    return address;
}

LoginThrottle::UserFailures& LoginThrottle::place_for(Address& address, std::string_view user, Time now) {
    auto& users = address.users;
    std::erase_if(users, [&](const UserFailures& entry) { return is_over(entry, now); });
    const auto found = std::find_if(users.begin(), users.end(), [&](const UserFailures& entry) { return entry.user == user; });
    if (found != users.end()) return *found;
    if (users.size() >= users_per_address_max) {
        const auto least = std::min_element(users.begin(), users.end(), [](const UserFailures& a, const UserFailures& b) {
            return a.count != b.count ? a.count < b.count : a.since < b.since;
        });
        users.erase(least);
    }
    return users.emplace_back(UserFailures{std::string(user), 0, now});
}

void LoginThrottle::note_failure(const std::optional<IpAddress>& client, std::string_view user, Time now) {
    if (limits_.failures_max == 0) return;
    const std::lock_guard lock(mutex_);
    ++place_for(remember(key_of(client)), user.substr(0, user_bytes_max), now).count;
}

void LoginThrottle::note_success(const std::optional<IpAddress>& client, std::string_view user) {
    if (limits_.failures_max == 0) return;
    const std::lock_guard lock(mutex_);
    const auto at = addresses_.find(key_of(client));
    if (at == addresses_.end()) return;
    const std::string_view name = user.substr(0, user_bytes_max);
    std::erase_if(at->second.users, [&](const UserFailures& entry) { return entry.user == name; });
    if (!at->second.users.empty()) return;
    by_age_.erase(at->second.age);
    addresses_.erase(at);
}

std::size_t LoginThrottle::remembered_addresses() const {
    const std::lock_guard lock(mutex_);
    return addresses_.size();
}

}  // namespace pgporter
