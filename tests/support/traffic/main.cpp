// traffic: drives many database clients over many tenants, keeps what they were told, and compares that with the databases afterwards.
//   traffic load     makes tenants and their rows
//   traffic run      drives clients; prints a report as JSON; standard input takes commands (run.hpp)
//   traffic check    compares a history with the databases
//   traffic compare  compares a moved tenant's rows with those it left behind
// Passwords come from PGPASSFILE or PGPASSWORD. Exit codes: 0 all held, 1 something didn't, 2 it couldn't be tried.
#include <CLI/CLI.hpp>
#include <iostream>

#include "tests/support/traffic/check.hpp"
#include "tests/support/traffic/load.hpp"
#include "tests/support/traffic/run.hpp"

namespace pgporter::traffic {
namespace {

int exit_code(const Result<bool>& result) {
    if (result) return *result ? 0 : 1;
    const Error& error = result.error();
    std::cerr << "traffic: " << error.message << (error.detail.empty() ? "" : ": " + error.detail) << '\n';
    return 2;
}

Result<bool> load(LoadOptions options, const std::string& tenants_file) {
    auto tenants = read_tenants(tenants_file);
    if (!tenants) return tenants.error();
    options.tenants = std::move(*tenants);
    PP_TRY(load_tenants(options));
    return true;
}

Result<bool> run(RunOptions options, const std::string& tenants_file) {
    auto tenants = read_tenants(tenants_file);
    if (!tenants) return tenants.error();
    options.tenants = std::move(*tenants);
    return run_traffic(options);
}

Result<bool> check(CheckOptions options, const std::vector<std::string>& elsewhere) {
    for (const std::string& entry : elsewhere) {
        const auto equals = entry.find('=');
        if (equals == std::string::npos) return fail(ErrorKind::invalid, "--dsn-of wants TENANT=DSN", entry);
        options.dsn_of[entry.substr(0, equals)] = entry.substr(equals + 1);
    }
    return check_history(options);
}

int main_of(int argc, char** argv) {
    CLI::App app("drives, remembers and checks the traffic of many tenants");
    app.require_subcommand(1);
    std::string tenants_file;

    LoadOptions load_options;
    CLI::App* load_command = app.add_subcommand("load", "make tenants and their rows");
    load_command->add_option("--dsn", load_options.dsn, "the database itself")->required();
    load_command->add_option("--tenants-file", tenants_file, "a tenant a line")->required();
    load_command->add_option("--rows", load_options.rows, "rows of each tenant, about");
    load_command->add_option("--large", load_options.large, "the tenant that has more");
    load_command->add_option("--large-rows", load_options.large_rows, "rows of that one, about");

    RunOptions run_options;
    CLI::App* run_command = app.add_subcommand("run", "drive clients");
    run_command->add_option("--dsn", run_options.dsn, "{tenant} stands for the tenant")->required();
    run_command->add_option("--tenants-file", tenants_file, "a line a tenant: its name and, if not one, its clients")->required();
    run_command->add_option("--clients", run_options.clients, "default: as the tenants' file says");
    run_command->add_option("--switching-clients", run_options.switching_clients, "clients that name a tenant in SQL, another each time");
    run_command->add_option("--switching-dsn", run_options.switching_dsn, "what those log in with");
    run_command->add_option("--seconds", run_options.seconds, "default: until a signal or `stop`");
    run_command->add_option("--rate", run_options.rate, "transactions a second and client; 0: no pause");
    run_command->add_option("--seed", run_options.seed, "of what the clients choose");
    run_command->add_option("--focus", run_options.focus, "a tenant to report apart from the others");
    run_command->add_option("--history", run_options.history_file, "what the clients were told goes here");
    run_command->add_option("--report", run_options.report_file, "the report goes here too");

    CheckOptions check_options;
    std::vector<std::string> elsewhere;
    CLI::App* check_command = app.add_subcommand("check", "compare a history with the databases");
    check_command->add_option("--dsn", check_options.dsn, "{tenant} stands for the tenant")->required();
    check_command->add_option("--dsn-of", elsewhere, "TENANT=DSN: this tenant lives elsewhere");
    check_command->add_option("--history", check_options.history_file, "from `traffic run`")->required();

    CompareOptions compare_options;
    CLI::App* compare_command = app.add_subcommand("compare", "compare a moved tenant's rows with those it left behind");
    compare_command->add_option("--source", compare_options.source_dsn, "where it lived")->required();
    compare_command->add_option("--target", compare_options.target_dsn, "where it lives")->required();
    compare_command->add_option("--tenant", compare_options.tenant, "its name, which is its schema's")->required();

    CLI11_PARSE(app, argc, argv);
    if (*load_command) return exit_code(load(std::move(load_options), tenants_file));
    if (*run_command) return exit_code(run(std::move(run_options), tenants_file));
    if (*check_command) return exit_code(check(std::move(check_options), elsewhere));
    return exit_code(compare_tenant(compare_options));
}

}  // namespace
}  // namespace pgporter::traffic

int main(int argc, char** argv) { return pgporter::traffic::main_of(argc, argv); }
