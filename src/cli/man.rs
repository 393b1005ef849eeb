//! The man pages and the completions of shells, made from the command line. A test holds them against
//! the committed files in `deploy`, so that none of them is out of date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// What clap does not know: what follows the options of a page.
const OF_IPAM: &str = r#".SH "EXIT STATUS"
.TP
0
It is done; of \fBipam serve\fR: it was asked to end, and has.
.TP
1
It failed, or found what it looks for; a sentence on stderr says what.
.TP
2
The command line is not understood.
.SH FILES
Those of the Debian package.
.TP
\fI/etc/ipam/ipam.toml\fR
The configuration of the service: every key with its default and what it means.
.TP
\fI/etc/default/ipam\fR
Its environment, which goes before that file; the place for passwords.
.TP
\fI/var/lib/ipam/data\fR
The data of the embedded store.
.TP
\fI/usr/share/ipam\fR
The OpenAPI document of the API, and the JSON Schemas of the events.
"#;

/// Texts by the path below `deploy` that they have.
type Files = BTreeMap<String, String>;

fn command() -> Command {
    // `help` is a subcommand that says nothing of its own.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

fn pages(command: &Command) -> Files {
    let source = format!("ipam {}", env!("CARGO_PKG_VERSION"));
    let subcommands: Vec<&Command> =
        command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let name = |command: &Command| {
        command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
    };
    let all: Vec<&Command> = std::iter::once(command).chain(subcommands).collect();
    let page = |of: &Command| {
        let own = name(of);
        let man = Man::new(of.clone()).source(&source).manual("ipam");
        let mut text = Vec::new();
        man.render(&mut text).unwrap();
        let mut text = String::from_utf8(text).unwrap();
        if own == "ipam" {
            text.push_str(OF_IPAM);
        }
        let others = all.iter().map(|other| name(other)).filter(|other| *other != own);
        let others: Vec<_> = others.map(|other| format!("\\fB{other}\\fR(1)")).collect();
        text.push_str(&format!(".SH \"SEE ALSO\"\n{}\n", others.join(", ").replace('-', "\\-")));
        (format!("man/{own}.1"), text)
    };
    all.iter().map(|command| page(command)).collect()
}

/// Without what is hidden: a completion would show it.
fn shown(command: &Command) -> Command {
    // A command keeps no name that is not static.
    let name: &'static str = command.get_name().to_owned().leak();
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let shown = Command::new(name).args(arguments).subcommands(subcommands.map(shown));
    shown.about(command.get_about().cloned().unwrap_or_default())
}

fn completions() -> Files {
    let command = shown(&Cli::command()).version(env!("CARGO_PKG_VERSION"));
    let command = command.disable_help_subcommand(true);
    let shells = [
        (Shell::Bash, "completions/ipam.bash"),
        (Shell::Zsh, "completions/_ipam"),
        (Shell::Fish, "completions/ipam.fish"),
    ];
    let script = |shell: Shell| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "ipam", &mut text);
        String::from_utf8(text).unwrap()
    };
    shells.map(|(shell, path)| (path.to_owned(), script(shell))).into()
}

/// What is committed of that.
fn committed(deploy: &Path) -> Files {
    let mut files = Files::new();
    for folder in ["man", "completions"] {
        let Ok(entries) = std::fs::read_dir(deploy.join(folder)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            files.insert(format!("{folder}/{name}"), std::fs::read_to_string(&path).unwrap());
        }
    }
    files
}

#[test]
fn the_committed_pages_and_completions_are_those_of_the_command_line() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut made = pages(&command());
    made.extend(completions());
    if std::env::var_os("UPDATE_MAN").is_some() {
        for path in committed(&deploy).keys().filter(|path| !made.contains_key(*path)) {
            std::fs::remove_file(deploy.join(path)).unwrap();
        }
        for (path, text) in &made {
            let path = deploy.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
    let committed = committed(&deploy);
    let paths: BTreeSet<&String> = made.keys().chain(committed.keys()).collect();
    let other = paths.into_iter().filter(|path| made.get(*path) != committed.get(*path));
    let other: Vec<_> = other.collect();
    assert!(
        other.is_empty(),
        "the command line has changed, and {other:?} with it: look at the difference after\n    UPDATE_MAN=1 cargo test --lib cli::man\nand commit deploy/man and deploy/completions"
    );
}
