#include "admin/cli/cli.hpp"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <tuple>

#include "admin/cli/commands.hpp"
#include "admin/cli/completion.hpp"
#include "admin/cli/password_prompt.hpp"
#include "admin/cli/scram_verifier.hpp"
#include "admin/cli/text_output.hpp"

namespace pgporter {
namespace {

struct GlobalOptions {
    std::string url = "http://127.0.0.1:6480";
    std::string token_file;
    bool json = false;
};

// What a subcommand will do, once everything has been parsed.
using Action = std::function<int(const Commands&)>;

struct Parsed {
    GlobalOptions global;
    Commands::Promote promote;
    Commands::Doctor doctor;
    bool no_self_test = false;
    std::string file;
    std::string name;
    std::string shell;
    std::uint32_t iterations = scram_iterations_default;
    bool dry_run = false;
    bool no_cutover = false;
    bool watch = false;
    bool force = false;
    bool wait = false;
    Action action;
    std::function<int()> local;  // needs no server
};

Result<Secret> read_token(const std::string& file) {
    if (!file.empty()) {
        std::ifstream in(file);
        std::string line;
        if (!in || !std::getline(in, line)) return fail(ErrorKind::invalid, "can't read the token file", file);
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
        return Secret(std::move(line));
    }
    const char* token = std::getenv("PGPORTER_TOKEN");
    return Secret(token == nullptr ? "" : token);
}

int print_verifier(std::uint32_t iterations) {
    const auto run = [&]() -> Result<std::string> {
        const auto password = read_password();
        if (!password) return password.error();
        const auto salt = random_salt();
        if (!salt) return salt.error();
        return make_scram_verifier(*password, *salt, iterations);
    };
    const auto verifier = run();
    if (!verifier) {
        std::cerr << error_text(verifier.error());
        return exit_failed;
    }
    std::cout << *verifier << "\n";
    return exit_ok;
}

std::vector<CompletionEntry> completion_entries(const CLI::App& app) {
    std::vector<CompletionEntry> entries;
    for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
        CompletionEntry entry{command->get_name(), command->get_description(), {}};
        for (const auto* option : command->get_options([](const CLI::Option* o) { return o->nonpositional(); })) {
            for (const auto& name : option->get_snames()) entry.options.push_back("-" + name);
            for (const auto& name : option->get_lnames()) entry.options.push_back("--" + name);
        }
        entries.push_back(std::move(entry));
    }
    return entries;
}

CLI::App* add_named(CLI::App& app, Parsed& parsed, const char* command, const char* text, const char* what, Action action) {
    auto* sub = app.add_subcommand(command, text);
    sub->add_option(what, parsed.name, "which one")->required();
    sub->callback([&parsed, action = std::move(action)] { parsed.action = action; });
    return sub;
}

void add_catalog_commands(CLI::App& app, Parsed& parsed) {
    auto* apply = app.add_subcommand("apply", "make the catalog match a file: creates and changes, never drops");
    apply->add_option("-f,--file", parsed.file, "tenants.yaml, or - for standard input")->required();
    apply->add_flag("--dry-run", parsed.dry_run, "say what would change");
    apply->callback([&parsed] { parsed.action = [&parsed](const Commands& c) { return c.apply(parsed.file, parsed.dry_run); }; });
    app.add_subcommand("tenants", "list the tenants")->callback([&parsed] {
        parsed.action = [](const Commands& c) { return c.list_tenants(); };
    });
    add_named(app, parsed, "tenant", "show a tenant", "NAME", [&parsed](const Commands& c) { return c.show_tenant(parsed.name); });
    for (const char* verb : {"suspend", "resume"}) {
        add_named(app, parsed, verb, *verb == 's' ? "refuse a tenant's transactions" : "serve a suspended tenant again", "NAME",
                  [&parsed, verb](const Commands& c) { return c.change_tenant(parsed.name, verb); });
    }
    add_named(app, parsed, "forget", "forget a tenant; its data stays where it is", "NAME",
              [&parsed](const Commands& c) { return c.forget_tenant(parsed.name); });
    app.add_subcommand("clusters", "list the clusters")->callback([&parsed] {
        parsed.action = [](const Commands& c) { return c.list_clusters(); };
    });
}

void add_move_commands(CLI::App& app, Parsed& parsed) {
    const std::tuple<const char*, const char*, const char*> kinds[] = {
        {"promote", "move a tenant to its own database while it works", "CLUSTER or CLUSTER/DATABASE; the database is the tenant's name otherwise"},
        {"relocate", "move a tenant from its own database to another one", "CLUSTER or CLUSTER/DATABASE; the database is the tenant's name otherwise"},
        {"demote", "move a tenant from its own database to a shared one", "CLUSTER/DATABASE"}};
    for (const auto& [kind, text, target] : kinds) {
        auto* command = app.add_subcommand(kind, text);
        command->add_option("NAME", parsed.promote.tenant, "the tenant")->required();
        command->add_option("--to", parsed.promote.to, target)->required();
        command->add_flag("--dry-run", parsed.promote.dry_run, "only look: blockers, warnings, size and time");
        command->add_flag("--wait", parsed.promote.wait, "watch it until clients work in the new database");
        command->add_flag("--no-cutover", parsed.no_cutover, "copy and follow, then wait for `pgporter cutover`");
        command->callback([&parsed, name = std::string(kind)] {
            parsed.action = [&parsed, name](const Commands& c) {
                parsed.promote.kind = name;
                parsed.promote.cutover = !parsed.no_cutover;
                return c.promote(parsed.promote);
            };
        });
    }
    app.add_subcommand("moves", "list the moves")->callback([&parsed] {
        parsed.action = [](const Commands& c) { return c.list_moves(); };
    });
    auto* move = add_named(app, parsed, "move", "show a move", "ID",
                           [&parsed](const Commands& c) { return c.show_move(parsed.name, parsed.watch); });
    move->add_flag("--watch", parsed.watch, "follow it until it is finished");
    const std::tuple<const char*, const char*, const char*> acts[] = {
        {"cutover", "switch a move's tenant over now", "watch it until clients work in the new database"},
        {"cancel", "give a move up; the tenant stays where it is", "watch it until nothing of it is left"},
        {"rollback", "bring a moved tenant back, with all that was written since", "watch it until clients work in the old database"},
        {"complete", "end a move: drops the tenant's data in the source", "watch it until that is done"}};
    for (const auto& [verb, text, waits] : acts) {
        auto* command = add_named(app, parsed, verb, text, "ID", [&parsed, name = std::string(verb)](const Commands& c) {
            return c.act_on_move(parsed.name, {name, parsed.force, parsed.wait});
        });
        command->add_flag("--wait", parsed.wait, waits);
        if (std::string_view(verb) == "complete") {
            command->add_flag("--force", parsed.force, "also where the source has what the target hasn't");
        }
    }
}

void add_doctor(CLI::App& app, Parsed& parsed) {
    auto* doctor = app.add_subcommand("doctor", "look for what would let one tenant of a shared database see another's data");
    doctor->add_option("DATABASE", parsed.doctor.where, "CLUSTER/DATABASE")->required();
    doctor->add_option("--login", parsed.doctor.users, "a login of the application, may be given several times; default: the catalog's users");
    doctor->add_option("--user", parsed.doctor.user, "who logs in for the self-test, with PGPORTER_DOCTOR_PASSWORD or what server_logins has");
    doctor->add_flag("--no-self-test", parsed.no_self_test, "only look at the database");
    doctor->callback([&parsed] {
        parsed.doctor.self_test = !parsed.no_self_test;
        parsed.action = [&parsed](const Commands& c) { return c.doctor(parsed.doctor); };
    });
}

void add_other_commands(CLI::App& app, Parsed& parsed) {
    app.add_subcommand("status", "is the instance ready, and what does it do")->callback([&parsed] {
        parsed.action = [](const Commands& c) { return c.status(); };
    });
    auto* verifier = app.add_subcommand("verifier", "make a SCRAM verifier for tenants.yaml from a password on standard input");
    verifier->add_option("--iterations", parsed.iterations, "of PBKDF2")->check(CLI::Range(4096, 1'000'000));
    verifier->callback([&parsed] { parsed.local = [&parsed] { return print_verifier(parsed.iterations); }; });
    auto* completion = app.add_subcommand("completion", "print a completion script for a shell");
    completion->add_option("SHELL", parsed.shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
    completion->callback([&app, &parsed] {
        parsed.local = [&app, &parsed] {
            std::cout << completion_script(parsed.shell, completion_entries(app));
            return static_cast<int>(exit_ok);
        };
    });
    // The executable takes this one before it comes here; it is listed for the help and the completion.
    auto* serve = app.add_subcommand("serve", "run the proxy");
    serve->add_option("-c,--config", parsed.file, "pgporter.yaml")->required();
    serve->callback([&parsed] {
        parsed.local = [] {
            std::cerr << "pgporter: serve must be the first argument\n";
            return static_cast<int>(exit_usage);
        };
    });
}

int run(const Parsed& parsed) {
    if (parsed.local) return parsed.local();
    const auto url = parse_server_url(parsed.global.url);
    if (!url) {
        std::cerr << error_text(url.error());
        return exit_usage;
    }
    auto token = read_token(parsed.global.token_file);
    if (!token) {
        std::cerr << error_text(token.error());
        return exit_usage;
    }
    return parsed.action(Commands(HttpClient(*url, std::move(*token)), parsed.global.json));
}

}  // namespace

int run_cli(int argc, char** argv) {
    CLI::App app{"pgporter, a multi-tenant proxy for PostgreSQL", "pgporter"};
    Parsed parsed;
    app.require_subcommand(1);
    app.fallthrough();
    app.add_option("--url", parsed.global.url, "where the admin API listens")->envname("PGPORTER_URL")->capture_default_str();
    app.add_option("--token-file", parsed.global.token_file, "the admin token; or PGPORTER_TOKEN holds it")->envname("PGPORTER_TOKEN_FILE");
    app.add_flag("--json", parsed.global.json, "print the API's JSON");
    app.set_version_flag("--version", std::string("pgporter ") + PGPORTER_VERSION);
    add_catalog_commands(app, parsed);
    add_move_commands(app, parsed);
    add_doctor(app, parsed);
    add_other_commands(app, parsed);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        const int code = app.exit(e, std::cout, std::cerr);
        return code == 0 ? exit_ok : exit_usage;
    }
    try {
        return run(parsed);
    } catch (const std::exception& bug) {
        std::cerr << "pgporter: " << bug.what() << "\n";
        return exit_failed;
    }
}

}  // namespace pgporter
