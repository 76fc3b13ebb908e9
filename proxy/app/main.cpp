// The executable: `pgporter serve -c FILE` runs an instance; every other subcommand is the command line of admin/cli.
#include <cstdio>
#include <string_view>

#include "admin/cli/cli.hpp"
#include "proxy/app/serve.hpp"

namespace {

int run_serve(int argc, char** argv) {
    const char* config_file = nullptr;
    for (int i = 2; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if ((argument == "-c" || argument == "--config") && i + 1 < argc) {
            config_file = argv[++i];
        } else {
            config_file = nullptr;
            break;
        }
    }
    if (config_file == nullptr) {
        std::fprintf(stderr, "usage: pgporter serve -c FILE\n");
        return 2;
    }
    pgporter::block_signals();
    const auto served = pgporter::serve(config_file);
    if (served) return 0;
    const pgporter::Error& error = served.error();
    std::fprintf(stderr, "pgporter: %s\n", error.message.c_str());
    if (!error.detail.empty()) std::fprintf(stderr, "detail: %s\n", error.detail.c_str());
    if (!error.hint.empty()) std::fprintf(stderr, "hint: %s\n", error.hint.c_str());
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view command = argc > 1 ? argv[1] : "";
    if (command == "serve") return run_serve(argc, argv);
    if (command == "--version" || command == "version") {
        std::printf("pgporter %s\n", PGPORTER_VERSION);
        return 0;
    }
    return pgporter::run_cli(argc, argv);
}
