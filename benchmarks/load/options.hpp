// What the load generator of the benchmarks is told on its command line. It is a tool of its own and no part of the product.
#pragma once

#include <string>

namespace load {

struct Options {
    int port = 0;
    std::string user;
    std::string password;  // PGPASSWORD
    std::string database;  // "%" in it stands for the client's number
    std::string sql = "SELECT 1";
    int clients = 1;
    int opening_max = 64;  // logins at once while all come up
    double login_seconds = 0;  // above 0: clients log in and leave again and again for so long, and that is all
    bool tls = false;
};

// Ends the process with a message when they make no sense.
Options options_of(int argc, char** argv);

}  // namespace load
