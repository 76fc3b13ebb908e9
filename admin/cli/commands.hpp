// The subcommands: each asks the API and prints the answer; the result is the exit code. Built by cli.cpp from the arguments. One thread.
#pragma once

#include <boost/json.hpp>
#include <functional>
#include <string>
#include <vector>

#include "admin/cli/cli.hpp"
#include "admin/cli/http_client.hpp"

namespace pgporter {

class Commands {
  public:
    Commands(HttpClient client, bool json) : client_(std::move(client)), json_(json) {}

    struct Promote {
        std::string kind = "promote";  // or demote, relocate
        std::string tenant;
        std::string to;  // CLUSTER or CLUSTER/DATABASE
        bool dry_run = false;
        bool wait = false;
        bool cutover = true;
    };

    int apply(const std::string& file, bool dry_run) const;  // "-": standard input
    int list_tenants() const;
    int show_tenant(const std::string& name) const;
    int change_tenant(const std::string& name, const std::string& verb) const;  // suspend, resume
    int forget_tenant(const std::string& name) const;
    int list_clusters() const;
    struct Doctor {
        std::string where;               // CLUSTER/DATABASE
        std::vector<std::string> users;  // the application's logins; empty: the catalog's users
        bool self_test = true;
        std::string user;                // of the self-test
    };
    int doctor(const Doctor& options) const;  // exit_failed: a blocker, or the self-test failed
    int promote(const Promote& options) const;
    int list_moves() const;
    int show_move(const std::string& id, bool watch) const;
    struct Act {
        std::string verb;    // cutover, cancel, rollback, complete
        bool force = false;  // complete only
        bool wait = false;   // until it is done; exit_failed if it ended otherwise
    };
    int act_on_move(const std::string& id, const Act& act) const;
    int status() const;

  private:
    struct Answer {
        int exit = exit_ok;
        HttpReply reply;
        boost::json::value body;
    };
    // Asks; on a failure prints it and gives its exit code.
    Answer ask(const HttpCall& call) const;
    using Predicate = std::function<bool(const boost::json::value& move)>;
    // Shows the move until `until` says so of it, and what it is then; exit_failed where `is_well` doesn't say so of that.
    int wait_for(const std::string& id, const Predicate& until, const Predicate& is_well) const;

    HttpClient client_;
    bool json_;
};

// An exit code for an HTTP status that isn't a success.
[[nodiscard]] int exit_code_of(unsigned status);
// For one segment of a path.
[[nodiscard]] std::string percent_encode(const std::string& text);

}  // namespace pgporter
