//! Reads the sources and holds them to DESIGN section 2: which module may use which, and where each crate lives.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the library and their levels. A module uses only what stands lower.
const LEVELS: [(&str, u8); 22] = [
    ("error", 0),
    ("cores", 0),
    ("duration", 1),
    ("size", 1),
    ("limit", 1),
    ("quote", 1),
    ("record", 1),
    ("budget", 1),
    ("hostset", 1),
    ("host", 1),
    ("known_hosts", 1),
    ("ssh_config", 1),
    ("spool", 1),
    ("breaker", 2),
    ("event", 2),
    ("inventory", 2),
    ("public_key", 2),
    ("transport", 3),
    ("ssh", 4),
    ("op", 4),
    ("sink", 4),
    ("fake", 4),
];

/// `pool` uses all of the above.
const TOP: (&str, u8) = ("pool", 5);

/// Where each crate may be named: a directory, or one file.
const HOMES: [(&str, &str); 11] = [
    ("ssh2", "ssh/"),
    ("libssh2_sys", "ssh/"),
    ("mio", "ssh/bastion/"),
    ("openssl", "ssh/"),
    ("ssh_key", "ssh/"),
    ("clap", "cli/"),
    ("clap_mangen", "cli/manual.rs"),
    ("indicatif", "cli/progress.rs"),
    ("rpassword", "cli/"),
    ("rustix", "cli/"),
    ("signal_hook", "cli/"),
];

const UNSAFE_HOME: &str = "ssh/raw/";
const EXIT_HOME: &str = "cli/signal.rs";
const MAX_LINES: usize = 600;

#[test]
fn the_sources_keep_their_layers() {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.files.len() > 5, "no sources found");
    let faults = sources.check();
    let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "DESIGN section 2 is broken:\n{}", list.join("\n"));
}

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  src/{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Every file under `src/`, by its path from there.
#[derive(Debug, Default)]
struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    sources.files.push((name, fs::read_to_string(&path).unwrap()));
                }
            }
        }
        sources.files.sort();
        sources
    }

    fn check(&self) -> Vec<Fault> {
        let parsed: Vec<(&str, Tokens, usize)> = self
            .files
            .iter()
            .map(|(name, text)| {
                let tokens = Tokens::of(text);
                let lines = text.lines().count() - tokens.test_lines;
                (&**name, tokens, lines)
            })
            .collect();
        let tests: HashSet<PathBuf> = parsed.iter().flat_map(|(name, tokens, _)| tokens.test_files(name)).collect();
        let exports = parsed.iter().find(|(name, ..)| *name == "lib.rs").map(|(_, tokens, _)| tokens.exports());
        let mut faults = Vec::new();
        for (name, tokens, lines) in &parsed {
            if *lines >= MAX_LINES {
                faults.push(Fault { file: (*name).to_owned(), line: *lines, what: format!("{lines} lines: split it") });
            }
            let is_test = tests.iter().any(|test| Path::new(name).starts_with(test));
            if !is_test {
                let file = File { name, tokens, exports: exports.as_ref() };
                file.check(&mut faults);
            }
        }
        faults
    }
}

fn level(module: &str) -> Option<u8> {
    LEVELS.iter().chain([&TOP]).find(|(name, _)| *name == module).map(|&(_, level)| level)
}

/// One file, without its tests.
struct File<'a> {
    name: &'a str,
    tokens: &'a Tokens,
    /// Which module an item at the library's root comes from.
    exports: Option<&'a HashMap<String, String>>,
}

impl File<'_> {
    fn is_binary(&self) -> bool {
        self.name == "main.rs" || self.name.starts_with("cli/") || self.name == "cli.rs"
    }

    /// The names of the file's module, outermost first.
    fn module(&self) -> Vec<&str> {
        let path = self.name.trim_end_matches(".rs").trim_end_matches("/mod");
        if path == "lib" || path == "main" { Vec::new() } else { path.split('/').collect() }
    }

    fn check(&self, faults: &mut Vec<Fault>) {
        let mut fault = |line: usize, what: String| faults.push(Fault { file: self.name.to_owned(), line, what });
        self.check_crates(&mut fault);
        if self.is_binary() {
            for (line, module) in self.tokens.declared() {
                if self.name == "main.rs" && module != "cli" {
                    fault(line, format!("the binary declares `{module}`: it uses the library as `fleet::`"));
                }
            }
            return;
        }
        self.check_prints(&mut fault);
        let module = self.module();
        let Some(&own) = module.first() else {
            for (line, module) in self.tokens.declared() {
                match level(&module) {
                    None if module == "cli" => fault(line, "the library never declares `cli`".to_owned()),
                    None => fault(line, format!("`{module}` has no level: give it one here and in DESIGN section 2")),
                    Some(_) => {}
                }
            }
            return;
        };
        let Some(own_level) = level(own) else { return };
        for (line, used) in self.tokens.used_modules(module.len()) {
            let used = self.exports.and_then(|exports| exports.get(&used)).unwrap_or(&used);
            match level(used) {
                _ if used == own => {}
                Some(level) if level < own_level => {}
                Some(level) => fault(line, format!("`{own}` (level {own_level}) uses `{used}` (level {level})")),
                None => fault(line, format!("`crate::{used}` has no level")),
            }
        }
    }

    fn check_crates(&self, fault: &mut impl FnMut(usize, String)) {
        for (at, token) in self.tokens.list.iter().enumerate() {
            let home = HOMES.iter().find(|(name, _)| token.text == *name && self.tokens.is_crate(at));
            if let Some((name, home)) = home.filter(|(_, home)| !self.is_in(home)) {
                fault(token.line, format!("`{name}` is named outside of src/{home}"));
            }
            if token.text == "unsafe" && !self.is_in(UNSAFE_HOME) {
                fault(token.line, format!("`unsafe` outside of src/{UNSAFE_HOME}"));
            }
        }
        for (line, path) in self.tokens.paths() {
            let ends =
                |tail: &[&str]| path.iter().map(String::as_str).rev().take(tail.len()).rev().eq(tail.iter().copied());
            if (ends(&["process", "exit"]) || ends(&["_exit"])) && !self.is_in(EXIT_HOME) {
                fault(line, format!("`process::exit` outside of src/{EXIT_HOME}"));
            }
        }
    }

    fn check_prints(&self, fault: &mut impl FnMut(usize, String)) {
        for pair in self.tokens.list.windows(2) {
            let [name, bang] = pair else { continue };
            if bang.text == "!" && ["print", "println", "eprint", "eprintln"].contains(&&*name.text) {
                fault(name.line, format!("`{}!` in the library", name.text));
            }
        }
    }

    fn is_in(&self, home: &str) -> bool {
        self.name == home || (home.ends_with('/') && self.name.starts_with(home))
    }
}

#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

/// The tokens of a file: no comments, strings or characters. [`Tokens::of`] also leaves out what is only built for tests.
#[derive(Debug, Default)]
struct Tokens {
    list: Vec<Token>,
    /// The modules that are only built for tests, in files of their own.
    test_modules: Vec<String>,
    /// How many lines were left out.
    test_lines: usize,
}

impl Tokens {
    fn of(text: &str) -> Self {
        let tokens = lex(text);
        let mut kept = Self::default();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match test_attribute_end(&tokens, at) {
                Some(end) => {
                    let (end, module) = item_end(&tokens, end);
                    kept.test_modules.extend(module);
                    kept.test_lines += tokens.get(end - 1).map_or(0, |last| last.line + 1 - token.line);
                    at = end;
                }
                None => {
                    kept.list.push(token.clone());
                    at += 1;
                }
            }
        }
        kept
    }

    fn text(&self, at: usize) -> &str {
        self.list.get(at).map_or("", |token| &token.text)
    }

    /// Tells whether the name at `at` stands for a crate: first in a path, or in a `use`.
    fn is_crate(&self, at: usize) -> bool {
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        let first = !["::", ".", "mod", "fn", "let"].contains(&before)
            || (before == "::" && at.checked_sub(2).is_none_or(|before| !is_name(self.text(before))));
        first && (self.text(at + 1) == "::" || before == "use" || before == "crate")
    }

    /// The modules that are declared here, tests left out.
    fn declared(&self) -> Vec<(usize, String)> {
        let pairs = self.list.windows(2);
        pairs.filter(|pair| pair[0].text == "mod").map(|pair| (pair[1].line, pair[1].text.clone())).collect()
    }

    /// The files and directories of the test modules that `file` declares.
    fn test_files(&self, file: &str) -> Vec<PathBuf> {
        let path = Path::new(file);
        let dir = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") => path.parent().unwrap().to_owned(),
            _ => path.with_extension(""),
        };
        self.test_modules.iter().flat_map(|name| [dir.join(name), dir.join(format!("{name}.rs"))]).collect()
    }

    /// Maps what the root re-exports to the module it comes from.
    fn exports(&self) -> HashMap<String, String> {
        let uses = self.paths().into_iter().filter(|(_, path)| path.len() > 1);
        uses.map(|(_, path)| (path.last().unwrap().clone(), path[0].clone())).collect()
    }

    /// The modules at the root of the crate that are named: by `crate::`, or by as many `super::` as the file is deep.
    fn used_modules(&self, depth: usize) -> Vec<(usize, String)> {
        let mut used = Vec::new();
        for (line, path) in self.paths() {
            let supers = path.iter().take_while(|part| *part == "super").count();
            let root = match path.first().map(String::as_str) {
                Some("crate") => 1,
                Some("super") if supers == depth => supers,
                _ => continue,
            };
            used.extend(path.get(root).map(|name| (line, name.clone())));
        }
        used.dedup();
        used
    }

    /// Every path, with the groups of a `use` written out.
    fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.list.len() {
            if is_name(self.text(at)) {
                at = self.path(at, &[], &mut paths).max(at + 1);
            } else {
                at += 1;
            }
        }
        paths
    }

    /// Reads the path at `at` and returns where it ends.
    fn path(&self, mut at: usize, before: &[String], paths: &mut Vec<(usize, Vec<String>)>) -> usize {
        let line = self.list.get(at).map_or(0, |token| token.line);
        let mut path = before.to_vec();
        loop {
            path.push(self.text(at).to_owned());
            at += 1;
            if self.text(at) != "::" {
                break;
            }
            at += 1;
            if self.text(at) == "{" {
                return self.group(at + 1, &path, paths);
            }
            if !is_name(self.text(at)) && self.text(at) != "*" {
                break;
            }
        }
        paths.push((line, path));
        at
    }

    fn group(&self, mut at: usize, before: &[String], paths: &mut Vec<(usize, Vec<String>)>) -> usize {
        while at < self.list.len() && self.text(at) != "}" {
            if is_name(self.text(at)) || self.text(at) == "*" {
                at = self.path(at, before, paths);
                if self.text(at) == "as" {
                    at += 2;
                }
            } else {
                at += 1;
            }
        }
        at + 1
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Returns the end of a `#[cfg(test)]` or `#[cfg(all(test, …))]` that starts at `at`.
fn test_attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let starts = |words: &[&str]| {
        words.iter().enumerate().all(|(offset, word)| tokens.get(at + offset).is_some_and(|token| token.text == *word))
    };
    let is_test = starts(&["#", "[", "cfg", "(", "test"]) || starts(&["#", "[", "cfg", "(", "all", "(", "test"]);
    is_test.then(|| closing(tokens, at + 1) + 1)
}

/// Returns where the bracket at `at` is closed.
fn closing(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(at) {
        match &*token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// Returns the end of the item at `at`, and its name if it is a module in a file of its own.
fn item_end(tokens: &[Token], mut at: usize) -> (usize, Option<String>) {
    let text = |at: usize| tokens.get(at).map_or("", |token| &*token.text);
    while text(at) == "#" {
        at = closing(tokens, at + 1) + 1;
    }
    const ITEMS: [&str; 15] = [
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "trait",
        "const",
        "static",
        "type",
        "async",
        "unsafe",
        "extern",
        "macro_rules",
        "let",
    ];
    let mut start = at;
    if text(start) == "pub" {
        start += 1;
        if text(start) == "(" {
            start = closing(tokens, start) + 1;
        }
    }
    let is_item = ITEMS.contains(&text(start));
    let module = (text(start) == "mod" && text(start + 2) == ";").then(|| text(start + 1).to_owned());
    while at < tokens.len() {
        match text(at) {
            "{" => return (closing(tokens, at) + 1, module),
            ";" => return (at + 1, module),
            "," if !is_item => return (at + 1, module),
            "}" => return (at, module),
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    (at, module)
}

/// Cuts a source into tokens, without comments, strings, characters and lifetimes.
fn lex(text: &str) -> Vec<Token> {
    let bytes: Vec<char> = text.chars().collect();
    let get = |at: usize| bytes.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let start = at;
        match get(at) {
            '/' if get(at + 1) == '/' => {
                while at < bytes.len() && get(at) != '\n' {
                    at += 1;
                }
            }
            '/' if get(at + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (get(at), get(at + 1)) {
                        ('/', '*') => (depth, at) = (depth + 1, at + 2),
                        ('*', '/') => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                    if depth == 0 || at >= bytes.len() {
                        break;
                    }
                }
            }
            '"' => at = string_end(&bytes, at),
            '\'' => {
                // A character ends with a quote; a lifetime does not.
                if get(at + 1) == '\\' {
                    at += 3;
                    while at < bytes.len() && get(at) != '\'' {
                        at += 1;
                    }
                    at += 1;
                } else if get(at + 2) == '\'' {
                    at += 3;
                } else {
                    at += 1;
                    while is_word(get(at)) {
                        at += 1;
                    }
                }
            }
            c if is_word(c) => {
                while is_word(get(at)) {
                    at += 1;
                }
                let word: String = bytes[start..at].iter().collect();
                let is_prefix = ["r", "b", "c", "br", "cr"].contains(&&*word);
                let hashes = bytes[at..].iter().take_while(|&&c| c == '#').count();
                if is_prefix && word.contains('r') && get(at + hashes) == '"' {
                    at = raw_string_end(&bytes, at + hashes + 1, hashes);
                } else if !(is_prefix && matches!(get(at), '"' | '\'')) {
                    tokens.push(Token { text: word, line });
                }
            }
            ':' if get(at + 1) == ':' => {
                tokens.push(Token { text: "::".to_owned(), line });
                at += 2;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { text: c.to_string(), line });
                }
                at += 1;
            }
        }
        line += bytes[start..at.min(bytes.len())].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

fn string_end(text: &[char], mut at: usize) -> usize {
    at += 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string_end(text: &[char], mut at: usize, hashes: usize) -> usize {
    while at < text.len() {
        let closes = text[at] == '"' && text[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
        at += 1;
        if closes {
            break;
        }
    }
    at + hashes
}

/// Checks one synthetic tree and returns `FILE:LINE` of each fault.
fn faults(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
    Sources { files }.check().iter().map(|fault| format!("{}:{}", fault.file, fault.line)).collect()
}

#[test]
fn an_upward_or_level_use_is_found() {
    let lib = ("lib.rs", "mod error;\npub use error::{Error, Result as R};\npub use pool::Pool;\n");
    assert_eq!(faults(&[lib, ("host.rs", "use crate::pool::Pool;")]), ["host.rs:1"]);
    assert_eq!(faults(&[lib, ("host.rs", "use crate::Pool;")]), ["host.rs:1"]);
    assert_eq!(
        faults(&[lib, ("host.rs", "use crate::{error::Error,\n spool::{self, Spool},\n pool};")]),
        ["host.rs:2", "host.rs:3"]
    );
    assert_eq!(faults(&[lib, ("host.rs", "fn f() -> crate::budget::Budget {}")]), ["host.rs:1"]);
    assert_eq!(faults(&[lib, ("ssh/keys/mod.rs", "use super::super::op::Exec;")]), ["ssh/keys/mod.rs:1"]);
    assert_eq!(faults(&[lib, ("ssh/keys.rs", "use super::{op, keys};")]), [""; 0]);
    assert_eq!(faults(&[lib, ("ssh/mod.rs", "\nuse super::{op, error};")]), ["ssh/mod.rs:2"]);
    assert_eq!(faults(&[lib, ("event.rs", "use crate::unheard::Of;")]), ["event.rs:1"]);
    assert_eq!(faults(&[("lib.rs", "mod unheard;\nmod cli;\nmod ssh;")]), ["lib.rs:1", "lib.rs:2"]);
    assert_eq!(faults(&[("main.rs", "mod cli;\nmod ssh;")]), ["main.rs:2"]);
}

#[test]
fn a_downward_use_tests_comments_and_strings_are_no_faults() {
    let text = r####"
        //! [`crate::pool`] println!("x")
        use crate::{error::{Error, Result}, host::Host as H};
        use crate::Error;
        /* unsafe /* crate::pool */ ssh2:: */
        const A: &str = "crate::pool \" unsafe";
        const B: &str = r#"unsafe " crate::pool"#;
        const C: (char, char, u8) = ('"', '\'', b'"');
        fn f<'a>(x: &'a str, clap: u8) -> &'a str { x.ssh2.openssl(); self::pool::x(); writeln!(f) }
        #[cfg(test)]
        use crate::pool::{Pool, X};
        #[cfg(test)]
        #[path = "x.rs"]
        mod inline { use crate::pool; fn f() { unsafe { println!() } } }
        #[cfg(test)]
        pub(crate) fn g<A, B>() -> Vec<(A, B)> { crate::pool::x() }
        struct S { #[cfg(test)] seen: crate::pool::X, other: u8 }
        #[cfg(all(test, unix))]
        mod tests;
    "####;
    let tests = "use crate::pool; fn f() { unsafe { ssh2::x() } }";
    let lib = ("lib.rs", "pub use error::Error;");
    let tree = [lib, ("transport/mod.rs", text), ("transport/tests.rs", tests), ("transport/tests/deep.rs", tests)];
    assert_eq!(faults(&tree), [""; 0]);
    assert_eq!(faults(&[("op/tests.rs", tests)]).len(), 3, "a file that nobody declares for tests is no test");
    assert_eq!(faults(&[("host.rs", "#[cfg(not(test))]\nuse crate::pool;")]), ["host.rs:2"]);
}

#[test]
fn crates_and_words_outside_of_their_homes_are_found() {
    for (text, home) in [
        ("use ssh2::Session;", "ssh/x.rs"),
        ("use ssh2;", "ssh/x.rs"),
        ("use {libssh2_sys::a, std::b};", "ssh/raw/x.rs"),
        ("fn f(key: ::openssl::pkey::PKey) {}", "ssh/keys/mod.rs"),
        ("#[derive(Debug, clap::Parser)] struct A;", "cli/args.rs"),
        ("use indicatif::ProgressBar;", "cli/progress.rs"),
        ("unsafe fn f() {}", "ssh/raw/x.rs"),
        ("fn f() { std::process::exit(1) }", "cli/signal.rs"),
        ("use std::process::{Command, exit};", "cli/signal.rs"),
    ] {
        assert_eq!(faults(&[(home, text)]), [""; 0], "{text}");
        for elsewhere in ["op/exec.rs", "cli/verbs.rs", "main.rs"] {
            let is_home = home.starts_with("cli/args") && !elsewhere.starts_with("op");
            let expected = if is_home && elsewhere.starts_with("cli") { 0 } else { 1 };
            assert_eq!(faults(&[(elsewhere, text)]).len(), expected, "{text} in {elsewhere}");
        }
    }
    assert_eq!(
        faults(&[("op/a.rs", "\nfn f() { eprintln!(\"x\") }"), ("cli/a.rs", "fn f() { println!() }")]),
        ["op/a.rs:2"]
    );
    assert_eq!(
        faults(&[
            ("op/long.rs", &"\n".repeat(600)),
            ("op/short.rs", &"\n".repeat(599)),
            ("op/tests.rs", &format!("{}#[cfg(test)]\nmod x {{\n{}}}", "\n".repeat(590), "\n".repeat(50)))
        ]),
        ["op/long.rs:600"]
    );
}
