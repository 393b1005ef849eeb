//! The configuration reference is made of the commented file `deploy/ipam.toml` and of the flags, so that
//! the three cannot part.

use std::fmt::Write;
use std::fs;

use clap::{Arg, Args, Command};
use ipam::config::Options;

use crate::documents::markdown::root;
use crate::documents::session::updates;

const PAGE: &str = "docs/src/configuration.md";

const BEGINNING: &str = "# Configuration

Every option of `ipam serve`. This page is made from `deploy/ipam.toml` and from the flags; a test keeps it
so.

Defaults < file < environment < flags: what stands further right goes before. The file is given with
`--config FILE` or `IPAM_CONFIG`; it is TOML, every key may be left out, and a key that is not known stops
the start with a sentence that names it. A password belongs into the file (readable by its owner only) or
into the environment: every user of the machine can see a flag.

```shell
ipam serve --config ipam.toml
IPAM_LISTEN=0.0.0.0:8000 ipam serve
ipam serve --listen 0.0.0.0:8000
```

Lengths of time are written `5s`, `90m`, `36h 30m` or `400d`.
";

#[test]
fn the_reference_is_that_of_the_file_and_the_flags() {
    let expected = reference();
    let path = root().join(PAGE);
    if updates() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{PAGE} is out of date: UPDATE_DOCS=1 cargo test --test book");
}

/// Comment lines, and the keys that stand below them.
#[derive(Default)]
struct Group {
    comment: Vec<String>,
    /// Key, and the value that the file shows.
    keys: Vec<(String, String)>,
    /// Of a table: its name, and an example.
    table: Option<(String, Vec<String>)>,
}

/// `key = value`, also one that is commented out.
fn key(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let (key, value) = line.split_once(" = ")?;
    let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_key.then(|| (key.to_owned(), value.to_owned()))
}

fn groups(file: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for piece in file.split("\n\n") {
        let mut group = Group::default();
        for line in piece.lines() {
            let bare = line.strip_prefix('#').unwrap_or(line);
            let bare = bare.strip_prefix(' ').unwrap_or(bare);
            if let Some((_, example)) = &mut group.table {
                example.push(bare.to_owned());
            } else if let Some(name) =
                bare.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]"))
            {
                group.table = Some((name.to_owned(), vec![bare.to_owned()]));
            } else if let Some(found) = key(line) {
                group.keys.push(found);
            } else {
                if !group.keys.is_empty() {
                    groups.push(std::mem::take(&mut group));
                }
                group.comment.push(bare.to_owned());
            }
        }
        groups.push(group);
    }
    groups
}

/// The comment as Markdown: what is indented stays as it is.
fn prose(comment: &[String]) -> String {
    let mut text = String::new();
    let mut is_block = false;
    for line in comment {
        let indented = line.starts_with("  ");
        if indented != is_block && !line.is_empty() {
            text += if indented { "```text\n" } else { "```\n" };
            is_block = indented;
        } else if line.is_empty() && is_block {
            text += "```\n";
            is_block = false;
        }
        text += if is_block { line.strip_prefix("  ").unwrap_or(line) } else { line };
        text.push('\n');
    }
    if is_block {
        text += "```\n";
    }
    text.trim().to_owned() + "\n"
}

/// What the help says, without the default.
fn in_short(flag: &Arg) -> (String, Option<String>) {
    let help = flag.get_help().unwrap().to_string().replace('\n', " ");
    match help.split_once("[default: ") {
        Some((text, default)) => {
            (text.trim().to_owned(), Some(default.trim_end_matches(']').to_owned()))
        }
        None => (help, None),
    }
}

fn reference() -> String {
    let file = fs::read_to_string(root().join("deploy/ipam.toml")).unwrap();
    let command = Options::augment_args(Command::new("serve"));
    let flags: Vec<&Arg> = command.get_arguments().filter(|flag| !flag.is_hide_set()).collect();
    let mut page = BEGINNING.to_owned();
    let mut told = 0;
    for group in groups(&file) {
        if let Some((name, example)) = &group.table {
            // Its own first line says that it is commented out, which it is not here.
            write!(page, "\n## {name}\n\nOnly in the file.\n\n{}\n", prose(&group.comment))
                .unwrap();
            writeln!(page, "```toml\n{}\n```", example.join("\n")).unwrap();
            continue;
        }
        if group.keys.is_empty() {
            continue;
        }
        let names: Vec<_> = group.keys.iter().map(|(name, _)| format!("`{name}`")).collect();
        write!(page, "\n## {}\n\n", names.join(", ")).unwrap();
        for (name, _) in group.keys.iter().filter(|_| group.keys.len() > 1) {
            write!(page, "<a id=\"{name}\"></a>").unwrap();
        }
        page += if group.keys.len() > 1 { "\n" } else { "" };
        page += &prose(&group.comment);
        page += "\n| key | default | example | flag | environment | in short |\n|---|---|---|---|---|---|\n";
        for (name, value) in &group.keys {
            let flag = flags.iter().find(|flag| flag.get_id().as_str() == name);
            let flag =
                flag.unwrap_or_else(|| panic!("deploy/ipam.toml has {name}, and no flag has"));
            let (short, default) = in_short(flag);
            let default = match default {
                Some(words) if words.contains(' ') => words,
                Some(value) => format!("`{value}`"),
                None => "none".to_owned(),
            };
            let variable = flag.get_env().unwrap().to_str().unwrap();
            let long = flag.get_long().unwrap();
            writeln!(
                page,
                "| `{name}` | {default} | `{value}` | `--{long}` | `{variable}` | {short} |"
            )
            .unwrap();
            told += 1;
        }
    }
    assert_eq!(told, flags.len(), "each flag has its key in deploy/ipam.toml");
    page
}
