// Runs the command line in this process and keeps what it prints. One at a time: it swaps the streams and the environment.
#pragma once

#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "admin/cli/cli.hpp"

namespace pgporter::test {

struct CliRun {
    int exit = -1;
    std::string out;
    std::string err;
};

inline CliRun run(std::vector<std::string> arguments, const std::string& input = {}) {
    arguments.insert(arguments.begin(), "pgporter");
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    std::ostringstream out;
    std::ostringstream err;
    std::istringstream in(input);
    auto* const cout_buffer = std::cout.rdbuf(out.rdbuf());
    auto* const cerr_buffer = std::cerr.rdbuf(err.rdbuf());
    auto* const cin_buffer = std::cin.rdbuf(in.rdbuf());
    std::cin.clear();
    CliRun result;
    result.exit = run_cli(static_cast<int>(argv.size()), argv.data());
    std::cout.rdbuf(cout_buffer);
    std::cerr.rdbuf(cerr_buffer);
    std::cin.rdbuf(cin_buffer);
    result.out = out.str();
    result.err = err.str();
    return result;
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace pgporter::test
