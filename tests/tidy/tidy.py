#!/usr/bin/env python3
"""The house rules that a compiler doesn't know, as a test. Prints each violation as file:line: rule; exit code 1 if there is any.

    tidy.py ROOT [--build BUILD]     BUILD is a configured build tree: finds sources that no target compiles
    tidy.py --self-test              shows that every rule can fail, on a small tree of violations
"""

import argparse
import json
import os
import pathlib
import re
import sys
import tempfile

SOURCES = {".cpp", ".hpp"}
LINES_MAX = 600
FOLDERS = ("base", "catalog", "router", "proxy", "admin", "tests", "benchmarks")

# Which folders a folder may include from, besides itself. What isn't listed is forbidden; proxy and admin never meet.
# The direction: base <- wire, net, catalog; catalog <- router; {wire, net, catalog} <- pool; {pool, router} <- session <- app;
# catalog <- mover <- api <- app.
MAY_INCLUDE = {
    "base": [],
    "catalog": ["base"],
    "router": ["base", "catalog"],
    "proxy/wire": ["base"],
    "proxy/net": ["base"],
    "proxy/pool": ["base", "catalog", "proxy/wire", "proxy/net"],
    "proxy/session": ["base", "catalog", "router", "proxy/wire", "proxy/net", "proxy/pool"],
    "proxy/app": ["base", "catalog", "router", "proxy/wire", "proxy/net", "proxy/pool", "proxy/session", "admin/mover", "admin/api",
                  "admin/metrics", "admin/cli", "admin/console"],
    "admin/metrics": ["base"],
    "admin/mover": ["base", "catalog"],
    "admin/doctor": ["base", "catalog"],
    "admin/api": ["base", "catalog", "admin/mover", "admin/doctor", "admin/metrics", "admin/console"],
    "admin/cli": ["base"],
    "admin/console": ["base"],
}

# Library headers that a folder must not see: the data path's core does no I/O, and the library stays where it is wrapped.
BANNED_INCLUDES = {
    "base": r"boost/(asio|beast)|libpq|openssl/ssl|yaml-cpp|prometheus",
    "catalog": r"boost/(asio|beast)|prometheus|spdlog",
    "router": r"boost/(asio|beast)|libpq|openssl|yaml-cpp|prometheus|spdlog",
    "proxy/wire": r"boost/(asio|beast)|base/(log|metrics|clock)\.hpp|libpq|yaml-cpp|prometheus|spdlog|chrono",
    "proxy/net": r"libpq|yaml-cpp|prometheus|spdlog",
    "proxy/pool": r"libpq|yaml-cpp|prometheus|spdlog",
    "proxy/session": r"libpq|yaml-cpp|prometheus|spdlog",
    "admin/mover": r"boost/(asio|beast)|prometheus|spdlog",
    "admin/doctor": r"boost/(asio|beast)|prometheus|spdlog",
    "admin/api": r"libpq|prometheus/|spdlog",
    "admin/cli": r"libpq|prometheus|spdlog",
}
# Asio and Beast are compiled in these files once.
SEPARATE_COMPILATION = "base/boost/"

BANNED_WORDS = [
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "unfinished work has no place in the tree"),
    (re.compile(r"(?<![\w.])/(work|root|home/\w+)/"), "a path of somebody's machine"),
]
BANNED_CODE = [
    (re.compile(r"\busing\s+namespace\s+std\b(?!::)"), "using namespace std"),
    (re.compile(r"(?<![\w_.:>])assert\s*\("), "assert() vanishes in release builds: use PP_ASSERT"),
    (re.compile(r"#\s*include\s*<cassert>"), "<cassert>: use base/assert.hpp"),
]
BANNED_NAMES = re.compile(r"(^|_)(helpers?|utils?|managers?|common|misc)(_|\.|$)")
SNAKE_CASE = re.compile(r"^[a-z0-9]+(_[a-z0-9]+)*$")
MARKDOWN_LINK = re.compile(r"\[[^\]\n]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")


class Tidy:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.violations = []

    def say(self, path, line, rule):
        self.violations.append(f"{path.relative_to(self.root)}:{line}: {rule}")

    def files(self):
        """Every file of the tree that people write; what git ignores lives in these folders."""
        skip = {"build", ".git", "node_modules", "__pycache__"}
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if name not in skip)
            for name in sorted(names):
                yield pathlib.Path(folder) / name

    def check(self, build=None):
        sources = []
        for path in self.files():
            relative = path.relative_to(self.root).as_posix()
            if BANNED_NAMES.search(path.name):
                self.say(path, 1, "a file's name says what is in it: no helper, utils, manager, common")
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # a fuzzer's seed
            if relative.startswith("tests/tidy/"):
                continue  # the rules themselves
            self.check_words(path, text)
            if path.suffix == ".md":
                self.check_links(path, text)
            if path.suffix in SOURCES and relative.split("/")[0] in FOLDERS:
                sources.append(path)
                self.check_source(path, relative, text)
        if build is not None:
            self.check_dead_files(sources, pathlib.Path(build))
        return self.violations

    def check_words(self, path, text):
        for number, line in enumerate(text.splitlines(), 1):
            for pattern, rule in BANNED_WORDS:
                if pattern.search(line):
                    self.say(path, number, rule)

    def check_links(self, path, text):
        # What is in fences and backticks is shown, not linked; line numbers stay as they are.
        text = re.sub(r"```.*?```", lambda block: "\n" * block.group().count("\n"), text, flags=re.S)
        for number, line in enumerate(text.splitlines(), 1):
            for target in MARKDOWN_LINK.findall(re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
                    continue
                name = target.split("#", 1)[0]
                base = self.root if name.startswith("/") else path.parent
                if not (base / name.lstrip("/")).exists():
                    self.say(path, number, f"link to {target}, which isn't there")

    def check_source(self, path, relative, text):
        lines = text.splitlines()
        if len(lines) > LINES_MAX:
            self.say(path, LINES_MAX + 1, f"{len(lines)} lines; {LINES_MAX} is the most that a file may have")
        if not SNAKE_CASE.match(path.stem):
            self.say(path, 1, "file names are snake_case")
        if path.suffix == ".hpp":
            self.check_header(path, lines)
        self.check_includes(path, relative, lines)
        code = without_comments_and_strings(text)
        for pattern, rule in BANNED_CODE:
            for match in pattern.finditer(code):
                self.say(path, code.count("\n", 0, match.start()) + 1, rule)
        for match in re.finditer(r"\bco_await\b", code):
            rule = co_await_rule(code, match.start(), match.end())
            if rule:
                self.say(path, code.count("\n", 0, match.start()) + 1, rule)

    def check_header(self, path, lines):
        if not lines or not lines[0].startswith(("//", "/*")):
            self.say(path, 1, "a header starts with what it is")
        first_code = next((line for line in lines if line.strip() and not line.lstrip().startswith(("//", "/*", "*"))), "")
        if first_code.strip() != "#pragma once":
            self.say(path, 1, "#pragma once comes first")

    def check_includes(self, path, relative, lines):
        folder = folder_of(relative)
        if relative.startswith(SEPARATE_COMPILATION):
            return
        for number, line in enumerate(lines, 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if not match:
                continue
            name = match.group(2)
            if match.group(1) == '"' and not (self.root / name).exists() and (path.parent / name).exists():
                self.say(path, number, f"include {name} by its path from the root")
            if folder is None:
                continue
            banned = BANNED_INCLUDES.get(folder)
            if banned and re.match(banned, name):
                self.say(path, number, f"{folder} must not include {name}")
            if match.group(1) != '"':
                continue
            target = folder_of(name)
            if target is None:
                if name.startswith(("tests/", "benchmarks/")):
                    self.say(path, number, f"{folder} must not include {name}")
            elif target != folder and target not in MAY_INCLUDE[folder]:
                self.say(path, number, f"{folder} must not include {name}: see the directions in this test")

    def check_dead_files(self, sources, build):
        """A .cpp that no target compiles, and a header that nobody includes."""
        commands = build / "compile_commands.json"
        if not commands.exists():
            self.say(self.root / "CMakeLists.txt", 1, f"no {commands.name} in the build tree: configure it first")
            return
        with open(commands, encoding="utf-8") as file:
            compiled = {os.path.realpath(os.path.join(entry["directory"], entry["file"])) for entry in json.load(file)}
        included = set()
        for path in sources:
            for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(encoding="utf-8"), flags=re.M):
                included |= {os.path.realpath(self.root / name), os.path.realpath(path.parent / name)}
        for path in sources:
            real = os.path.realpath(path)
            relative = path.relative_to(self.root).as_posix()
            # The fuzzers are compiled by a build of their own.
            if path.suffix == ".cpp" and real not in compiled and not relative.startswith("tests/fuzz/"):
                self.say(path, 1, "no target compiles this file")
            if path.suffix == ".hpp" and real not in included:
                self.say(path, 1, "nobody includes this header")


def enclosing_parenthesis(code, at):
    """Where the parenthesis is that encloses a place in its statement, or -1. A body's brace ends the statement."""
    depth = 0
    for i in range(at - 1, -1, -1):
        if code[i] in ")}]":
            depth += 1
        elif code[i] in "({[":
            if depth == 0:
                return i if code[i] == "(" else -1
            depth -= 1
        elif code[i] == ";" and depth == 0 and not re.search(r"\b(if|for|switch)\s*\([^;]*(;[^;]*)?$", code[max(0, i - 200):i + 1]):
            return -1
    return -1


def operand_end(code, at):
    """Where the awaited expression, with all operators after it, ends: at its statement's end, a comma or a closing bracket."""
    depth = 0
    for i in range(at, len(code)):
        if code[i] in "({[":
            depth += 1
        elif code[i] in ")}]":
            depth -= 1
            if depth < 0:
                return i
        elif depth == 0 and code[i] in ";,":
            return i
    return len(code)


def without_brackets(text):
    """The text without what stands in parentheses."""
    while True:
        shorter = re.sub(r"\([^()]*\)", "", text)
        if shorter == text:
            return text
        text = shorter


def co_await_rule(code, start, end):
    """What is wrong with a co_await, or None. It stands alone: `auto r = co_await op;`, because GCC 12 miscompiles the rest."""
    statement_start = max(code.rfind(mark, 0, start) for mark in ";{}") + 1
    before, after = code[statement_start:start], code[end:operand_end(code, end)]
    if re.search(r"(\|\||&&)\s*!?\(?\s*$", before) or re.search(r"\|\||&&", without_brackets(after)) or \
            re.match(r"\s*\([^;{}]*(\|\||&&)", after):
        return "co_await combined with || or &&"
    if "?" in before or "?" in without_brackets(after):
        return "co_await inside a conditional expression"
    place = enclosing_parenthesis(code, start)
    while place >= 0:
        opener = re.search(r"(\w+(?:<[^<>()]*>)?|[>\])])\s*$", code[max(0, place - 60):place])
        word = opener.group(1) if opener else ""
        if word in ("if", "while", "switch", "for"):
            return "co_await inside a condition: await first, then look"
        if word and word not in ("return", "co_return", "static_cast<void>"):
            return "co_await inside a call's arguments"
        place = enclosing_parenthesis(code, place)
    return None


def folder_of(relative):
    """The folder of MAY_INCLUDE that a path from the root is in, or None."""
    parts = relative.split("/")
    for count in (2, 1):
        folder = "/".join(parts[:count])
        if len(parts) > count and folder in MAY_INCLUDE:
            return folder
    return None


def without_comments_and_strings(text):
    """The same number of lines, with what isn't code replaced by blanks."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    pattern = r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\''
    return re.sub(pattern, blank, text, flags=re.S)


# A tree in which every rule is broken, each line of a file with what must be said about it.
BAD_TREE = {
    "proxy/wire/reads_socket.hpp": ("// Header.\n#pragma once\n#include <boost/asio/ip/tcp.hpp>\n", "proxy/wire must not include boost/asio"),
    "proxy/wire/logs.cpp": ('#include "base/log.hpp"\n', "proxy/wire must not include base/log.hpp"),
    "proxy/session/peeks.cpp": ('#include "admin/mover/mover.hpp"\n', "proxy/session must not include admin/mover"),
    "admin/api/peeks.cpp": ('#include "proxy/pool/pool.hpp"\n', "admin/api must not include proxy/pool"),
    "base/peeks.cpp": ('#include "catalog/tenant.hpp"\n', "base must not include catalog"),
    "catalog/tests_itself.cpp": ('#include "tests/support/fake.hpp"\n', "catalog must not include tests"),
    "base/long_file.cpp": ("int x;\n" * (LINES_MAX + 1), "is the most that a file may have"),
    "base/string_utils.cpp": ("int x;\n", "a file's name says what is in it"),
    "base/CamelCase.cpp": ("int x;\n", "snake_case"),
    "base/no_pragma.hpp": ("// Header.\nint x;\n", "#pragma once comes first"),
    "base/no_comment.hpp": ("#pragma once\nint x;\n", "a header starts with what it is"),
    "base/unfinished.cpp": ("// TO" + "DO: later\n", "unfinished work"),
    "base/lazy.cpp": ("using namespace std;\n", "using namespace std"),
    "base/hopes.cpp": ("void f(int x) { assert(x > 0); }\n", "use PP_ASSERT"),
    "conf/machine.yaml": ("path: /ro" + "ot/x\n", "a path of somebody's machine"),
    "proxy/net/condition.cpp": ("void f() { if (co_await read()) {} }\n", "co_await inside a condition"),
    "proxy/net/ternary.cpp": ("void f() { auto x = b ? co_await read() : 0; }\n", "co_await inside a conditional"),
    "proxy/net/argument.cpp": ("void f() { write(1, (2), co_await read()); }\n", "co_await inside a call's arguments"),
    "proxy/net/either.cpp": ("void f() { auto x = co_await (read() || timer()); }\n", "co_await combined"),
    "proxy/net/loop.cpp": ("void f() { while (!done && co_await read()) {} }\n", "co_await combined"),
    "proxy/net/nested.cpp": ("void f() { if (auto r = co_await read(); r) {} }\n", "co_await inside a condition"),
    "tests/unit/base/near_test.cpp": ('#include "near.hpp"\n', "by its path from the root"),
    "tests/unit/base/near.hpp": ("int no_pragma;\n", "#pragma once comes first"),
    "docs/broken.md": ("[the plan](plan.md)\n", "which isn't there"),
    "base/dead.cpp": ("int dead;\n", "no target compiles this file"),
    "base/lonely.hpp": ("// Header.\n#pragma once\n", "nobody includes this header"),
}
# And one in which nothing is: what looks like a violation and isn't.
GOOD_TREE = {
    "base/fine.hpp": "// What it is. A TODO" "S file isn't one.\n#pragma once\n",
    "base/fine.cpp": '#include "base/fine.hpp"\n// if (co_await x) in a comment\nconst char* s = "assert(x)";\nstatic_assert(1 > 0);\n',
    "proxy/net/fine.cpp": '#include "base/fine.hpp"\nvoid f() { auto r = co_await read(a, g(b)); if (r) return; (void)co_await read();\n'
                          "if (!r.empty()) sent = co_await write(std::move(r)); spawn([&]() -> T { co_await x(); });\n"
                          "const bool done = co_await ask(a && b, c ? 1 : 2);\n"
                          "static_cast<void>(co_await read()); co_await timer.async_wait(t); std::size_t n = r ? 1 : 2; }\n",
    "docs/fine.md": "[code](../base/fine.cpp) [site](https://example.com) [here](#there) `[x](y)`\n```\n[no](link)\n```\n",
}


def write_tree(root, tree):
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def self_test():
    failures = []
    for is_bad in (True, False):
        with tempfile.TemporaryDirectory(prefix="pgporter-tidy-") as folder:
            root = pathlib.Path(folder)
            tree = {name: entry[0] for name, entry in BAD_TREE.items()} if is_bad else GOOD_TREE
            write_tree(root, tree)
            build = root / "build"
            build.mkdir()
            compiled = [name for name in tree if name.endswith(".cpp") and name != "base/dead.cpp"]
            commands = [{"directory": str(root), "file": name} for name in compiled]
            (build / "compile_commands.json").write_text(json.dumps(commands), encoding="utf-8")
            said = Tidy(root).check(build)
        if not is_bad:
            failures += [f"a good tree is refused: {violation}" for violation in said]
            continue
        for name, (_, rule) in BAD_TREE.items():
            if not any(violation.startswith(name + ":") and rule in violation for violation in said):
                failures.append(f"{name} is accepted, though: {rule}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?")
    parser.add_argument("--build")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if not arguments.self_test and arguments.root is None:
        parser.error("ROOT or --self-test")
    violations = self_test() if arguments.self_test else Tidy(arguments.root).check(arguments.build)
    for violation in violations:
        print(violation)
    print(f"tidy: {len(violations)} violations" if violations else "tidy: clean")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
