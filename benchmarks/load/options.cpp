#include "benchmarks/load/options.hpp"

#include <cstdlib>
#include <iostream>
#include <string_view>

namespace load {
namespace {

[[noreturn]] void refuse(const std::string& why) {
    std::cerr << "benchmark_load: " << why
              << "\nusage: benchmark_load --port N --user NAME --database NAME [--clients N] [--tls] [--sql TEXT] [--opening N] [--logins SECONDS]\n"
                 "The password is PGPASSWORD. Without --logins: reads lines \"run SECONDS INTERVAL_MS\" (0: no pause) from standard input until its end.\n";
    std::exit(2);
}

}  // namespace

Options options_of(int argc, char** argv) {
    Options options;
    for (int at = 1; at < argc; ++at) {
        const std::string_view name = argv[at];
        if (name == "--tls") {
            options.tls = true;
            continue;
        }
        if (at + 1 == argc) refuse("a value is missing behind " + std::string(name));
        const char* value = argv[++at];
        if (name == "--port") options.port = std::atoi(value);
        else if (name == "--user") options.user = value;
        else if (name == "--database") options.database = value;
        else if (name == "--sql") options.sql = value;
        else if (name == "--clients") options.clients = std::atoi(value);
        else if (name == "--opening") options.opening_max = std::atoi(value);
        else if (name == "--logins") options.login_seconds = std::atof(value);
        else refuse("what is " + std::string(name) + "?");
    }
    if (const char* password = std::getenv("PGPASSWORD")) options.password = password;
    if (options.port < 1 || options.user.empty() || options.database.empty() || options.clients < 1 || options.opening_max < 1)
        refuse("port, user and database are needed; numbers begin at 1");
    return options;
}

}  // namespace load
