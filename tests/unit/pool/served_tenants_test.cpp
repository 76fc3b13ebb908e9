#include "proxy/pool/served_tenants.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace pgporter;

namespace {

struct Connection {
    std::string session;
    ServedTenants served;
};

class Idle {
  public:
    Connection& add(std::string session, const std::vector<std::string>& tenants) {
        Connection connection{std::move(session), {}};
        for (const auto& tenant : tenants) connection.served.note(tenant_mark(tenant));
        connections_.push_back(std::move(connection));
        return connections_.back();
    }
    std::string choose(const std::string& session, const std::string& tenant) {
        const auto chosen = choose_server(connections_.begin(), connections_.end(), tenant_mark(tenant),
                                          [&](const Connection& one) { return one.session == session; },
                                          [](const Connection& one) -> const ServedTenants& { return one.served; });
        return chosen->session;
    }

  private:
    std::vector<Connection> connections_;
};

}  // namespace

TEST_CASE("tenants that a connection has served are known, each once") {
    ServedTenants served;
    CHECK(served.count() == 0);
    CHECK_FALSE(served.has(TenantMark{}));  // the mark of nobody in particular isn't there from the start
    for (int again = 0; again < 3; ++again) {
        for (const auto* tenant : {"acme", "globex", "acme"}) served.note(tenant_mark(tenant));
    }
    CHECK(served.count() == 2);
    CHECK(served.has(tenant_mark("acme")));
    CHECK(served.has(tenant_mark("globex")));
    CHECK_FALSE(served.has(tenant_mark("initech")));
}

TEST_CASE("the session's own comes first, then one that knows its tenant, then the one that knows the fewest; the last used among equals") {
    Idle idle;
    idle.add("oldest", {"acme"});
    idle.add("mine", {"globex", "initech"});
    idle.add("second", {"acme", "globex"});
    idle.add("newest", {"initech", "globex", "umbrella"});
    CHECK(idle.choose("mine", "acme") == "mine");         // nothing to reset there
    CHECK(idle.choose("mine", "nobody's") == "mine");
    CHECK(idle.choose("other", "acme") == "second");      // knows it, and was used later than the other that does
    CHECK(idle.choose("other", "globex") == "newest");
    CHECK(idle.choose("other", "nobody's") == "oldest");  // knows one tenant only
}

TEST_CASE("a tenant that is alone is served by the last used, as ever; many spread evenly") {
    Idle alone;
    for (int i = 0; i < 5; ++i) alone.add(std::to_string(i), {"acme"});
    CHECK(alone.choose("other", "acme") == "4");

    std::vector<ServedTenants> servers(10);
    const auto lend = [&](const std::string& tenant) {
        const auto chosen = choose_server(servers.begin(), servers.end(), tenant_mark(tenant), [](const ServedTenants&) { return false; },
                                          [](const ServedTenants& one) -> const ServedTenants& { return one; });
        chosen->note(tenant_mark(tenant));
        return chosen - servers.begin();
    };
    std::vector<std::ptrdiff_t> first;
    for (int i = 0; i < 1000; ++i) first.push_back(lend("t" + std::to_string(i)));
    for (const auto& server : servers) CHECK(server.count() == 100);
    for (int i = 0; i < 1000; ++i) CHECK(lend("t" + std::to_string(i)) == first[static_cast<std::size_t>(i)]);
}
