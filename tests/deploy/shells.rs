//! Shells take the completions, and man shows the pages.

use std::process::Command;

use crate::{is_there, repository, skipped, succeed};

/// What bash proposes for a command line whose last word is begun.
fn proposed(words: &[&str]) -> Vec<String> {
    let script = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _ipam ipam "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).arg(repository("deploy/completions/ipam.bash"));
    succeed(bash.args(words)).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    assert_eq!(proposed(&["ipam", "ser"]), ["serve"]);
    assert_eq!(proposed(&["ipam", "serve", "--mongo-d"]), ["--mongo-database"]);
    assert_eq!(proposed(&["ipam", "check", "--da"]), ["--data"]);
}

#[test]
fn other_shells_take_their_completions() {
    for (shell, file) in [("zsh", "_ipam"), ("fish", "ipam.fish")] {
        if is_there(shell) {
            let file = repository("deploy/completions").join(file);
            succeed(Command::new(shell).arg("-n").arg(file));
        } else {
            skipped(&format!("{shell} is not installed, so it does not read its completions"));
        }
    }
}

#[test]
fn man_shows_the_pages_without_a_warning() {
    if !is_there("man") {
        return skipped("man is not installed, so it does not show the pages");
    }
    for page in std::fs::read_dir(repository("deploy/man")).unwrap() {
        let page = page.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(&page);
        man.envs([("MAN_KEEP_STDERR", "1"), ("MANWIDTH", "80"), ("LC_ALL", "C.UTF-8")]);
        let shown = man.output().unwrap();
        assert!(shown.status.success(), "{}", page.display());
        let warnings = String::from_utf8_lossy(&shown.stderr);
        assert!(warnings.is_empty(), "{}: {warnings}", page.display());
        let text = String::from_utf8_lossy(&shown.stdout);
        let name = page.file_stem().unwrap().to_str().unwrap();
        assert!(text.contains("SEE ALSO") && text.contains(name), "{text}");
    }
}
