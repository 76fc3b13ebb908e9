// The leak self-test: two tenants' sessions by turns, through pgporter's own listener. Each must see its own context and its own rows only, also
// on a server connection that served the other one just before. And one that is no tenant's, at the server
// itself: it must see no rows. Blocking; control-plane threads only. It writes nothing.
#pragma once

#include <string>
#include <vector>

#include "admin/doctor/checks.hpp"

namespace pgporter {

struct LeakTest {
    const Patient& patient;
    const DoctorRequest& request;
    std::vector<std::string> tables;  // with the tenant column, as "schema"."name"; views and the like too
    const Cluster& cluster;
};

// One trial for each way in which this instance lets tenants be named.
[[nodiscard]] std::vector<LeakTrial> run_leak_test(const LeakTest& test);

}  // namespace pgporter
