//! The commands of each document, run against a server of its own; and what no server is needed for.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::documents::markdown::Document;
use crate::documents::{json, session};
use crate::server::{Server, assert_clean};

#[test]
fn commands_give_what_is_printed() {
    let mut run = 0;
    thread::scope(|scope| {
        for mut document in Document::all() {
            if !document.blocks().iter().any(|block| block.language == "sh") {
                continue;
            }
            run += 1;
            scope.spawn(move || {
                let data = tempfile::tempdir().unwrap();
                let server = Server::start(data.path());
                session::run(&mut document, &format!("http://{}", server.address));
                server.stop();
                assert_clean(data.path());
            });
        }
    });
    assert!(run >= 4, "of the README, the start, the tour and following, {run} have commands");
}

#[test]
fn blocks_say_what_they_are_and_are_that() {
    for document in Document::all() {
        for block in document.blocks() {
            let (text, place) = (document.text_of(&block), document.place(block.opened));
            match block.language.as_str() {
                // `shell` is for what needs more than a server: a bus, a database, rights.
                "sh" | "shell" => {
                    let mut bash =
                        Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
                    bash.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
                    assert!(bash.wait().unwrap().success(), "{place}: bash does not read it");
                    session::commands(&text);
                }
                "json" => assert!(json::shown(&text).is_some(), "{place}: not JSON"),
                "toml" => {
                    let file = tempfile::NamedTempFile::new().unwrap();
                    std::fs::write(file.path(), &text).unwrap();
                    let options = ipam::config::Options::read(file.path());
                    assert!(options.is_ok(), "{place}: {}", options.unwrap_err());
                }
                "text" | "yaml" => {}
                other => panic!("{place}: a block of `{other}`"),
            }
        }
    }
}

/// The problem that a document shows has a code that there is, and its status.
#[test]
fn problems_are_those_of_the_table() {
    for document in Document::all() {
        for block in document.blocks().iter().filter(|block| block.language == "json") {
            let text = document.text_of(block);
            for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                let value = value.unwrap();
                let Some(code) = value["code"].as_str() else { continue };
                let place = document.place(block.opened);
                let known = ipam::api::error::Code::ALL.iter().find(|known| known.as_str() == code);
                let known = known.unwrap_or_else(|| panic!("{place}: {code} is no code"));
                assert_eq!(value["status"], known.status().as_u16(), "{place}");
                assert_eq!(value["title"], known.title(), "{place}");
            }
        }
    }
}
