//! A reader who types what a document says, and compares.

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Output};

use super::compare::{Ids, id};
use super::json;
use super::markdown::{Block, Document};

/// The server that documents speak of.
const DOCUMENTED: &str = "http://127.0.0.1:8000";

/// Seconds that a command which does not end by itself is listened to.
const LISTENS: &str = "5";

/// Whether documents are written rather than compared.
pub fn updates() -> bool {
    env::var_os("UPDATE_DOCS").is_some()
}

struct Session<'a> {
    server: &'a str,
    ids: Ids,
    variables: BTreeMap<String, String>,
    /// What the last command printed.
    printed: String,
    /// Ids that the document is to have instead of others.
    renamed: Vec<(String, String)>,
}

/// Runs every `sh` block of a document against the server at `http://HOST:PORT`.
///
/// # Panics
/// When a command fails, or prints another thing than the document says.
pub fn run(document: &mut Document, server: &str) {
    let mut session = Session {
        server,
        ids: Ids::default(),
        variables: BTreeMap::new(),
        printed: String::new(),
        renamed: Vec::new(),
    };
    let blocks = document.blocks();
    let mut answers = Vec::new();
    for (index, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        let place = document.place(block.opened);
        let mut printed = String::new();
        for command in commands(&document.text_of(block)) {
            printed += &session.run(&command, &place);
        }
        let answer = blocks.get(index + 1).filter(|next| {
            let between = &document.lines[block.closed + 1..next.opened];
            ["json", "text"].contains(&next.language.as_str())
                && between.iter().all(|line| line.trim().is_empty())
        });
        let Some(answer) = answer else { continue };
        if let Some(shown) = session.compare(document, answer, &printed) {
            answers.push((answer.clone(), shown));
        }
    }
    if answers.is_empty() && session.renamed.is_empty() {
        return;
    }
    for (block, shown) in answers.into_iter().rev() {
        let lines = shown.lines().map(str::to_owned);
        document.lines.splice(block.opened + 1..block.closed, lines);
    }
    for (old, new) in &session.renamed {
        document.lines.iter_mut().for_each(|line| *line = line.replace(old, new));
    }
    document.write();
}

impl Session<'_> {
    /// Runs one command, or notes a variable; answers what was printed.
    fn run(&mut self, command: &str, place: &str) -> String {
        if let Some((name, value)) = assignment(command) {
            let value = self.value(value, place);
            self.variables.insert(name.to_owned(), value);
            return String::new();
        }
        let streams = command.contains("curl -sN");
        let mut bash = Command::new("timeout");
        bash.args([if streams { LISTENS } else { "60" }, "bash", "-euo", "pipefail", "-c"]);
        bash.arg(command.replace(DOCUMENTED, self.server));
        bash.envs(&self.variables);
        let output = bash.output().expect("timeout, of the coreutils, and bash are there");
        let Output { status, stdout, stderr } = output;
        let stderr = String::from_utf8_lossy(&stderr);
        let ended = status.success() || streams && status.code() == Some(124);
        assert!(ended, "{place}: {command}\nends with {status}: {stderr}");
        self.printed = String::from_utf8(stdout).expect("a command prints UTF-8");
        let mut printed = self.printed.clone();
        if !printed.is_empty() && !printed.ends_with('\n') {
            printed.push('\n');
        }
        printed
    }

    /// What an id of the document is here: one that was seen, or the first in the last answer.
    fn value(&mut self, value: &str, place: &str) -> String {
        let Some(documented) = id(value) else { return value.to_owned() };
        let suffix = &value[documented.len()..];
        if let Some(known) = self.ids.of_run(documented) {
            return format!("{known}{suffix}");
        }
        let answered = self.printed.split("\"id\":\"").nth(1).and_then(id);
        let answered =
            answered.unwrap_or_else(|| panic!("{place}: no answer before {value} has an id"));
        if !self.ids.pair(documented, answered) {
            assert!(updates(), "{place}: {value} is not the id answered");
            self.renamed.push((documented.to_owned(), self.ids.as_documented(answered)));
            self.ids.alias(documented, answered);
        }
        format!("{answered}{suffix}")
    }

    /// What to write instead of what the document says, if documents are written.
    fn compare(&mut self, document: &Document, answer: &Block, printed: &str) -> Option<String> {
        let (expected, place) = (document.text_of(answer), document.place(answer.opened));
        let printed = match answer.language.as_str() {
            "json" => json::shown(printed)
                .unwrap_or_else(|| panic!("{place}: what is printed is not JSON: {printed}")),
            _ => printed.replace("\r\n", "\n").trim_end().to_owned(),
        };
        let shown = match answer.language.as_str() {
            "json" => json::shown(&expected).unwrap_or_default(),
            _ => expected.trim_end().to_owned(),
        };
        let is_laid_out = shown == expected || !updates();
        if self.ids.same(&shown, &printed) && is_laid_out {
            return None;
        }
        let documented = self.ids.as_documented(&printed);
        let hint = "UPDATE_DOCS=1 writes that into the document";
        assert!(updates(), "{place}: printed is\n{documented}\n{hint}");
        // What the document says from now on.
        self.ids.same(&documented, &printed);
        Some(documented)
    }
}

/// The commands of a block: lines, and those that go on.
pub fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut open = String::new();
    for line in block.lines() {
        if open.is_empty() && (line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        if !open.is_empty() {
            open.push('\n');
        }
        open.push_str(line);
        let quotes = open.matches('\'').count();
        if !line.ends_with(['\\', '|']) && quotes.is_multiple_of(2) {
            commands.push(std::mem::take(&mut open));
        }
    }
    assert!(open.is_empty(), "a command does not end: {open}");
    commands
}

/// `NAME=value`, and nothing else.
fn assignment(command: &str) -> Option<(&str, &str)> {
    let (name, value) = command.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    (is_name && !value.contains([' ', '$', '"'])).then_some((name, value))
}
