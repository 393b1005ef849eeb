//! The rules of the tree that no compiler holds: which way imports go, that modules form no
//! circle, and that nothing is left behind by work in progress.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file; look twice at 500.
const LINES_MAX: usize = 600;

/// Which parts of the crate each part may import, beside itself.
const IMPORTS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("clock", &["limits"]),
    ("telemetry", &["limits", "clock"]),
    ("config", &["limits", "telemetry", "domain", "store", "bus", "relay", "hooks", "discovery"]),
    ("domain", &["limits"]),
    ("store", &["limits", "clock", "telemetry", "domain"]),
    ("bus", &["limits", "domain"]),
    ("discovery", &["limits", "bus"]),
    ("relay", &["limits", "clock", "telemetry", "domain", "store", "bus"]),
    ("hooks", &["limits", "telemetry", "domain", "bus"]),
    ("actors", &["limits", "clock", "telemetry", "domain", "store", "hooks"]),
    ("service", &["limits", "clock", "telemetry", "domain", "store", "actors", "hooks"]),
    ("api", &["limits", "clock", "telemetry", "domain", "store", "actors", "service"]),
    ("micro", &["limits", "telemetry", "domain", "bus", "store", "actors", "service", "api"]),
    ("app", ALL),
    ("cli", ALL),
];
const ALL: &[&str] = &[
    "bus",
    "discovery",
    "relay",
    "hooks",
    "limits",
    "clock",
    "telemetry",
    "config",
    "domain",
    "store",
    "actors",
    "service",
    "api",
    "micro",
    "app",
];

/// What stays in a file only by mistake. Taken apart, so that this file may name it.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("dbg", "!("),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
];

struct Source {
    /// From the root of the repository.
    path: PathBuf,
    text: String,
}

impl Source {
    /// `["actors", "pool"]` for `src/actors/pool.rs`; empty for the root.
    fn module(&self) -> Module {
        let inside = self.path.strip_prefix("src").unwrap().with_extension("");
        let mut names: Module = inside.iter().map(|name| name.to_str().unwrap().into()).collect();
        let is_root = names == ["lib"] || names == ["main"];
        names.pop_if(|name| is_root || name == "mod");
        names
    }

    /// The code, without comments and without the tests at the end.
    fn code(&self) -> String {
        let production = self.text.split("#[cfg(test)]").next().unwrap();
        let lines = production.lines().map(|line| line.split("//").next().unwrap());
        lines.collect::<Vec<_>>().join("\n")
    }
}

type Module = Vec<String>;

/// The files of one kind below a directory, or the file itself.
fn sources(places: &[&str], extension: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = places.iter().map(|place| root.join(place)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path: path.strip_prefix(root).unwrap().to_owned(), text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every path in the code, also those in the braces of a `use`, as its names.
fn paths(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(is_name) {
        rest = read_path(&rest[start..], Vec::new(), &mut found);
    }
    found
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Reads one path that begins after `before`; answers what follows it.
fn read_path<'a>(text: &'a str, before: Module, found: &mut Vec<Module>) -> &'a str {
    let end = text.find(|letter| !is_name(letter)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = [before, vec![name.to_owned()]].concat();
    let Some(more) = rest.strip_prefix("::") else {
        found.push(path);
        return rest;
    };
    let Some(mut inside) = more.strip_prefix('{') else {
        if more.starts_with(is_name) {
            return read_path(more, path, found);
        }
        found.push(path);
        return more;
    };
    loop {
        inside = inside.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ',');
        if let Some(rest) = inside.strip_prefix('}') {
            return rest;
        }
        if !inside.starts_with(is_name) {
            return inside;
        }
        inside = read_path(inside, path.clone(), found);
    }
}

/// Which files of `src` each of them imports.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let sources = sources(&["src"], "rs");
    let modules: BTreeSet<Module> = sources.iter().map(Source::module).collect();
    let mut imports: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for source in &sources {
        let own = source.module();
        let of_own = imports.entry(own.clone()).or_default();
        for path in paths(&source.code()) {
            let mut place = resolve(&own, &path, &modules);
            while !place.is_empty() && !modules.contains(&place) {
                place.pop();
            }
            if !place.is_empty() && place != own {
                of_own.insert(place);
            }
        }
    }
    imports
}

/// A path as it is seen from the root of the crate; empty when it leads out of it.
fn resolve(own: &Module, path: &Module, modules: &BTreeSet<Module>) -> Module {
    let supers = path.iter().take_while(|name| *name == "super").count();
    let child = [own.clone(), path[..1].to_vec()].concat();
    match path[0].as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [own.clone(), path[1..].to_vec()].concat(),
        "super" => [&own[..own.len().saturating_sub(supers)], &path[supers..]].concat(),
        _ if path.len() > 1 && modules.contains(&child) => [own.clone(), path.clone()].concat(),
        _ => Module::new(),
    }
}

#[test]
fn imports_go_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (own, imported) in imports() {
        let Some(part) = own.first() else { continue };
        let allowed = allowed.get(part.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("`{part}` is not in the table of imports"));
        for module in imported {
            if module[0] != *part && !allowed.contains(&module[0].as_str()) {
                wrong.push(format!("{} imports {}", own.join("::"), module.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn modules_form_no_circle() {
    let mut left = imports();
    // Whoever imports nothing that is left, or is imported by no one who is, is on no circle.
    loop {
        let imported: BTreeSet<Module> = left.values().flatten().cloned().collect();
        let before = left.len();
        let modules: BTreeSet<Module> = left.keys().cloned().collect();
        left.retain(|module, own| imported.contains(module) && !own.is_disjoint(&modules));
        if left.len() == before {
            break;
        }
    }
    let circles: Vec<String> = left
        .iter()
        .map(|(module, imported)| {
            let on = imported.iter().filter(|module| left.contains_key(*module));
            let on: Vec<_> = on.map(|module| module.join("::")).collect();
            format!("{} imports {}", module.join("::"), on.join(", "))
        })
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn every_file_is_a_module_and_says_what_it_is_for() {
    let sources = sources(&["src"], "rs");
    for source in &sources {
        let path = source.path.display();
        assert!(source.text.starts_with("//!"), "{path} does not open with //!");
        let module = source.module();
        let Some((name, parent)) = module.split_last() else { continue };
        let parent = sources.iter().find(|source| source.module() == parent).unwrap();
        let declared = format!("mod {name};");
        assert!(parent.text.contains(&declared), "nobody declares {path}");
    }
}

#[test]
fn files_stay_short() {
    for source in sources(&["src", "tests", "benches"], "rs") {
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", source.path.display());
    }
}

#[test]
fn nothing_is_left_behind() {
    let mut texts = sources(&["src", "tests", "benches"], "rs");
    for (place, extension) in [
        ("deploy", "toml"),
        ("docs", "md"),
        ("README.md", "md"),
        ("ARCHITECTURE.md", "md"),
        ("Cargo.toml", "toml"),
    ] {
        texts.extend(sources(&[place], extension));
    }
    for source in texts {
        for (number, line) in source.text.lines().enumerate() {
            for leftover in LEFTOVERS {
                let place = format!("{}:{}", source.path.display(), number + 1);
                assert!(!line.contains(leftover), "{place} has `{leftover}`");
            }
        }
    }
}

#[test]
fn paths_are_read_with_their_braces() {
    let found = paths("use crate::a::{self, b::C, d::{E, F as G}};\nlet x = super::h::i();");
    let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    for path in
        ["crate::a::self", "crate::a::b::C", "crate::a::d::E", "crate::a::d::F", "super::h::i"]
    {
        assert!(found.iter().any(|found| found == path), "{path} in {found:?}");
    }
}
